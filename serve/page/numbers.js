// The table of sizes, fidelity and seconds, and how numbers are written.

const places = (digits) =>
  new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const fixed = [0, 1, 2, 3, 4].map(places);
const number = (value, digits) => (value == null ? "–" : fixed[digits].format(value));

/** Bytes for people: 24.3 kB. */
export function sized(bytes) {
  const [value, unit] = bytes < 1e6 ? [bytes / 1000, "kB"] : [bytes / 1e6, "MB"];
  return `${number(value, value < 100 ? 1 : 0)} ${unit}`;
}

export const bitsPerPixel = (bytes, { width, height }) => (8 * bytes) / (width * height);
export const written = number;

/** Rows of the table: name, value of a column, and whether more (1) or less (-1) of it is better. */
const ROWS = [
  ["Bytes", (column) => number(column.bytes, 0)],
  ["Bits per pixel", (column) => number(column.bpp, 3)],
  ["PSNR, dB", (column) => (column.psnr === null ? "exact" : number(column.psnr, 2)), 1, "psnr"],
  ["MS-SSIM", (column) => number(column.ms_ssim, 4), 1, "ms_ssim"],
  ["Encoding, s", (column) => number(column.encode_seconds, 2)],
  ["Decoding, s", (column) => number(column.decode_seconds, 2)],
  ["Setting", (column) => column.setting ?? "–"],
];

/**
 * Fill the table.
 *
 * @param {HTMLTableElement} table
 * @param {Object[]} columns with `label`, and what there is of bytes, bpp, psnr, ms_ssim, encode_seconds,
 *   decode_seconds, setting; `files`: {text, label, action} of each that can be kept
 */
export function fill(table, columns) {
  const head = document.createElement("tr");
  head.append(cell("td", ""), ...columns.map((column) => headed(column.label, "col")));
  table.tHead.replaceChildren(head);
  const body = [];
  for (const [name, text, better, field] of ROWS) {
    const texts = columns.map(text);
    if (texts.every((one) => one === "–")) continue;
    const row = document.createElement("tr");
    const values = columns.map((column) => (better && column[field] != null ? column[field] : -Infinity));
    const best = columns.length > 2 && Math.max(...values);
    row.append(headed(name, "row"));
    texts.forEach((one, k) => {
      const td = row.appendChild(cell("td", one));
      if (better && Number.isFinite(values[k]) && values[k] === best && texts.filter((t) => t === one).length === 1) {
        td.className = "better";
      }
    });
    body.push(row);
  }
  const kept = document.createElement("tr");
  kept.append(headed("Save", "row"));
  for (const { files = [] } of columns) kept.appendChild(cell("td", "")).append(...files.map(link));
  body.push(kept);
  table.tBodies[0].replaceChildren(...body);
  table.hidden = false;
}

function cell(kind, text) {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}

function headed(text, scope) {
  return Object.assign(cell("th", text), { scope });
}

function link({ text, label, action }) {
  const element = Object.assign(cell("button", text), { type: "button", className: "link" });
  element.setAttribute("aria-label", label);
  element.addEventListener("click", action);
  return element;
}

/** The comparison in a sentence. */
export function verdict(ours, rival) {
  if (!rival || rival.psnr == null || ours.psnr == null) return "";
  const apart = ours.psnr - rival.psnr;
  const more = apart > 0 ? "more" : "less";
  const words =
    Math.abs(apart) < 0.005 ? "the same PSNR as" : `${number(Math.abs(apart), 2)} dB ${more} PSNR than`;
  return `At ${number(ours.bytes, 0)} bytes DCAE has ${words} ${rival.label} at ${number(rival.bytes, 0)}.`;
}
