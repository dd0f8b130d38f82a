// What is coded for symbols of z, and by which tables, follows from their neighbours: docs/format.md ("Coding of z").
// Python: dcae/entropy/z_coding.py.

const MAX_SYMBOL = 2 ** 16; // largest symbol that is made with a prediction, and largest prediction
const CAP = 3;

const clipped = (value) => Math.min(Math.max(value, -MAX_SYMBOL), MAX_SYMBOL);

/** z of a decoder that has its section: Int32Array (N, rows, columns), channel by channel. */
export function decodeZ(model, decoder, rows, columns) {
  const { z_prediction: prediction, z_activity: activity, z_limits: limits } = model.tables;
  const channels = model.config.hyper_channels;
  const z = new Int32Array(channels * rows * columns);
  const step = limits.length ? 1 : rows; // with several sets of tables every row of positions is an array of its own
  let above = null;
  for (let first = 0; first < rows; first += step) {
    const count = step * columns;
    const sets = tableSets(above, activity, limits, count);
    const tableRows = Uint16Array.from({ length: channels * count }, (_, i) => {
      const at = i % count;
      return sets[at] * channels + (i - at) / count;
    });
    const coded = decoder.decode(tableRows);
    for (let channel = 0; channel < channels; channel++) {
      z.set(coded.subarray(channel * count, (channel + 1) * count), (channel * rows + first) * columns);
    }
    above = coded;
  }
  restore(z, prediction, rows, columns);
  return z;
}

/** The set of tables for each position of a row, by what is coded in the row above: (N, columns). */
function tableSets(above, activity, limits, columns) {
  if (!above || !limits.length) return new Uint8Array(columns);
  const here = Array.from({ length: columns }, (_, j) =>
    activity.reduce((sum, weight, channel) => sum + weight * Math.min(Math.abs(above[channel * columns + j]), CAP), 0),
  );
  return Uint8Array.from(here, (value, j) => {
    const seen = here[Math.max(j - 1, 0)] + 2 * value + here[Math.min(j + 1, columns - 1)];
    return 1 + limits.reduce((passed, limit) => passed + (limit <= seen ? 1 : 0), 0);
  });
}

/** Symbols of what was coded for them, in place: the neighbours' prediction is added. */
function restore(z, prediction, rows, columns) {
  for (let channel = 0; 3 * channel < prediction.length; channel++) {
    const [left, above, corner] = prediction.subarray(3 * channel, 3 * channel + 3);
    if (!left && !above && !corner) continue;
    const first = channel * rows * columns;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        const at = first + i * columns + j;
        const said =
          left * (j && z[at - 1]) + above * (i && z[at - columns]) + corner * (i && j && z[at - columns - 1]);
        z[at] = clipped(z[at] + clipped(Math.floor((said + 32) / 64)));
      }
    }
  }
}

/** The fewest bits that z takes at a position, whatever its neighbours. */
export function leastBitsOfZ(model) {
  const { leastBits } = model.tablesZ;
  const channels = model.config.hyper_channels;
  let sum = 0;
  for (let channel = 0; channel < channels; channel++) {
    let least = Infinity;
    for (let row = channel; row < leastBits.length; row += channels) least = Math.min(least, leastBits[row]);
    sum += least;
  }
  return sum;
}
