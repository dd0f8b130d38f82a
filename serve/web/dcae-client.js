// The decoder in a Web Worker: the same as `Decoder` of `dcae.js`, and the page stays alive while it works.

import { DCAEError, unpackedError } from "./errors.js";

export class WorkerDecoder {
  /** @param {Object} [options] as those of `Decoder`, without the functions: models, runtime, maxPixels, threads */
  constructor({ models, runtime, maxPixels, threads } = {}) {
    const absolute = (url) => url && new URL(url, document.baseURI).href;
    this.waiting = new Map();
    this.count = 0;
    this.worker = new Worker(new URL("dcae-worker.js", import.meta.url), { type: "module", name: "dcae" });
    this.worker.addEventListener("message", ({ data }) => this.heard(data));
    this.worker.addEventListener("error", (event) => {
      this.close(new DCAEError(`the decoder cannot be started (${event.message || "its files are not there"})`));
    });
    this.worker.postMessage({ open: { models: absolute(models), runtime: absolute(runtime), maxPixels, threads } });
  }

  /** The picture of a file; arguments, result and errors are those of `Decoder.decode`. */
  decode(file, { signal, onProgress } = {}) {
    const number = this.count++;
    return new Promise((resolve, reject) => {
      if (this.closed) throw this.closed;
      signal?.throwIfAborted();
      signal?.addEventListener("abort", () => this.abort(number, signal.reason), { once: true });
      this.waiting.set(number, { resolve, reject, onProgress });
      this.worker.postMessage({ decode: number, file });
    });
  }

  /** End the worker. What is still being decoded is rejected. */
  close(reason = new DCAEError("the decoder was closed")) {
    this.closed = reason;
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(reason);
    this.waiting.clear();
  }

  abort(number, reason) {
    if (!this.waiting.has(number)) return;
    this.waiting.get(number).reject(reason);
    this.waiting.delete(number);
    this.worker.postMessage({ abort: number });
  }

  heard({ number, progress, picture, error }) {
    const asked = this.waiting.get(number);
    if (!asked) return; // aborted meanwhile
    if (progress !== undefined) return asked.onProgress?.(progress);
    this.waiting.delete(number);
    if (error) asked.reject(unpackedError(error));
    else asked.resolve(picture);
  }
}
