// Range decoding of arrays of symbols against integer tables, as docs/format.md specifies it ("Symbols").
//
// The coder's state is two numbers of 64 bits, R and D. JavaScript's numbers hold integers of 53 bits, so that they are
// carried in parts, and every operation below is exact:
//   R only counts as S = R >> 24, which has at most 40 bits (what R has below is never looked at);
//   D is high · 2^24 + low, with at most 40 and 24 bits.

import { FileFormatError } from "./errors.js";

const PRECISION = 24;
const TOTAL = 2 ** PRECISION;
const MAX_EXCESS_BITS = 16;

class RangeDecoder {
  /** @param {Uint8Array} stream 32-bit words, little endian @param {string} what its name, for messages */
  constructor(stream, what) {
    if (stream.length % 4) {
      throw new FileFormatError(`the stream of ${what} is no whole number of words; the file is damaged`);
    }
    this.what = what;
    this.view = new DataView(stream.buffer, stream.byteOffset, stream.length);
    this.at = 0;
    this.untouched = true;
    this.scale = 2 ** 40 - 1;
    this.high = this.low = 0;
    this.shiftIn(this.word());
    this.shiftIn(this.word());
  }

  /** The next word, 0 past the end. */
  word() {
    this.at += 4;
    return this.at <= this.view.byteLength ? this.view.getUint32(this.at - 4, true) : 0;
  }

  /** D = D · 2^32 + a word, for D below 2^32. */
  shiftIn(word) {
    this.high = (this.high * TOTAL + this.low) * 256 + (word >>> 24);
    this.low = word & 0xffffff;
  }

  /** D = D - S · factor, for a factor of at most 24 bits; the result may be negative. */
  subtract(factor) {
    const upper = Math.floor(this.scale / TOTAL);
    const product = (this.scale - upper * TOTAL) * factor; // at most 48 bits
    const carry = Math.floor(product / TOTAL);
    this.high -= upper * factor + carry;
    this.low -= product - carry * TOTAL;
    if (this.low < 0) {
      this.low += TOTAL;
      this.high -= 1;
    }
  }

  /** Q = D // S. */
  quantile() {
    // The quotient in floating point is off by one at most, where it is next to an integer.
    const { high, low } = this;
    let quantile = Math.floor((high * TOTAL + low) / this.scale);
    if (quantile > TOTAL) return quantile;
    this.subtract(quantile);
    if (this.high < 0) quantile -= 1;
    else if (this.high * TOTAL + this.low >= this.scale) quantile += 1;
    this.high = high;
    this.low = low;
    return quantile;
  }

  /** Entry of the next symbol in a row of cumulative frequencies, which lies in `cumulative` from `begin` to `end`
   * (the place of 2^24). */
  decode(cumulative, begin, end) {
    const quantile = this.quantile();
    if (quantile >= TOTAL) throw new FileFormatError(`the stream of ${this.what} is not valid; the file is damaged`);
    let low = begin;
    for (let high = end; high - low > 1; ) {
      const middle = (low + high) >> 1;
      if (cumulative[middle] <= quantile) low = middle;
      else high = middle;
    }
    this.advance(cumulative[low], cumulative[low + 1] - cumulative[low]);
    return low - begin;
  }

  /** A number of 16 bits, each value as likely. */
  decodeExcess() {
    const quantile = this.quantile();
    if (quantile >= TOTAL) throw new FileFormatError(`the stream of ${this.what} is not valid; the file is damaged`);
    this.advance(quantile - (quantile % 256), 256);
    return quantile >> 8;
  }

  advance(cumulative, frequency) {
    this.untouched = false;
    this.subtract(cumulative);
    const upper = Math.floor(this.scale / TOTAL);
    const below = (this.scale - upper * TOTAL) * frequency;
    const scale = upper * frequency + Math.floor(below / TOTAL); // (S · f) >> 24
    if (scale >= 256) {
      this.scale = scale;
    } else {
      this.scale = (upper * TOTAL * frequency + below) * 256; // S · f is below 2^32
      this.shiftIn(this.word());
    }
  }

  /** Check that the stream ends where its last symbol does. */
  finish() {
    const over = !this.untouched && this.high * TOTAL + this.low >= 2 ** 33 - 1;
    if (this.at < this.view.byteLength || over) {
      throw new FileFormatError(`the stream of ${this.what} is longer than its symbols; the file is damaged`);
    }
  }
}

/** Tables of frequencies, prepared for decoding. */
export class SymbolTables {
  /** @param {Int32Array} frequencies @param {Int32Array} lengths @param {Int32Array} offsets as in the model file */
  constructor(frequencies, lengths, offsets) {
    this.offsets = offsets;
    this.lengths = lengths;
    this.begins = new Int32Array(lengths.length); // of each row in `cumulative`, which has one entry more for each
    this.cumulative = new Int32Array(frequencies.length + lengths.length);
    this.bits = new Float64Array(this.cumulative.length); // that each entry costs, at its place in `cumulative`
    this.leastBits = new Float64Array(lengths.length); // of the cheapest entry of each row
    let from = 0;
    let to = 0;
    lengths.forEach((length, row) => {
      this.begins[row] = to;
      let total = 0;
      let largest = 0;
      for (let i = 0; i < length; i++) {
        const frequency = frequencies[from++];
        this.bits[to] = PRECISION - Math.log2(frequency);
        this.cumulative[to++] = total;
        total += frequency;
        largest = Math.max(largest, frequency);
      }
      this.cumulative[to++] = total;
      this.leastBits[row] = PRECISION - Math.log2(largest);
    });
  }
}

/** Reads arrays of symbols from one stream. */
export class SymbolDecoder {
  constructor(tables, stream, what) {
    this.tables = tables;
    this.coder = new RangeDecoder(stream, what);
    this.bitsThere = 8 * stream.length;
    this.bitsRead = 0;
  }

  /**
   * The next array of symbols.
   *
   * @param {Uint8Array|Uint16Array} rows table row of each
   * @returns {Int32Array}
   * @throws {FileFormatError} the stream cannot have been written by an encoder, or is too short for what was read
   */
  decode(rows) {
    const { cumulative, bits, begins, lengths, offsets } = this.tables;
    const symbols = new Int32Array(rows.length);
    const order = stableOrder(rows, lengths.length);
    const beyond = []; // places of symbols that are the first or last of their row, in the order of decoding
    for (const place of order) {
      const row = rows[place];
      const begin = begins[row];
      const index = this.coder.decode(cumulative, begin, begin + lengths[row]);
      this.bitsRead += bits[begin + index];
      symbols[place] = offsets[row] + index;
      if (index === 0 || index === lengths[row] - 1) beyond.push(place);
    }
    for (const place of beyond) {
      const excess = this.coder.decodeExcess();
      symbols[place] += symbols[place] === offsets[rows[place]] ? -excess : excess;
      this.bitsRead += MAX_EXCESS_BITS;
    }
    return symbols;
  }

  /** Refuse a stream that is too short for the symbols read so far, which otherwise only the check value shows. */
  checkLength() {
    if (this.bitsThere < this.bitsRead * (1 - 1e-9)) {
      throw new FileFormatError(
        `the stream of ${this.coder.what} is shorter than its symbols; the file is damaged`,
      );
    }
  }

  /** Check that the stream ends where its last symbol does. */
  finish() {
    this.coder.finish();
  }
}

/** Places of an array in the order of their rows, those of one row in the array's order. */
function stableOrder(rows, count) {
  const next = new Uint32Array(count + 1);
  for (const row of rows) next[row + 1]++;
  for (let row = 0; row < count; row++) next[row + 1] += next[row];
  const order = new Uint32Array(rows.length);
  for (let place = 0; place < rows.length; place++) order[next[rows[place]]++] = place;
  return order;
}
