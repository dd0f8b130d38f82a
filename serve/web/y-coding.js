// By which tables the symbols of a slice of y are coded follows from their neighbours: docs/format.md ("Coding of y").
// Python: dcae/entropy/y_coding.py.

const LEVELS = 64; // table rows of a set
const LARGEST = 8;
const UNIT = 256;
const LIMIT_UNIT = 64;
const EVEN = 77;
const DIAGONAL = [[-1, -1], [-1, 1], [1, -1], [1, 1]];
const BESIDE = [[-1, 0], [1, 0], [0, -1], [0, 1]];
// Stages: the parts of a slice as first row and column, every second one from there, and what is around each symbol.
const STAGES = [
  [[[0, 0]], null],
  [[[1, 1]], DIAGONAL],
  [[[0, 1], [1, 0]], BESIDE],
];

/**
 * The symbols of one array of y.
 *
 * @param {Uint8Array} rows (channels, height, width) table rows of the first set
 * @returns {Int32Array} (channels, height, width)
 */
export function decodeY(model, decoder, rows, { channels, height, width }) {
  const { y_expected: expected, y_limits: limits } = model.tables;
  if (!limits.length) return decoder.decode(rows);
  const symbols = new Int32Array(rows.length);
  for (const [parts, around] of STAGES) {
    const places = placesOf(parts, channels, height, width);
    const setAt = (place) => (around ? setOf(place, symbols, rows, around, expected, limits, height, width) : 0);
    const chosen = Uint16Array.from(places, (place) => rows[place] + LEVELS * setAt(place));
    decoder.decode(chosen).forEach((symbol, i) => (symbols[places[i]] = symbol));
  }
  return symbols;
}

/** Places of the symbols of a stage, in the order in which they are coded. */
function placesOf(parts, channels, height, width) {
  const half = (side, first) => Math.max(Math.ceil((side - first) / 2), 0);
  const count = parts.reduce((sum, [top, left]) => sum + half(height, top) * half(width, left), 0);
  const places = new Uint32Array(channels * count);
  let at = 0;
  for (const [top, left] of parts) {
    for (let channel = 0; channel < channels; channel++) {
      for (let i = top; i < height; i += 2) {
        for (let j = left; j < width; j += 2) places[at++] = (channel * height + i) * width + j;
      }
    }
  }
  return places;
}

/** Set of tables of a symbol, by those around it. */
function setOf(place, symbols, rows, around, expected, limits, height, width) {
  const j = place % width;
  const i = ((place - j) / width) % height;
  let seen = 0;
  let usual = 0;
  for (const [down, right] of around) {
    if (i + down < 0 || i + down >= height || j + right < 0 || j + right >= width) continue;
    const there = place + down * width + right;
    seen += Math.min(Math.abs(symbols[there]), LARGEST);
    usual += expected[rows[there]];
  }
  let chosen = 1;
  for (const limit of limits) if (LIMIT_UNIT * (UNIT * seen + EVEN) >= limit * (usual + EVEN)) chosen++;
  return chosen;
}
