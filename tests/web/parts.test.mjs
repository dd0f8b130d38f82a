// The parts of the decoder: range coder, division into tiles and bands, progress, stopping, limits, models.

import assert from "node:assert/strict";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { bytes, cases, decoded, decoder, digest, moduleOf } from "./support.mjs";

const { SymbolDecoder, SymbolTables } = await moduleOf("range-coder.js");
const { bands, strips, tiles } = await moduleOf("division.js");
const { unpackedError, packedError } = await moduleOf("errors.js");

test("the limit by default is the one that is said", async () => {
  assert.equal((await moduleOf("dcae.js")).MAX_PIXELS, cases.maxPixels);
});

const large = cases.files.find((file) => file.name === cases.large);

test("range decoder reads what the second decoder reads", () => {
  for (const { tables, stream, rows, symbols, atEnd } of cases.coder) {
    const prepared = new SymbolTables(...tables.map((table) => Int32Array.from(table)));
    const reader = new SymbolDecoder(prepared, decoded(stream), "test");
    const read = () => rows.map((array) => Array.from(reader.decode(Uint8Array.from(array))));
    if (symbols === null) {
      assert.throws(read, { name: "FileFormatError", message: /not valid/ });
      continue;
    }
    assert.deepEqual(read(), symbols);
    if (atEnd) reader.finish();
    else assert.throws(() => reader.finish(), { name: "FileFormatError", message: /longer/ });
  }
});

test("latents and pixels are the same in small tiles, bands and strips", async () => {
  const whole = decoder();
  const picture = await whole.decode(decoded(large.data));
  const parts = decoder();
  const { division } = await parts.model(cases.largeModel);
  Object.assign(division, { tile: 64, positions: 64, columns: 16 });
  assert.ok([...strips(division, 40)].length > 1 && [...bands(division, 40, 24)].length > 2);
  assert.ok(tiles(division, 40, 40).length > 9);
  const latents = await parts.latents(decoded(large.data));
  assert.equal(digest([latents.yHat.map((value) => value * 64)]), large.latents);
  const { data } = await parts.decode(decoded(large.data));
  assert.ok(data.every((level, i) => Math.abs(level - picture.data[i]) <= 1));
});

test("progress rises from 0 to 1", async () => {
  const told = [];
  await decoder().decode(decoded(large.data), { onProgress: (share) => told.push(share) });
  assert.ok(told.length > 3 && told.at(-1) === 1);
  assert.ok(told.every((share, i) => i === 0 || share > told[i - 1]));
});

test("a signal stops the work, at once or later", async () => {
  await assert.rejects(decoder().decode(decoded(large.data), { signal: AbortSignal.abort() }), { name: "AbortError" });
  for (const share of [0.05, 0.3, 0.6]) {
    const work = new AbortController();
    const told = [];
    const onProgress = (progress) => {
      told.push(progress);
      if (progress > share) work.abort();
    };
    const decoding = decoder();
    const picture = decoding.decode(decoded(large.data), { signal: work.signal, onProgress });
    await assert.rejects(picture, { name: "AbortError" });
    assert.ok(told.at(-1) < 1 && told.filter((progress) => progress > share).length === 1);
    await decoding.decode(decoded(large.data)); // and is of use afterwards
  }
  const reading = decoder({ readPicture: () => assert.fail("read") }).decode(decoded(cases.stored), {
    signal: AbortSignal.abort(),
  });
  await assert.rejects(reading, { name: "AbortError" }); // nor is what others decode
});

test("pictures beyond the limit are refused before a model is asked for", async () => {
  const models = () => assert.fail("asked for");
  const decoding = decoder({ models, maxPixels: 64 * 64 });
  await assert.rejects(decoding.decode(decoded(large.data)), { name: "FileFormatError", message: /limit of 4096/ });
  for (const maxPixels of [0, -1, 1.5, NaN, "10", Infinity]) {
    assert.throws(() => decoder({ maxPixels }), { name: "OptionError" });
  }
  await assert.rejects(decoding.decode("file"), { name: "OptionError" });
});

test("models that are none, damaged or another's are refused, and can be tried again", async () => {
  const good = bytes(`${cases.largeModel}.dcaeweb`);
  const plain = new Uint8Array(gunzipSync(good));
  const other = new TextDecoder("latin1").decode(plain).replace(cases.largeModel, "0".repeat(16));
  const versions = [
    [new Uint8Array(0), /not a readable model/],
    [new TextEncoder().encode("<!doctype html>"), /not a readable model/],
    [good.subarray(0, 1000), /not a readable model/],
    [plain.subarray(0, plain.length - 1), /cut short/],
    [Uint8Array.from(other, (letter) => letter.charCodeAt(0)), /is 0000000000000000/],
  ];
  let given;
  const decoding = decoder({ models: async () => given });
  for (const [model, message] of versions) {
    given = model;
    await assert.rejects(decoding.decode(decoded(large.data)), { name: "ModelFileError", message });
  }
  given = plain; // as a server that expands it
  await decoding.decode(decoded(large.data));
});

test("a picture without loss is limited before it is looked at", async () => {
  const { crc32 } = await moduleOf("container.js");
  const section = (letter, payload) => {
    const body = [letter.charCodeAt(0), payload.length, ...payload];
    const check = new Uint8Array(Uint32Array.of(crc32(Uint8Array.from(body))).buffer);
    return [...body, ...check];
  };
  const side = [0x88, 0x27]; // 5000
  const header = [...side, ...side, 0, 0, 0x80, 0x02, ...Array(8 + 4 + 1).fill(0)];
  const signature = [0x89, 0x44, 0x43, 0x41, 0x45, 0x0d, 0x0a, 0x1a, 0x0a];
  const file = Uint8Array.from([...signature, 2, ...section("H", header), ...section("P", [1])]);
  await assert.rejects(decoder().decode(file), { name: "FileFormatError", message: /5000x5000 pixels are more than/ });
});

test("a runtime that is not there is one sentence", async () => {
  const decoding = decoder({ runtime: "file:///nowhere/ort.mjs" });
  await assert.rejects(decoding.decode(decoded(large.data)), { name: "DCAEError", message: /cannot be loaded/ });
});

test("errors keep their class between threads", () => {
  for (const name of ["FileFormatError", "SymbolMismatchError", "ModelNotFoundError", "AbortError"]) {
    const error = unpackedError({ name, message: "what" });
    assert.deepEqual([error.name, error.message], [name, "what"]);
  }
  assert.equal(unpackedError(packedError(new TypeError("odd"))).message, "TypeError: odd");
});
