// What an AVIF file says of its picture where the decoder of AV1 reads it: codec/pictures/av1.py in JavaScript.
// Browsers decode what the stream declares before they reduce it to what the file's box "ispe" declares.

const ILOC = [0, 0, 0, 0, 0x44, 0, 0, 1, 0, 1, 0, 0, 0, 1]; // version 0, numbers of four bytes, one item of one extent
const [SEQUENCE, DELIMITER] = [1, 2]; // kinds of open bitstream units
const FRAMES = [3, 4, 6];

/** Size and kind of the AV1 stream of an AVIF file of one still picture; null if it is anything else. */
export function stillOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const top = boxes(view, 0, bytes.length);
  if (!top || Object.keys(top).sort().join() !== "ftyp,mdat,meta") return null;
  if (name(view, top.ftyp[0]) !== "avif") return null;
  const [begin, end] = boxes(view, top.meta[0] + 4, top.meta[1])?.iloc ?? [0, 0];
  if (end - begin !== ILOC.length + 8 || ILOC.some((byte, k) => bytes[begin + k] !== byte)) return null;
  const offset = view.getUint32(end - 8);
  if (offset !== top.mdat[0] || offset + view.getUint32(end - 4) !== top.mdat[1]) return null;
  const found = units(bytes.subarray(...top.mdat));
  if (found?.[0]?.kind === DELIMITER) found.shift();
  if (found?.[0]?.kind !== SEQUENCE || found.length < 2) return null;
  if (!found.slice(1).every(({ kind }) => FRAMES.includes(kind))) return null;
  return sequence(found[0].payload);
}

function name(view, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((k) => (at + k < view.byteLength ? view.getUint8(at + k) : 0)));
}

/** [begin, end] of what is in every box by its kind; null if one is damaged or repeated. */
function boxes(view, at, end) {
  const found = {};
  while (at < end) {
    const size = at + 8 <= end ? view.getUint32(at) : 0;
    const kind = name(view, at + 4);
    if (size < 8 || at + size > end || Object.hasOwn(found, kind)) return null;
    found[kind] = [at + 8, at + size];
    at += size;
  }
  return found;
}

/** Kind and payload of every OBU; null if one ends too early or has another form. */
function units(stream) {
  const found = [];
  for (let at = 0; at < stream.length; ) {
    const first = stream[at++];
    let [size, shift, byte] = [0, 0, 0x80];
    if ((first & 0x87) !== 0x02) return null; // no extension, a size of its own
    for (; byte & 0x80; shift += 7) {
      if (at >= stream.length || shift > 28) return null;
      byte = stream[at++];
      size += (byte & 0x7f) * 2 ** shift;
    }
    if (size > stream.length - at) return null;
    found.push({ kind: (first >> 3) & 15, payload: stream.subarray(at, at + size) });
    at += size;
  }
  return found;
}

/** The sequence header of a still picture in its reduced form, whose frames have no other size; else null. */
function sequence(payload) {
  const bits = Array.from(payload.subarray(0, 16), (byte) => byte.toString(2).padStart(8, "0")).join("");
  let at = 0;
  const read = (count) => parseInt(bits.slice(at, (at += count)), 2);
  const [profile, still, reduced] = [read(3), read(1), read(1)];
  read(5); // level
  const [widthBits, heightBits] = [read(4) + 1, read(4) + 1];
  const [width, height] = [read(widthBits) + 1, read(heightBits) + 1];
  read(6); // superblocks, two intra tools, super-resolution, CDEF, restoration
  const highBitDepth = read(1) === 1;
  const gray = profile !== 1 && read(1) === 1;
  return still && reduced && at <= bits.length ? { width, height, highBitDepth, gray } : null;
}
