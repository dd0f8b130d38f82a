// AV1 streams of still pictures, and the AVIF files around them: codec/pictures/av1.py in JavaScript. Browsers decode
// what the stream declares before they reduce it to what the file's box "ispe" declares, and as many frames as there
// are; here sizes are the same, and there is one frame.

const [SEQUENCE, FRAME] = [1, 6]; // kinds of open bitstream units
const COLOURS = [0, 1, 0, 13, 0, 6, 0x80]; // of Rec. 709, sRGB's curve, YCbCr of Rec. 601 in full range

/** The sequence header of an AV1 stream of one still picture of 8 bits a sample; null if it is anything else. */
export function stillOf(stream) {
  const first = unit(stream, 0);
  const second = first && unit(stream, first.end);
  if (first?.kind !== SEQUENCE || second?.kind !== FRAME || second.end !== stream.length) return null;
  return sequence(stream.subarray(first.begin, first.end));
}

/** The AVIF file of a stream with that sequence header. */
export function avifOf(stream, { width, height, profile, level, gray }) {
  const depths = gray ? [1, 8] : [3, 8, 8, 8];
  const format = [0x81, (profile << 5) | level, gray * 16 + (profile === 0) * 12, 0];
  const properties = box(
    "ipco",
    box("ispe", u32(0), u32(width), u32(height)),
    box("pixi", u32(0), depths),
    box("av1C", format),
    box("colr", letters("nclx"), COLOURS),
  );
  const item = [0, 1];
  const boxes = (offset) => [
    ...box("ftyp", letters("avif"), u32(0), letters("avifmif1miaf")),
    ...box(
      "meta",
      u32(0),
      box("hdlr", u32(0), u32(0), letters("pict"), new Array(13).fill(0)),
      box("pitm", u32(0), item),
      box("iloc", u32(0), [0x44, 0, 0, 1], item, [0, 0, 0, 1], u32(offset), u32(stream.length)),
      box("iinf", u32(0), [0, 1], box("infe", [2, 0, 0, 0], item, [0, 0], letters("av01"), [0])),
      box("iprp", properties, box("ipma", u32(0), u32(1), item, [4, 1, 2, 0x83, 4])),
    ),
  ];
  const start = boxes(boxes(0).length + 8);
  const file = new Uint8Array(start.length + 8 + stream.length);
  file.set([...start, ...u32(8 + stream.length), ...letters("mdat")]);
  file.set(stream, start.length + 8);
  return file;
}

const u32 = (number) => [24, 16, 8, 0].map((shift) => (number >>> shift) & 255);
const letters = (text) => [...text].map((letter) => letter.charCodeAt(0));

function box(kind, ...parts) {
  const inside = parts.flat();
  return [...u32(8 + inside.length), ...letters(kind), ...inside];
}

/** Kind of the OBU that begins there, and begin and end of what is in it; null if it ends too early or has another
 * form. */
function unit(stream, at) {
  if (at >= stream.length || (stream[at] & 0x87) !== 0x02) return null; // no extension, a size of its own
  const kind = (stream[at] >> 3) & 15;
  let [size, shift, byte] = [0, 0, 0x80];
  for (at++; byte & 0x80; shift += 7) {
    if (at >= stream.length || shift > 28) return null;
    byte = stream[at++];
    size += (byte & 0x7f) * 2 ** shift;
  }
  return size > stream.length - at ? null : { kind, begin: at, end: at + size };
}

/** The sequence header of a still picture in its reduced form, whose frames have no other size; else null. */
function sequence(payload) {
  const bits = Array.from(payload.subarray(0, 16), (byte) => byte.toString(2).padStart(8, "0")).join("");
  let at = 0;
  const read = (count) => parseInt(bits.slice(at, (at += count)), 2);
  const [profile, still, reduced, level] = [read(3), read(1), read(1), read(5)];
  const [widthBits, heightBits] = [read(4) + 1, read(4) + 1];
  const [width, height] = [read(widthBits) + 1, read(heightBits) + 1];
  read(6); // superblocks, two intra tools, super-resolution, CDEF, restoration
  const deep = read(1);
  const gray = profile === 0 && read(1) === 1;
  return still && reduced && profile < 2 && !deep && at <= bits.length ? { width, height, profile, level, gray } : null;
}
