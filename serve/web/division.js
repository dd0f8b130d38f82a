// Division of large pictures, as `dcae/runtime/tiles.py` does it: bands of rows and strips of columns for the
// synthesis, tiles for the entropy model. Lengths are in samples of H/16. A model's `division` says how far its layers
// reach.

const up = (length, multiple) => Math.ceil(length / multiple) * multiple;

/** Strips of a picture: columns that are wanted (`begin` to `end`) and those that are computed (`low` to `high`). */
export function* strips({ unit, columns, margin }, width) {
  const step = up(Math.ceil(width / Math.ceil(width / columns)), unit);
  for (let begin = 0; begin < width; begin += step) {
    const end = Math.min(begin + step, width);
    yield { begin, end, low: Math.max(begin - margin, 0), high: Math.min(up(end, unit) + margin, width) };
  }
}

/** Rows of each band of a strip, and whether it is the first and the last. */
export function* bands({ unit, rows, positions }, height, width) {
  const size = Math.max(Math.floor(positions / width / unit) * unit, unit, rows);
  const count = Math.max(Math.floor((height + Math.floor(size / 2)) / size), 1);
  for (let k = 0; k < count; k++) {
    const last = k === count - 1;
    yield { begin: k * size, end: last ? height : (k + 1) * size, first: k === 0, last };
  }
}

/**
 * Tiles of a picture, row by row: `rows` and `columns` that are wanted, and `fromRows` and `fromColumns` of the input
 * that they depend on, each as [begin, end].
 *
 * @param margin samples of the input to each side
 * @param scale samples per sample of the input
 */
export function tiles({ tile }, height, width, margin = 0, scale = 1) {
  const columns = up(Math.ceil(width / Math.ceil(width / Math.floor(Math.sqrt(tile)))), 4);
  const rows = up(Math.max(Math.floor(tile / columns), 1), 4);
  const reached = (begin, end, length) => [
    Math.max(begin / scale - margin, 0),
    Math.min(end / scale + margin, length / scale),
  ];
  const found = [];
  for (let top = 0; top < height; top += rows) {
    for (let left = 0; left < width; left += columns) {
      const bottom = Math.min(top + rows, height);
      const right = Math.min(left + columns, width);
      found.push({
        rows: [top, bottom], columns: [left, right],
        fromRows: reached(top, bottom, height), fromColumns: reached(left, right, width),
      }); // prettier-ignore
    }
  }
  return found;
}

/** Part of an array (outer, height, width, inner), as an array of its own. */
export function cut(array, height, width, inner, [top, bottom], [left, right]) {
  const outer = array.length / (height * width * inner);
  const length = (right - left) * inner;
  const found = new array.constructor(outer * (bottom - top) * length);
  let to = 0;
  for (let k = 0; k < outer; k++) {
    for (let row = top; row < bottom; row++, to += length) {
      const from = ((k * height + row) * width + left) * inner;
      found.set(array.subarray(from, from + length), to);
    }
  }
  return found;
}

/** Write the wanted part of what was made of a tile (`part`, beginning at the tile's input) into an array as above. */
export function put(array, height, width, inner, part, { rows, columns, fromRows, fromColumns }, scale = 1) {
  const [partHeight, partWidth] = [fromRows, fromColumns].map(([begin, end]) => (end - begin) * scale);
  const [skipRows, skipColumns] = [rows[0] - fromRows[0] * scale, columns[0] - fromColumns[0] * scale];
  const outer = array.length / (height * width * inner);
  const length = (columns[1] - columns[0]) * inner;
  for (let k = 0; k < outer; k++) {
    for (let row = rows[0]; row < rows[1]; row++) {
      const from = ((k * partHeight + row - rows[0] + skipRows) * partWidth + skipColumns) * inner;
      array.set(part.subarray(from, from + length), ((k * height + row) * width + columns[0]) * inner);
    }
  }
}
