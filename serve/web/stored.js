// Sections that hold files of other formats: alpha and whole pictures without loss as PNG or WebP, whole pictures as
// AVIF. The browser decodes them, after their size was compared with the header.

import { avifOf, stillOf } from "./av1.js";
import { crc32 } from "./container.js";
import { DCAEError, FileFormatError } from "./errors.js";

/** Decode a PNG, WebP or AVIF file by the browser, without converting its colours. */
export async function browserPictures(bytes) {
  if (typeof createImageBitmap !== "function") {
    throw new DCAEError("alpha and stored pictures need the picture decoder of a browser; pass readPicture");
  }
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes]), options);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

/** Pixels of a file that holds its picture without loss: red, green, blue and an alpha of 255. */
export async function losslessPixels({ header, lossless }, readPicture) {
  const { data } = await unpacked(lossless, header, "section P (picture)", readPicture);
  opaque(data, header);
  const channels = header.colour === 1 ? 1 : 3;
  const samples = new Uint8Array((data.length / 4) * channels);
  for (let from = 0, to = 0; from < data.length; from += 4, to += channels) {
    for (let c = 0; c < channels; c++) samples[to + c] = data[from + c];
  }
  // A browser gives 8 bits of 16, of which the check value cannot be computed; the section's CRC was right.
  if (header.depth === 0 && crc32(samples) !== header.check) {
    throw new FileFormatError("the lossless picture fails its check value; the file is damaged");
  }
  return data;
}

/** Pixels of a file that holds its picture as AVIF, likewise; browsers differ by a level where they round. */
export async function avifPixels({ header, avif }, readPicture) {
  const still = stillOf(avif);
  const fits = still && still.gray === (header.colour === 1);
  const sizeOf = () => (fits ? [still.width, still.height] : null);
  const read = () => readPicture(avifOf(avif, still));
  const { data } = await unpacked(avif, header, "section V (picture)", read, sizeOf);
  opaque(data, header);
  return data;
}

/** Make pixels opaque, and gray what the header says is; of WebP, which has no gray, the green channel counts. */
function opaque(data, { colour }) {
  for (let at = 0; at < data.length; at += 4) {
    if (colour === 1) data[at] = data[at + 2] = data[at + 1];
    data[at + 3] = 255;
  }
}

/** Put the alpha of a file into its pixels. */
export async function withAlpha(pixels, { size, alpha }, readPicture) {
  const { data } = await unpacked(alpha, size, "section A (alpha)", readPicture);
  for (let i = 0; i < pixels.length; i += 4) pixels[i + 3] = data[i + 1];
}

async function unpacked(bytes, { width, height }, what, readPicture, sizeOf = pictureSize) {
  const size = sizeOf(bytes);
  if (!size) throw new FileFormatError(`${what} cannot be read (another format); the file is damaged`);
  if (size[0] !== width || size[1] !== height) {
    throw new FileFormatError(`${what} is a picture of another size (${size[0]}x${size[1]}); it is damaged`);
  }
  let found;
  try {
    found = await readPicture(bytes);
  } catch (error) {
    if (error instanceof DCAEError) throw error;
    throw new FileFormatError(`${what} cannot be read (${error.message}); the file is damaged`, { cause: error });
  }
  if (found.width !== width || found.height !== height) {
    throw new FileFormatError(`${what} is a picture of another size (${found.width}x${found.height}); it is damaged`);
  }
  return found;
}

/** [width, height] that a PNG or lossless WebP file of one frame declares; null for anything else. */
function pictureSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const text = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length >= 24 && text(0) === "\x89PNG" && text(12) === "IHDR") {
    return [view.getUint32(16), view.getUint32(20)];
  }
  if (bytes.length < 30 || text(0) !== "RIFF" || text(8) !== "WEBP") return null;
  if (text(12) === "VP8L") {
    const sizes = view.getUint32(21, true);
    return [(sizes & 0x3fff) + 1, ((sizes >>> 14) & 0x3fff) + 1];
  }
  const animated = bytes[20] & 2;
  if (text(12) !== "VP8X" || animated) return null;
  return [(view.getUint32(24, true) & 0xffffff) + 1, (view.getUint32(26, true) >>> 8) + 1];
}
