// A .dcae file as a picture: by the decoder in this browser where the server has put it, else by the server.

import { Refused } from "./server.js";
import { pngOf } from "./pictures.js";

const FOLDER = new URL("../web/", import.meta.url);
const DAMAGED = ["FileFormatError", "SymbolMismatchError"];
let decoder;

/**
 * @param {Blob} file
 * @param {Server} server
 * @param {Object} info of the server
 * @param {Object} options signal, onChange as those of `Server.run`
 * @returns {Promise<{png: Blob, seconds: number, where: string}>}
 */
export async function decoded(file, server, info, options) {
  const begin = performance.now();
  const found = (png, where) => ({ png, where, seconds: (performance.now() - begin) / 1000 });
  if (info.web_decoder) {
    try {
      return found(await here(file, options), "in this browser");
    } catch (error) {
      if (options.signal.aborted) throw options.signal.reason;
      // Damaged files are so for the server too. It may have a model that is not here, and decodes larger pictures.
      if (DAMAGED.includes(error.constructor.name) && !error.message.includes("the limit of")) {
        throw new Refused(error.message);
      }
    }
  }
  const answer = await server.run("decode", { format: "png" }, file, options);
  return found(await answer.blob(), "by the server");
}

/** As many as there are cores, up to what is of use; they change no pixel. */
const threads = () => Math.min(navigator.hardwareConcurrency || 1, 4);

async function here(file, { signal, onChange }) {
  const { WorkerDecoder } = await import(new URL("dcae-client.js", FOLDER));
  if (!decoder || decoder.closed) decoder = new WorkerDecoder({ threads: crossOriginIsolated ? threads() : 1 });
  const onProgress = (progress) => onChange({ state: "running", progress, stage: "Decoding in this browser" });
  onProgress(0);
  return pngOf(await decoder.decode(await file.arrayBuffer(), { signal, onProgress }));
}
