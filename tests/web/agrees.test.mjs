// Decoding: the same symbols, latents and check values as Python's decoder, pixels within one level, and the same files
// refused with the same sentence.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, cases, decoded, decoder, difference, digest } from "./support.mjs";

const decoding = decoder({ maxPixels: cases.maxPixels });

for (const { name, data, symbols, latents } of cases.files.filter((file) => file.symbols)) {
  test(`latents of ${name}`, async () => {
    const found = await decoding.latents(decoded(data)); // verifies the check value
    assert.equal(digest([found.z, ...found.y]), symbols);
    assert.equal(digest([found.yHat.map((value) => value * 64)]), latents);
  });
}

for (const { name, data, error, message, pixels, width, height } of cases.files) {
  test(name, async () => {
    if (error) {
      const refusal = await decoding.decode(decoded(data)).then(
        () => assert.fail("decoded"),
        (reason) => reason,
      );
      assert.equal(refusal.name, error, refusal.stack);
      if (message) assert.equal(refusal.message, message);
      assert.doesNotMatch(refusal.message, /\n/);
    } else {
      const picture = await decoding.decode(decoded(data));
      assert.deepEqual([picture.width, picture.height], [width, height]);
      assert.ok(difference(picture, bytes(pixels)) <= 1);
    }
  });
}
