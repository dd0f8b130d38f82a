// Pictures in memory: what the stage draws, differences, and files to keep.

const GAIN = 3; // doublings of a difference: eight times

/** A picture that can be drawn; to be closed when it is not shown any more. */
export async function drawable(blob) {
  return createImageBitmap(blob); // upright, and in the colours of the screen's canvas
}

/** Differences of two pictures of one size, each sample's without its sign and eight times as large, on a canvas. */
export function difference(a, b) {
  const canvas = new OffscreenCanvas(a.width, a.height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The browser has no canvas of this size.");
  context.drawImage(a, 0, 0);
  context.globalCompositeOperation = "difference";
  context.drawImage(b, 0, 0);
  context.globalCompositeOperation = "lighter";
  for (let k = 0; k < GAIN; k++) context.drawImage(canvas, 0, 0);
  context.globalCompositeOperation = "destination-over"; // where both are transparent there is no difference
  context.fillRect(0, 0, a.width, a.height);
  return canvas;
}

/** Pixels as a PNG file. */
export async function pngOf({ width, height, data }) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Offer a file to be kept. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it after the click
}

/** Name of a file without its suffix. */
export const stem = (name) => name.replace(/\.[^.]*$/, "") || "picture";
