// The entropy model: from the sections z and y to the latents ŷ, verified. The walk over the slices of docs/format.md
// ("Networks", steps 1 to 3). Its arithmetic is exact: all numbers in the graphs are integers that float32 (gains:
// float64) holds, so that tiles, WebAssembly and the order of sums change nothing.

import { crc32 } from "./container.js";
import { cut, put, tiles } from "./division.js";
import { FileFormatError, SymbolMismatchError } from "./errors.js";
import { SymbolDecoder } from "./range-coder.js";
import { decodeZ } from "./z-coding.js";

const GRID = 64; // ŷ lies on multiples of 1 / GRID
const LEVELS = 64; // rows of y's tables

/** Gains at a quality in 1/256, name -> Float64Array: exact multiples of a power of two ("Tables of gains"). */
function gainsAt(model, quality) {
  const { latent_channels: m, hyper_channels: n, context_width: c, anchors } = model.config;
  const columns = { inverse_z: n, mean_gain: m, context_gain: m, scale_offset: m, scale: c, shift: c };
  if (model.closedLoop) columns.means_scale = 3;
  const table = model.tables.gains;
  const width = model.width.gains;
  const low = Math.max(Math.min(Math.floor((quality - 256) / 256), anchors - 2), 0);
  const part = quality - 256 - 256 * low;
  const high = Math.min(low + 1, anchors - 1);
  const gains = {};
  let at = 0;
  Object.entries(columns).forEach(([name, count], k) => {
    const unit = 2 ** -(model.tables.gain_shifts[k] + 8);
    gains[name] = Float64Array.from({ length: count }, (_, i) => {
      return ((256 - part) * table[low * width + at + i] + part * table[high * width + at + i]) * unit;
    });
    at += count;
  });
  return gains;
}

/** The steps of the entropy model for one picture, in tiles. Arrays of a state are (rows, columns, channels). */
class EntropyModel {
  constructor(model, quality, z, pause) {
    this.model = model;
    this.gains = gainsAt(model, quality);
    [this.height, this.width] = [4 * z.rows, 4 * z.columns];
    this.pause = pause;
    this.work = 0;
  }

  /** Gains of the channels of slice k. */
  gain(name, k) {
    const { slices } = this.model.config;
    const begin = slices.slice(0, k).reduce((sum, n) => sum + n, 0);
    return vector(this.gains[name].slice(begin, begin + slices[k]));
  }

  /** Each of the tiles, after a pause in which the page lives and the work can be stopped. */
  async *tiled(margin, scale) {
    for (const tile of tiles(this.model.division, this.height, this.width, margin, scale)) {
      await this.pause(0);
      yield [tile, tile.fromRows[1] - tile.fromRows[0], tile.fromColumns[1] - tile.fromColumns[0]];
    }
  }

  async hyperSynthesis(zHat) {
    const { hyper_channels: channels, context_width: inner } = this.model.config;
    const state = new Float32Array(this.height * this.width * inner);
    const { inverse_z, scale, shift } = this.gains;
    const gains = { inverse_z: vector(inverse_z), scale: vector(scale), shift: vector(shift) };
    for await (const [tile, rows, columns] of this.tiled(this.model.division.z_margin, 4)) {
      const z_hat = cut(zHat, this.height / 4, this.width / 4, 1, tile.fromRows, tile.fromColumns);
      const found = await this.model.run("hyper_synthesis", { z_hat: [z_hat, [1, channels, rows, columns]], ...gains });
      put(state, this.height, this.width, inner, found.state[0], tile, 4);
    }
    return state;
  }

  /** Exponentials of logits, looked up between two graphs: ONNX Runtime takes longer for it. */
  exponentials([below, dims]) {
    const table = this.model.tables.exponentials;
    const entries = new Int32Array(below.buffer, below.byteOffset, 2 * below.length); // the low halves are all there is
    return [Float32Array.from({ length: below.length }, (_, i) => table[entries[2 * i]]), dims];
  }

  /** Means and rows (channels, rows, columns) of slice k, the new state, and what the residual takes from it. */
  async slicePrior(k, state) {
    const { slices, context_width: inner, residual_width: hiddenWidth } = this.model.config;
    const { height, width } = this;
    const count = height * width;
    const prior = {
      mean: new Float32Array(count * slices[k]),
      rows: new Uint8Array(count * slices[k]),
      state: new Float32Array(state.length),
      hidden: new Float32Array(count * hiddenWidth),
    };
    const gains = { mean_gain: this.gain("mean_gain", k), scale_offset: this.gain("scale_offset", k) };
    for await (const [tile, rows, columns] of this.tiled(this.model.division.prior_margin)) {
      const part = cut(state, height, width, inner, tile.fromRows, tile.fromColumns);
      const given = [part, [1, rows, columns, inner]];
      const { below } = await this.model.run(`attention_logits.${k}`, { state: given });
      const exponentials = this.exponentials(below);
      const found = await this.model.run(`slice_prior.${k}`, { state: given, exponentials, ...gains });
      put(prior.mean, height, width, 1, found.mean[0], tile);
      put(prior.rows, height, width, 1, found.rows[0], tile);
      put(prior.state, height, width, inner, found.new[0], tile);
      put(prior.hidden, height, width, hiddenWidth, found.hidden[0], tile);
    }
    return prior;
  }

  /** Refine ŷ_k in place. */
  async latentResidual(k, hidden, yHat) {
    const { slices, residual_width: inner } = this.model.config;
    for await (const [tile, rows, columns] of this.tiled()) {
      const found = await this.model.run(`latent_residual.${k}`, {
        hidden: [cut(hidden, this.height, this.width, inner, tile.rows, tile.columns), [1, rows, columns, inner]],
        y_hat: [cut(yHat, this.height, this.width, 1, tile.rows, tile.columns), [1, slices[k], rows, columns]],
        context_gain: this.gain("context_gain", k),
      });
      put(yHat, this.height, this.width, 1, found.refined[0], tile);
    }
  }

  /** Make the state that of slice k + 1, in place. */
  async extendContext(k, state, yHat) {
    const { slices, context_width: inner } = this.model.config;
    for await (const [tile, rows, columns] of this.tiled()) {
      const found = await this.model.run(`extend_context.${k}`, {
        state: [cut(state, this.height, this.width, inner, tile.rows, tile.columns), [1, rows, columns, inner]],
        y_hat: [cut(yHat, this.height, this.width, 1, tile.rows, tile.columns), [1, slices[k], rows, columns]],
        context_gain: this.gain("context_gain", k),
      });
      put(state, this.height, this.width, inner, found.new[0], tile);
    }
  }

  /** Table rows of the block means, one for each colour. */
  get meansRows() {
    return Array.from(this.gains.means_scale, (value) => Math.min(Math.max(roundedToEven(value), 0), LEVELS - 1));
  }
}

/**
 * Decode the sections z and y of a container, and compare with its check value.
 *
 * @param {Model} model
 * @param container as `readContainer` returns it, whose header fits the model
 * @param {function(number): Promise} pause called often with the share that is done; throws to stop
 * @param {boolean} keepSymbols return the symbols of y too
 * @returns {Promise<{z, y, yHat, means}>} symbols of z, of every slice of y and of a closed loop's block means
 *   (Int32Array); ŷ (channels, H/16, W/16) and block means (3, H/64, W/64) or null, Float32Array
 * @throws {FileFormatError} a section that no encoder wrote
 * @throws {SymbolMismatchError} sections that are intact, but do not belong together
 */
export async function decodeLatents(model, container, pause, keepSymbols = false) {
  const { header } = container;
  const [rows, columns] = [header.height, header.width].map((side) => Math.ceil(side / model.config.stride));
  const count = rows * columns;
  const decoder = new SymbolDecoder(model.tablesZ, container.z, "z");
  const z = decodeZ(model, decoder, rows, columns);
  decoder.finish(); // before the networks run: no arithmetic has had a say so far
  decoder.checkLength();
  const yDecoder = new SymbolDecoder(model.tablesY, container.y, "y");
  const entropy = new EntropyModel(model, header.quality, { rows, columns }, pause);
  try {
    return await walk(model, entropy, yDecoder, header.check, { z, count, keepSymbols });
  } catch (error) {
    if (!(error instanceof FileFormatError)) throw error;
    throw new SymbolMismatchError(
      `the sections are intact, but do not belong together (${error.message}); the file was put together or ` +
        "altered by a program, encode the picture again",
      { cause: error },
    );
  }
}

async function walk(model, entropy, yDecoder, expected, { z, count, keepSymbols }) {
  const { slices, latent_channels: channels } = model.config;
  const found = { z, y: [], yHat: new Float32Array(16 * count * channels), means: null };
  let check = crc32(bytesOf(z));
  const decoded = (tableRows) => {
    const symbols = yDecoder.decode(tableRows);
    yDecoder.checkLength(); // before the networks run for the next slice
    check = crc32(bytesOf(symbols), check);
    if (keepSymbols) found.y.push(symbols);
    return symbols;
  };

  const median = model.tables.z_median;
  let state = await entropy.hyperSynthesis(Float32Array.from(z, (symbol, i) => symbol + median[Math.floor(i / count)]));
  for (let k = 0, at = 0; k < slices.length; k++) {
    await entropy.pause((k + 0.5) / (slices.length + 0.5));
    const prior = await entropy.slicePrior(k, state);
    const yHat = found.yHat.subarray(at, (at += 16 * count * slices[k]));
    const symbols = decoded(prior.rows);
    for (let i = 0; i < yHat.length; i++) yHat[i] = prior.mean[i] + symbols[i];
    await entropy.latentResidual(k, prior.hidden, yHat);
    check = crc32(bytesOf(Int32Array.from(yHat, (value) => value * GRID)), check);
    ({ state } = prior);
    if (k + 1 < slices.length) await entropy.extendContext(k, state, yHat);
  }
  if (model.closedLoop) {
    const rowOf = entropy.meansRows;
    const meansRows = Uint8Array.from({ length: 3 * count }, (_, i) => rowOf[Math.floor(i / count)]);
    found.means = Float32Array.from(decoded(meansRows));
  }
  yDecoder.finish();
  if (check !== expected) throw new FileFormatError("the decoded symbols differ from those that were encoded");
  return found;
}

const vector = (values) => [values, [values.length]];

/** Int32Array as bytes, little endian as all machines are that run browsers. */
function bytesOf(numbers) {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}

/** To the nearest integer, halves to even. */
function roundedToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 ? floor + 1 : floor;
}
