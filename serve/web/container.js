// The `.dcae` container, versions 1 and 2, as docs/format.md specifies it: signature, sections with CRC-32, header.

import { FileFormatError } from "./errors.js";

/** Sections that hold the picture in another format, in place of Z and Y. */
const STORED = { P: "without loss", V: "as AVIF" };
const SIGNATURE = [0x89, 0x44, 0x43, 0x41, 0x45, 0x0d, 0x0a, 0x1a, 0x0a];
const VERSION = 2;
const MAX_VARINT_BYTES = 5;
const MAX_OPTIONAL = 1 << 22; // bytes of an optional section after it was expanded
const NUMERICS = ["float32", "integer", "float64"];
/** Fields of the header in their order: name, kind, lowest and highest value, and the version that brought it. */
const FIELDS = [
  ["width", "varint", 1, 2 ** 24 - 1, 1],
  ["height", "varint", 1, 2 ** 24 - 1, 1],
  ["colour", "u8", 0, 1, 1],
  ["numerics", "u8", 0, NUMERICS.length - 1, 1],
  ["quality", "varint", 256, 64 * 256, 1],
  ["model", "bytes8", 0, 0, 1],
  ["check", "u32", 0, 2 ** 32 - 1, 1],
  ["depth", "u8", 0, 1, 2],
];
/** Fields of section S, likewise. */
const ENLARGEMENT = [
  ["scale", "u8", 2, 4, 2],
  ["width", "varint", 1, 2 ** 24 - 1, 2],
  ["height", "varint", 1, 2 ** 24 - 1, 2],
  ["model", "bytes8", 0, 0, 2],
];

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 of bytes, as zlib has it; `before` is that of what comes before them. */
export function crc32(bytes, before = 0) {
  let crc = ~before;
  for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Reads exactly what is asked from bytes, or throws. */
class Reader {
  constructor(bytes, what) {
    this.bytes = bytes;
    this.what = what;
    this.at = 0;
  }

  get done() {
    return this.at === this.bytes.length;
  }

  take(count) {
    if (count > this.bytes.length - this.at) {
      throw new FileFormatError(`${this.what} ends too early; it is truncated or damaged`);
    }
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  u32() {
    const [a, b, c, d] = this.take(4);
    return a + 2 ** 8 * b + 2 ** 16 * c + 2 ** 24 * d;
  }

  varint() {
    let value = 0;
    for (let position = 0; position < MAX_VARINT_BYTES; position++) {
      const [byte] = this.take(1);
      value += (byte & 127) * 2 ** (7 * position); // up to 35 bits, more than operators on bits have
      if (byte < 128) {
        if (byte === 0 && position) break;
        return value;
      }
    }
    throw new FileFormatError(`${this.what} has a malformed number; it is damaged`);
  }
}

/**
 * Parse and verify a file.
 *
 * @param {Uint8Array} bytes the whole file
 * @returns {Promise<{header, size, enlargement, z, y, alpha, lossless, avif, stored}>} the header's fields (`model` in
 *   hexadecimal, `numerics` by name), width and height of what is shown, the fields of section S, the payloads of the
 *   sections that are there, and how the picture is stored if no model is needed for it
 * @throws {FileFormatError} anything but a whole, undamaged file of a version that is known
 */
export async function readContainer(bytes) {
  const known = new Map();
  let version;
  for (const [letter, payload] of sectionsOf(bytes)) {
    if (!letter) [version] = payload;
    else if ("HZY".includes(letter) || (version >= 2 && "APSVeix".includes(letter))) {
      if (known.has(letter) || (letter !== "H" && !known.has("H"))) {
        throw new FileFormatError(`section ${letter} is repeated or before the header; it is damaged`);
      }
      if ("APV".includes(letter) && !payload.length) {
        throw new FileFormatError(`section ${letter} is empty; the file is damaged`);
      }
      known.set(letter, payload);
    } else if (letter < "a" || letter > "z") {
      throw new FileFormatError(`unknown critical section '${letter}'; it needs a newer dcae`);
    }
  }
  if (!known.has("H") || ["Z", "P", "V"].filter((letter) => known.has(letter)).length !== 1) {
    throw new FileFormatError("the header or the section of z is missing, or one too many; the file is damaged");
  }
  for (const letter of "eix") if (known.has(letter)) await checkExpanded(known.get(letter), letter);
  const header = readFields(known.get("H"), FIELDS, version, "header");
  header.numerics = NUMERICS[header.numerics];
  const stored = STORED[known.has("P") ? "P" : known.has("V") ? "V" : ""];
  const enlargement = known.has("S") ? readEnlargement(known.get("S"), header, stored) : undefined;
  const { width, height } = enlargement ?? header;
  if (stored === STORED.V && header.depth) {
    throw new FileFormatError("section V has 8 bits a sample, and the header says 16; the file is damaged");
  }
  const [z, y, alpha, lossless, avif] = [..."ZYAPV"].map((letter) => known.get(letter));
  return { header, size: { width, height }, enlargement, z, y, alpha, lossless, avif, stored };
}

/** How the coded picture becomes the one that is shown. */
function readEnlargement(payload, header, stored) {
  const found = readFields(payload, ENLARGEMENT, VERSION, "enlargement");
  if (stored) {
    throw new FileFormatError(`section S would enlarge a picture that is stored ${stored}; the file is damaged`);
  }
  const { scale, width, height } = found;
  if (Math.ceil(width / scale) !== header.width || Math.ceil(height / scale) !== header.height) {
    throw new FileFormatError(
      `section S makes ${width}x${height} pixels of ${header.width}x${header.height} by scale ${scale}, which does ` +
        "not fit; the file is damaged",
    );
  }
  return found;
}

/** [letter, payload] of every section, the version first with an empty letter; CRCs are right, and nothing follows. */
function* sectionsOf(bytes) {
  const reader = new Reader(bytes, "the file");
  const begin = reader.take(Math.min(SIGNATURE.length, bytes.length));
  if (begin.length < SIGNATURE.length || SIGNATURE.some((byte, i) => byte !== begin[i])) {
    throw new FileFormatError(whyNoSignature(bytes));
  }
  const found = reader.take(1);
  const [version] = found;
  if (version < 1 || version > VERSION) {
    throw new FileFormatError(
      `format version ${version}, this dcae reads 1 to ${VERSION}; the file is damaged or needs a newer dcae`,
    );
  }
  yield ["", found];
  for (let letter = ""; !(letter === "Y" || (letter in STORED && version > 1)); ) {
    const start = reader.at;
    letter = String.fromCharCode(reader.take(1)[0]);
    const payload = reader.take(reader.varint());
    const crc = crc32(bytes.subarray(start, reader.at));
    if (reader.u32() !== crc) {
      throw new FileFormatError(`section '${letter}' fails its CRC-32; the file is damaged`);
    }
    yield [letter, payload];
  }
  if (!reader.done) {
    throw new FileFormatError(`${bytes.length - reader.at} bytes after the last section; the file is damaged`);
  }
}

function whyNoSignature(bytes) {
  if (SIGNATURE.slice(0, bytes.length).every((byte, i) => byte === bytes[i])) {
    return `the file ends after ${bytes.length} bytes; it is truncated`;
  }
  // Its first byte may have become up to three, taken for text and written as UTF-8.
  if (String.fromCharCode(...bytes.subarray(1, 7)).includes("DCAE")) {
    return "the signature is damaged, as by a transfer in text mode; transfer the file again in binary mode";
  }
  return "not a .dcae file (or its first bytes are damaged)";
}

function readFields(payload, fields, version, what) {
  const reader = new Reader(payload, `the ${what}`);
  const found = { depth: 0 };
  for (const [name, kind, low, high, since] of fields) {
    if (since > version) continue;
    if (kind === "bytes8") {
      found[name] = Array.from(reader.take(8), (byte) => byte.toString(16).padStart(2, "0")).join("");
      continue;
    }
    const value = kind === "varint" ? reader.varint() : kind === "u8" ? reader.take(1)[0] : reader.u32();
    if (value < low || value > high) {
      throw new FileFormatError(
        `${what} field ${name} is ${value}, this version knows ${low}..${high}; ` +
          "the file is damaged or needs a newer dcae",
      );
    }
    found[name] = value;
  }
  if (!reader.done) throw new FileFormatError(`the ${what} is longer than its fields; the file is damaged`);
  return found;
}

/** Check that an optional section expands to as many bytes as it declares; what it says is not used here. */
async function checkExpanded(payload, letter) {
  const what = `section '${letter}'`;
  const reader = new Reader(payload, what);
  const length = reader.varint();
  if (!(length > 0 && length <= MAX_OPTIONAL)) {
    throw new FileFormatError(`${what} declares ${length} bytes, the limit is ${MAX_OPTIONAL}; the file is damaged`);
  }
  let found = 0;
  const sum = { low: 1, high: 0 };
  try {
    const stream = new Blob([payload.subarray(reader.at)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const chunks = stream.getReader();
    for (let next = await chunks.read(); !next.done && found <= length; next = await chunks.read()) {
      found += next.value.length;
      addAdler32(sum, next.value);
    }
    if (found > length) await chunks.cancel();
  } catch {
    found = -1;
  }
  // A zlib stream ends with its Adler-32: not every DecompressionStream minds what follows.
  if (found !== length || new DataView(payload.slice(-4).buffer).getUint32(0) !== sum.high * 65536 + sum.low) {
    throw new FileFormatError(`${what} does not expand to the ${length} bytes that it declares; the file is damaged`);
  }
}

function addAdler32(sum, bytes) {
  for (let i = 0; i < bytes.length; i++) {
    sum.low = (sum.low + bytes[i]) % 65521;
    sum.high = (sum.high + sum.low) % 65521;
  }
}
