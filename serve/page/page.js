// The page: takes pictures and .dcae files, has them worked on, shows what comes.

import { Controls } from "./controls.js";
import { decoded } from "./decoding.js";
import { bitsPerPixel, fill, sized, verdict } from "./numbers.js";
import { drawable, save, stem } from "./pictures.js";
import { Refused, Server } from "./server.js";
import { Sides } from "./sides.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const TITLE = document.title;
const SIGNATURE = [0x89, 0x44, 0x43, 0x41, 0x45]; // of .dcae files

const server = new Server();
const viewer = new Viewer({ stage: $("stage"), canvas: $("canvas"), divider: $("divider"), scale: $("scale") });
const sides = new Sides(viewer, refuse);
const controls = new Controls(() => file && compare());
let info = { limits: {}, rivals: [], examples: [] };
let file = null; // the picture that settings apply to
let work = new AbortController(); // what is being done; another replaces it

// ---- Saying things

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

/** Say why something came to nothing; `name`, if it has to do with a file. */
function refuse(error, name = "") {
  const said = error.message?.replace(/^the (picture|file|body): /, ""); // whose name is here
  const text = error instanceof Refused ? said : `this did not work (${error.message || error})`;
  const sentence = name ? `${name}: ${text}` : text[0].toUpperCase() + text.slice(1);
  $("refusal").textContent = sentence.replace(/\.?$/, ".");
  $("refusal").hidden = false;
  say("");
}

function changed({ state, progress, stage, position }) {
  $("progress").toggleAttribute("value", false);
  if (state !== "queued" && progress > 0) $("progress").value = progress;
  const words = stage || (state === "queued" ? "Waiting" : "Working");
  const ahead = state === "queued" && position > 0 ? `, ${position} before it` : "";
  say(words[0].toUpperCase() + words.slice(1) + ahead + " …");
}

// ---- Work, of which there is one at a time

/** Do something with a file in place of what is being done. */
async function instead(name, task) {
  work.abort();
  const mine = (work = new AbortController());
  $("refusal").hidden = true;
  $("working").hidden = false;
  $("numbers").setAttribute("aria-busy", "true");
  changed({ state: "queued", stage: "Sending" });
  try {
    await task(mine.signal);
  } catch (error) {
    if (mine.signal.aborted) return;
    refuse(error, name);
    if (!Object.keys(sides.images).length) close();
  } finally {
    if (work === mine) {
      $("working").hidden = true;
      $("numbers").removeAttribute("aria-busy");
    }
  }
}

$("cancel").addEventListener("click", () => {
  work.abort();
  $("working").hidden = true;
  $("numbers").removeAttribute("aria-busy");
  say("Cancelled. Any change of the settings starts again.");
  $("stage").focus();
});

function compare() {
  const picture = file;
  return instead(picture.name, async (signal) => {
    const answer = await server.run("compare", controls.values(), picture, { signal, onChange: changed });
    const result = await answer.json();
    const { original, dcae, rival } = result;
    const fetched = (url) => (url ? server.file(url, signal) : null);
    const blobs = await Promise.all(
      [original.url, dcae.png_url, dcae.url, rival && (rival.png_url || rival.url), rival?.url].map(fetched),
    );
    const [whole, ours, packed, theirs, rivalFile] = blobs;
    const images = { original: { label: "Original", image: await drawable(whole) } };
    images.dcae = { label: "DCAE", image: await drawable(ours) };
    if (rival) images.rival = { label: rival.label, image: await drawable(theirs) };
    if (signal.aborted) return Object.values(images).forEach(({ image }) => image.close());
    controls.setSize(result);
    sides.set(images);
    tell(picture, result, { ours, packed, theirs, rivalFile });
  });
}

/** Quality of a file, which has none where no model coded it. */
const qualityText = ({ quality, stored }) => (stored ? `stored ${stored}` : `quality ${Number(quality.toFixed(2))}`);

function tell(picture, { width, height, dcae, rival }, files) {
  const name = stem(picture.name);
  const kept = (text, label, blob, as) => ({ text, label: `Save ${label}`, action: () => save(blob, as) });
  const columns = [
    { label: "Original", bytes: picture.size, bpp: bitsPerPixel(picture.size, { width, height }) },
    {
      ...dcae, label: "DCAE", setting: qualityText(dcae),
      files: [
        kept(".dcae", "the .dcae file", files.packed, `${name}.dcae`),
        kept("PNG", "what it decodes to as PNG", files.ours, `${name}-dcae.png`),
      ],
    },
  ]; // prettier-ignore
  if (rival) {
    const suffix = info.rivals.find((one) => one.name === rival.name)?.suffix ?? `.${rival.name}`;
    const shown = kept("PNG", `what ${rival.label} decodes to as PNG`, files.theirs, `${name}-${rival.name}.png`);
    const pair = [kept(suffix, `the ${rival.label} file`, files.rivalFile, name + suffix), shown];
    columns.push({ ...rival, files: pair });
  }
  $("name").textContent = `${picture.name}, ${width} × ${height}`;
  fill($("numbers"), columns);
  const small = dcae.ms_ssim == null && Math.min(width, height) < 161;
  const larger = rival && rival.bytes > dcae.bytes;
  $("note").textContent = [
    larger ? `${rival.label} has no smaller file than this one.` : "",
    small ? "MS-SSIM is for pictures of at least 161 pixels a side." : "",
  ].join(" ").trim(); // prettier-ignore
  say(verdict(dcae, rival) || `${sized(dcae.bytes)}.`);
}

/** A .dcae file: one picture, and nothing to set. */
function decode(packed) {
  $("settings").hidden = true;
  return instead(packed.name, async (signal) => {
    const { png, seconds, where } = await decoded(packed, server, info, { signal, onChange: changed });
    const image = await drawable(png);
    if (signal.aborted) return image.close();
    const { width, height } = image;
    sides.set({ dcae: { label: "DCAE", image } });
    $("name").textContent = `${packed.name}, ${width} × ${height}`;
    const bpp = bitsPerPixel(packed.size, image);
    const files = [{ text: "PNG", label: "Save it as PNG", action: () => save(png, `${stem(packed.name)}.png`) }];
    fill($("numbers"), [{ label: "DCAE", bytes: packed.size, bpp, decode_seconds: seconds, files }]);
    say(`Decoded ${where}.`);
  });
}

// ---- What is given

/** Take a file that was dropped, pasted or chosen. */
async function take(given) {
  const problem = wrong(given);
  if (problem) return refuse(new Refused(problem), given.name); // and what is there stays
  let first;
  try {
    first = new Uint8Array(await given.slice(0, SIGNATURE.length).arrayBuffer());
  } catch {
    return refuse(new Refused("it cannot be read; folders are not taken"), given.name);
  }
  work.abort();
  controls.forget();
  file = null;
  const packed = /\.dcae$/i.test(given.name) || SIGNATURE.every((byte, k) => first[k] === byte);
  open(given.name);
  if (packed) return decode(given);
  file = given;
  $("settings").hidden = false;
  controls.setSize(null);
  preview(given);
  return compare();
}

function wrong({ size }) {
  if (!size) return "it is empty, or a folder; take a picture";
  if (!(size > info.limits.bytes)) return "";
  return `it has ${sized(size)}, and this server takes at most ${sized(info.limits.bytes)}`;
}

/** The picture as it was given, while the server works; not all kinds are known to browsers. */
async function preview(given) {
  const image = await drawable(given).catch(() => null);
  if (!image) return;
  if (file !== given || Object.keys(sides.images).length) return image.close();
  $("name").textContent = `${given.name}, ${image.width} × ${image.height}`;
  controls.setSize({ width: image.width, height: image.height });
  sides.set({ original: { label: "Original", image } });
}

function open(name) {
  sides.clear();
  $("start").hidden = true;
  $("work").hidden = $("again").hidden = false;
  $("numbers").hidden = true;
  $("note").textContent = "";
  $("name").textContent = name;
  document.title = `${name} – DCAE`;
  $("stage").focus({ preventScroll: true });
}

/** Back to the beginning, where another picture can be taken. */
function close() {
  file = null;
  $("start").hidden = false;
  $("work").hidden = $("again").hidden = true;
  document.title = TITLE;
  $("choose").focus();
}

async function example({ name, url }) {
  $("refusal").hidden = true;
  try {
    const blob = await server.file(url);
    await take(new File([blob], `${name}.png`, { type: blob.type }));
  } catch (error) {
    refuse(error);
  }
}

function offered(files) {
  if (!files.length) return; // text, say
  $("refusal").hidden = true;
  take(files[0]);
}

for (const id of ["choose", "again"]) $(id).addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  offered([...$("file").files]);
  $("file").value = ""; // so that the same file can be chosen again
});
addEventListener("paste", (event) => offered([...(event.clipboardData?.files ?? [])]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  offered([...event.dataTransfer.files]);
});
$("keying").addEventListener("submit", (event) => event.preventDefault());
$("key").addEventListener("input", () => (server.key = $("key").value.trim()));

for (const [id, action] of [
  ["smaller", () => viewer.zoom(1 / 1.5)],
  ["larger", () => viewer.zoom(1.5)],
  ["whole", () => viewer.fit()],
  ["pixels", () => viewer.oneToOne()],
]) {
  $(id).addEventListener("click", action);
}

// ---- Beginning

async function begin() {
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  $("whither").textContent =
    (local ? "It stays on this machine." : `It is sent to ${location.host}.`) + " Files of .dcae are shown as well.";
  try {
    info = await server.info();
  } catch (error) {
    return refuse(error);
  }
  $("about").textContent = `version ${info.version}`;
  $("keying").hidden = !info.keys_required;
  controls.offer(info.rivals);
  $("examples").hidden = !info.examples.length;
  $("examples").querySelector("ul").replaceChildren(...info.examples.map(exampleItem));
}

function exampleItem(one) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const image = Object.assign(document.createElement("img"), { alt: "", width: 384, height: 256 });
  image.src = new URL(`${one.name}.webp`, import.meta.url); // small, and there before the example is drawn
  const title = Object.assign(document.createElement("span"), { textContent: one.title ?? one.name });
  button.append(image, title);
  button.addEventListener("click", () => example(one));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

begin();
