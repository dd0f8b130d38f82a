// <dcae-img src="photo.dcae" alt="..." width="768" height="512"></dcae-img>: a picture as <img> shows others.
//
// Attributes: src, alt, width and height as those of <img>; models, the folder of the models for browsers, by default
// that of this module; runtime and max-pixels, see `Decoder`. Events: load, error (a CustomEvent whose detail is the
// error) and progress (detail: 0 to 1). CSS: `canvas` and `error` are parts. What is decoded stays on the canvas until
// another picture is.

import { paint } from "./dcae.js";
import { WorkerDecoder } from "./dcae-client.js";
import { DCAEError } from "./errors.js";
import { fetched } from "./model.js";

const STYLE = new CSSStyleSheet(); // which a content security policy without inline styles allows
STYLE.replaceSync(`
  :host { display: inline-block; max-width: 100%; }
  :host([hidden]) { display: none; }
  canvas { display: block; max-width: 100%; height: auto; }
  canvas { background: color-mix(in srgb, currentcolor 8%, transparent); }
  canvas.shown { background: none; }
  p { margin: 0; padding: 0.75em; border: 1px solid; overflow-wrap: anywhere; }
  [hidden] { display: none; }
`);

const decoders = new Map(); // settings as JSON -> the worker that all elements with these share

function decoderFor(settings) {
  const key = JSON.stringify(settings);
  if (!decoders.has(key) || decoders.get(key).closed) decoders.set(key, new WorkerDecoder(settings));
  return decoders.get(key);
}

export class DCAEImage extends HTMLElement {
  static observedAttributes = ["src", "alt", "width", "height", "models", "runtime", "max-pixels"];

  #canvas = document.createElement("canvas");
  #error = document.createElement("p");
  #work; // AbortController of the picture that is being loaded

  constructor() {
    super();
    this.#canvas.part = "canvas";
    this.#error.part = "error";
    this.#error.hidden = true;
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [STYLE];
    root.append(this.#canvas, this.#error);
  }

  connectedCallback() {
    this.#layOut();
    this.#load();
  }

  disconnectedCallback() {
    this.#work?.abort();
  }

  attributeChangedCallback(name, before, value) {
    if (!this.isConnected || before === value) return;
    if (["alt", "width", "height"].includes(name)) this.#layOut();
    else this.#load();
  }

  /** Size of the picture in pixels, 0 before it is there. */
  get naturalWidth() {
    return this.#canvas.className ? this.#canvas.width : 0;
  }

  get naturalHeight() {
    return this.#canvas.className ? this.#canvas.height : 0;
  }

  async #load() {
    this.#work?.abort();
    const src = this.getAttribute("src");
    if (!src) {
      this.removeAttribute("aria-busy");
      this.#say("");
      this.#canvas.className = "";
      for (const side of ["width", "height"]) this.#canvas.removeAttribute(side); // as it was before a picture
      return;
    }
    const work = (this.#work = new AbortController());
    this.setAttribute("aria-busy", "true");
    this.#say("");
    let event = new Event("load");
    try {
      paint(this.#canvas, await this.#picture(src, work.signal));
      this.#canvas.className = "shown";
    } catch (error) {
      if (work.signal.aborted) return; // there is another picture now, or the element has gone
      this.#say(error instanceof DCAEError ? error.message : `${src}: ${error.message}`);
      event = new CustomEvent("error", { detail: error });
    }
    this.removeAttribute("aria-busy");
    this.dispatchEvent(event);
  }

  async #picture(src, signal) {
    const settings = {};
    for (const name of ["models", "runtime"]) if (this.hasAttribute(name)) settings[name] = this.getAttribute(name);
    if (this.hasAttribute("max-pixels")) settings.maxPixels = Number(this.getAttribute("max-pixels"));
    const file = await fetched(new URL(src, document.baseURI).href, signal);
    const onProgress = (detail) => this.dispatchEvent(new CustomEvent("progress", { detail }));
    const picture = await decoderFor(settings).decode(file, { signal, onProgress });
    signal.throwIfAborted();
    return picture;
  }

  /** Show an error in place of the picture; none for "". */
  #say(message) {
    this.#error.textContent = message;
    this.#error.hidden = !message;
    this.#canvas.hidden = Boolean(message);
    this.#name();
  }

  /** What assistive technology is told: a picture with its alt, decoration where that is empty, as for <img>; with an
   * error a group, whose text can be read. */
  #name() {
    const alt = this.getAttribute("alt");
    const failed = !this.#error.hidden;
    this.setAttribute("role", failed ? "group" : alt === "" ? "none" : "img");
    if (alt) this.setAttribute("aria-label", alt);
    else this.removeAttribute("aria-label");
  }

  /** Size on the page: that of the attributes, kept free before the picture is there, else the picture's own. */
  #layOut() {
    const [width, height] = ["width", "height"].map((name) => parseInt(this.getAttribute(name), 10) || 0);
    const { style } = this.#canvas;
    style.width = width ? `${width}px` : "";
    style.height = height && !width ? `${height}px` : "";
    style.aspectRatio = width && height ? `${width} / ${height}` : "";
    this.#name();
  }
}

customElements.define("dcae-img", DCAEImage);
