// Decoder of `.dcae` pictures for browsers and Node.js. See docs/web/README.md.
//
//   import { Decoder, paint } from "./dcae.js";
//   const decoder = new Decoder();
//   const picture = await decoder.decode(await (await fetch("photo.dcae")).arrayBuffer());
//   paint(document.querySelector("canvas"), picture);
//
// `dcae-client.js` has the same decoder in a Web Worker, which keeps the page alive; `dcae-img.js` an element.

import { readContainer } from "./container.js";
import { enlarged } from "./enlarge.js";
import { decodeLatents } from "./entropy.js";
import { FileFormatError, ModelFileError, ModelNotFoundError, OptionError, sayingMemory } from "./errors.js";
import { avifPixels, browserPictures, losslessPixels, withAlpha } from "./stored.js";
import { fetched, loadRuntime, Model } from "./model.js";
import { synthesis } from "./synthesis.js";
import { leastBitsOfZ } from "./z-coding.js";

export * from "./errors.js";

/** Largest number of pixels, padded to multiples of 64 in both directions, that is decoded unless asked otherwise. */
export const MAX_PIXELS = 16 * 2 ** 20;
const STRIDE = 64;
const ENTROPY_SHARE = 0.4; // of the time, for progress

export class Decoder {
  /**
   * @param {Object} [options]
   * @param {string|URL|function(string): Promise<Uint8Array>} [options.models] folder of the models for browsers (with
   *   a slash at its end), by default that of this module, or what gives the bytes of one, given its id: 16
   *   hexadecimal digits
   * @param {string|URL|Object} [options.runtime] ONNX Runtime, by default `ort.wasm.bundle.min.mjs` beside this module;
   *   under Node.js, which loads no WebAssembly from URLs, the module itself: `await import("onnxruntime-web")`
   * @param {number} [options.maxPixels] largest number of padded pixels; more are refused before anything is allocated
   * @param {number} [options.threads] of WebAssembly; more than one needs a page that is cross-origin isolated
   * @param {function(Uint8Array): Promise<ImageData>} [options.readPicture] decoder of PNG, WebP and AVIF, by default
   *   the browser's
   */
  constructor({ models, runtime, maxPixels = MAX_PIXELS, threads = 1, readPicture = browserPictures } = {}) {
    const here = (file) => new URL(file, import.meta.url).href;
    const given = (url) => new URL(url, globalThis.location?.href ?? import.meta.url).href;
    this.modelsAt = typeof models === "function" ? models : models ? given(models) : here("./");
    this.runtimeAt = runtime?.InferenceSession ? runtime : runtime ? given(runtime) : here("ort.wasm.bundle.min.mjs");
    if (!(Number.isInteger(maxPixels) && maxPixels >= 1)) {
      throw new OptionError(`maxPixels must be an integer of at least 1, got ${maxPixels}`);
    }
    this.maxPixels = maxPixels;
    this.threads = threads;
    this.readPicture = readPicture;
    this.models = new Map();
  }

  /**
   * The picture of a `.dcae` file.
   *
   * @param {Uint8Array|ArrayBuffer} file
   * @param {Object} [options]
   * @param {AbortSignal} [options.signal] stops the work, which then rejects with the signal's reason
   * @param {function(number)} [options.onProgress] told the share that is done, 0 to 1
   * @returns {Promise<{width: number, height: number, data: Uint8ClampedArray}>} red, green, blue and alpha of every
   *   pixel, 8 bits each, sRGB, upright; it can be given to `paint`, or to `new ImageData(data, width)`
   * @throws {FileFormatError} damaged, truncated, too large, or not a `.dcae` file
   * @throws {SymbolMismatchError} intact, but its parts do not belong together
   * @throws {ModelNotFoundError} written with a model that is not there
   * @throws {DCAEError} something that cannot be loaded, or too little memory
   */
  async decode(file, { signal, onProgress } = {}) {
    try {
      const container = await readContainer(bytesOf(file));
      const { width, height } = container.size;
      const progress = pausing(signal, onProgress);
      let data;
      if (container.stored) {
        this.checkSize(container.size, 1);
        await progress(0);
        data = await (container.avif ? avifPixels : losslessPixels)(container, this.readPicture);
      } else {
        const [model, latents] = await this.latentsOf(container, part(progress, 0, ENTROPY_SHARE));
        data = await synthesis(model, container.header, latents, part(progress, ENTROPY_SHARE, 1));
        if (container.enlargement) data = enlarged(data, container.header, container.enlargement);
      }
      if (container.alpha) await withAlpha(data, container, this.readPicture);
      signal?.throwIfAborted();
      onProgress?.(1);
      return { width, height, data };
    } catch (error) {
      throw sayingMemory(error);
    }
  }

  /** Latents of a file, verified, as `decodeLatents` returns them; for tests. Options and errors as `decode`. */
  async latents(file, { signal, onProgress } = {}) {
    const container = await readContainer(bytesOf(file));
    if (container.stored) {
      throw new FileFormatError(`the file holds its picture ${container.stored} and has no latents`);
    }
    return (await this.latentsOf(container, pausing(signal, onProgress), true))[1];
  }

  async latentsOf(container, pause, keepSymbols) {
    this.checkSize(container.size, STRIDE);
    await pause(0);
    const model = await this.model(container.header.model, pause.signal);
    checkHeader(container, model);
    return [model, await decodeLatents(model, container, pause, keepSymbols)];
  }

  checkSize({ width, height }, stride) {
    const padded = Math.ceil(width / stride) * Math.ceil(height / stride) * stride ** 2;
    if (padded > this.maxPixels) {
      const counted = stride > 1 ? `, ${padded} when padded to multiples of ${stride},` : "";
      throw new FileFormatError(
        `${width}x${height} pixels${counted} are more than the limit of ${this.maxPixels}; raise maxPixels if you ` +
          "trust the file and have the memory",
      );
    }
  }

  /** A model by its id, loaded once. */
  async model(id, signal) {
    if (!this.models.has(id)) {
      const loading = this.loadModel(id);
      this.models.set(id, loading);
      loading.catch(() => this.models.delete(id)); // so that it can be tried again
    }
    // The next picture needs it as well: only who waits for it stops.
    return Promise.race([this.models.get(id), stopped(signal)]);
  }

  async loadModel(id) {
    this.runtime ??= loadRuntime(this.runtimeAt, this.threads);
    this.runtime.catch(() => (this.runtime = undefined));
    const [bytes, ort] = await Promise.all([this.modelBytes(id), this.runtime]);
    const model = await Model.read(bytes, ort);
    if (model.id !== id) throw new ModelFileError(`the model for ${id} is ${model.id}; export it again`);
    return model;
  }

  async modelBytes(id) {
    if (typeof this.modelsAt === "function") return this.modelsAt(id);
    const url = new URL(`${id}.dcaeweb`, this.modelsAt).href;
    try {
      return await fetched(url);
    } catch (error) {
      if (error.status !== 404) throw error;
      throw new ModelNotFoundError(
        `the file needs model ${id}, which is not at ${url}; put it there with dcae export-web`,
      );
    }
  }
}

/** Show a picture on a canvas, which takes its size. */
export function paint(canvas, { width, height, data }) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
}

/** Refuse what the model does not have, and streams that no encoder can have written for so many pixels. */
function checkHeader({ header, z, y }, model) {
  const { anchors, stride, latent_channels: channels } = model.config;
  const quality = header.quality / 256;
  if (quality > anchors) {
    throw new FileFormatError(`the file's quality ${quality} is outside 1..${anchors}, which this model covers`);
  }
  const samples = Math.ceil(header.width / stride) * Math.ceil(header.height / stride);
  const ySamples = samples * (channels * (stride / 16) ** 2 + (model.closedLoop ? 3 : 0));
  const leastZ = samples * leastBitsOfZ(model);
  const leastY = ySamples * Math.min(...model.tablesY.leastBits);
  for (const [name, stream, least] of [["z", z, leastZ], ["y", y, leastY]]) {
    if (8 * stream.length < least * (1 - 1e-9)) {
      throw new FileFormatError(
        `section ${name} has ${stream.length} bytes, too few for the declared ${header.width}x${header.height} ` +
          "pixels; the file is damaged",
      );
    }
  }
  if (header.numerics !== "integer") {
    throw new FileFormatError(
      `the file's numerics are ${header.numerics}, which models of lite do not have; the file is damaged`,
    );
  }
}

function bytesOf(file) {
  if (file instanceof ArrayBuffer) return new Uint8Array(file);
  if (ArrayBuffer.isView(file)) return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  throw new OptionError("a file is a Uint8Array or an ArrayBuffer");
}

/** A function that tells the progress, lets other work of the thread go on, and throws once the signal says so. */
function pausing(signal, onProgress) {
  let told = 0;
  const pause = async (share) => {
    if (share > told) onProgress?.((told = share));
    await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
  };
  return Object.assign(pause, { signal });
}

/** The same, of a part of the work. */
function part(pause, begin, end) {
  return Object.assign((share) => pause(begin + share * (end - begin)), { signal: pause.signal });
}

function stopped(signal) {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(signal.reason);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
