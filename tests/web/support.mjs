// What the tests of the decoder have in common. The folder of cases is made by tests/web_cases.py, which says what is
// in it; DCAE_WEB_CASES names it, DCAE_WEB_MODULES that of the decoder, and DCAE_WEB_RUNTIME that of ONNX Runtime.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { DCAE_WEB_CASES: folder, DCAE_WEB_MODULES: modules, DCAE_WEB_RUNTIME: runtime } = process.env;

export const cases = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8"));
export const moduleOf = (name) => import(pathToFileURL(join(modules, name)).href);
export const bytes = (name) => new Uint8Array(readFileSync(join(folder, name)));
export const decoded = (text) => new Uint8Array(Buffer.from(text, "base64"));

const { Decoder, ModelNotFoundError } = await moduleOf("dcae.js");

// What browsers load, but for the file that is made of its .wasm: Node.js does not fetch.
const ort = await import(pathToFileURL(join(runtime, "ort.wasm.bundle.min.mjs")).href);
ort.env.wasm.wasmPaths = pathToFileURL(`${runtime}/`).href;

/** A decoder of the cases' models. */
export function decoder(options) {
  const models = async (id) => {
    try {
      return bytes(`${id}.dcaeweb`);
    } catch (error) {
      throw new ModelNotFoundError(`no model ${id}`, { cause: error });
    }
  };
  return new Decoder({ models, runtime: ort, ...options });
}

/** SHA-256 of arrays of integers, as tests/golden/golden.json has it. */
export function digest(arrays) {
  const hash = createHash("sha256");
  for (const array of arrays) hash.update(Buffer.from(Int32Array.from(array).buffer));
  return hash.digest("hex");
}

/** Largest difference between the colours of a picture and those expected, and whether alpha is full everywhere. */
export function difference({ data }, expected) {
  let most = 0;
  for (let i = 0; i < data.length / 4; i++) {
    for (let c = 0; c < 3; c++) most = Math.max(most, Math.abs(data[4 * i + c] - expected[3 * i + c]));
    if (data[4 * i + 3] !== 255) return Infinity;
  }
  return data.length / 4 === expected.length / 3 ? most : Infinity;
}
