// The synthesis: from latents to pixels, in bands and strips so that memory stays small (see docs/runtime.md).

import { bands, cut, strips } from "./division.js";

const PIXELS = 16; // per sample of ŷ, along each axis
const BLOCK = 64; // side of a block of the block means

/**
 * Pixels of decoded latents.
 *
 * @param {Model} model
 * @param header of the file
 * @param latents as `decodeLatents` returns them
 * @param {function(number): Promise} pause called often with the share that is done; throws to stop
 * @returns {Promise<Uint8ClampedArray>} red, green, blue and an alpha of 255 of every pixel, 8 bits each
 */
export async function synthesis(model, header, { yHat, means }, pause) {
  const { width, height, quality: steps, colour } = header;
  const quality = steps / 256;
  const [rows, columns] = [height, width].map((side) => Math.ceil(side / BLOCK) * (BLOCK / PIXELS));
  const pixels = new Uint8ClampedArray(4 * width * height);
  const step = means && model.interpolated("mean_step", quality)[0];
  const added = means && { means, step, rows: rows / 4, columns: columns / 4 };
  const inputs = await qualityInputs(model, quality);
  for (const strip of strips(model.division, columns)) {
    let row = 0;
    const kept = {};
    const inner = { skip: (strip.begin - strip.low) * PIXELS, count: (strip.end - strip.begin) * PIXELS };
    for (const band of bands(model.division, rows, strip.high - strip.low)) {
      await pause((strip.begin + ((strip.end - strip.begin) * band.begin) / rows) / columns);
      const found = await synthesised(model, yHat, { rows, columns }, strip, band, kept, inputs);
      const [x, [, , partRows, partColumns]] = found;
      if (added) addMeans(x, partRows, partColumns, row, strip.low * PIXELS, added);
      const part = { x, partRows, partColumns, row, column: strip.begin * PIXELS, ...inner };
      paint(pixels, width, height, part, colour === 1);
      row += partRows;
    }
  }
  return pixels;
}

/** Inputs of the graphs of the synthesis that depend on the quality alone. */
async function qualityInputs(model, quality) {
  const inputs = { base_synthesis: {}, add_skip: {} };
  for (const name of await model.inputs("base_synthesis")) {
    if (name in model.tables) inputs.base_synthesis[name] = vector(model.interpolated(name, quality));
  }
  if (model.closedLoop) {
    const gain = model.interpolated("inverse_skip", quality);
    inputs.add_skip.skip_inverse = [gain, [gain.length, 1, 1]];
  }
  return inputs;
}

const vector = (values) => [values, [values.length]];

/** The next rows of x̂ of a strip, (1, 3, rows, columns) and its sizes, without block means. */
async function synthesised(model, yHat, size, strip, band, kept, inputs) {
  const channels = model.config.latent_channels;
  const base = channels - model.config.skip_channels;
  const part = cut(yHat, size.rows, size.columns, 1, [band.begin, band.end], [strip.low, strip.high]);
  const [rows, columns] = [band.end - band.begin, strip.high - strip.low];
  const split = base * rows * columns;
  const y_hat = [part.subarray(0, split), [1, base, rows, columns]];
  const x = await inBands(model, "base_synthesis", { y_hat, ...inputs.base_synthesis }, band, kept);
  if (!model.closedLoop) return x;
  const skip = [part.subarray(split), [1, channels - base, rows, columns]];
  return inBands(model, "add_skip", { base: x, y_hat: skip, ...inputs.add_skip }, band, kept);
}

/** x̂ from a graph that keeps rows for the next band, in `kept`. */
async function inBands(model, name, inputs, { first, last }, kept) {
  const given = { ...inputs };
  for (const input of await model.inputs(name)) {
    if (input === "first") given[input] = [BigInt64Array.of(first ? 1n : 0n), [1]];
    if (input === "last") given[input] = [BigInt64Array.of(last ? 1n : 0n), [1]];
    if (input.startsWith("kept.")) given[input] = first ? [new Float32Array(0), [1, 0, 0, 0]] : kept[input];
  }
  const { x_hat: found, ...others } = await model.run(name, given);
  Object.assign(kept, others);
  return found;
}

/** Add the block means to a part of x̂ whose first pixel is at (row, column): bilinear between the centres of blocks,
 * constant outside the outermost ones. */
function addMeans(x, partRows, partColumns, row, column, { means, step, rows, columns }) {
  const between = (place, count) => {
    const at = Math.min(Math.max((place + 0.5) / BLOCK - 0.5, 0), count - 1);
    const low = Math.min(Math.floor(at), count - 1);
    return [low, Math.min(low + 1, count - 1), at - low];
  };
  const across = Array.from({ length: partColumns }, (_, j) => between(column + j, columns));
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < partRows; i++) {
      const [top, bottom, down] = between(row + i, rows);
      const [above, below] = [(c * rows + top) * columns, (c * rows + bottom) * columns];
      const to = (c * partRows + i) * partColumns;
      for (let j = 0; j < partColumns; j++) {
        const [left, right, over] = across[j];
        const upper = means[above + left] * (1 - over) + means[above + right] * over;
        const lower = means[below + left] * (1 - over) + means[below + right] * over;
        x[to + j] += step * (upper * (1 - down) + lower * down);
      }
    }
  }
}

/** Round the wanted columns of a part of x̂ into the picture; a Uint8ClampedArray rounds halves to even. */
function paint(pixels, width, height, { x, partRows, partColumns, row, column, skip, count }, gray) {
  const plane = partRows * partColumns;
  const levels = new Uint8ClampedArray(3);
  for (let i = 0; i < Math.min(partRows, height - row); i++) {
    let from = i * partColumns + skip;
    let to = 4 * ((row + i) * width + column);
    for (let j = 0; j < Math.min(count, width - column); j++, from++, to += 4) {
      // In float32, as every other decoder multiplies.
      for (let c = 0; c < 3; c++) levels[c] = Math.fround(clamped(x[c * plane + from]) * 255);
      if (gray) levels.fill(Math.floor((levels[0] + levels[1] + levels[2] + 1) / 3));
      pixels.set(levels, to);
      pixels[to + 3] = 255;
    }
  }
}

const clamped = (value) => Math.min(Math.max(value, 0), 1);
