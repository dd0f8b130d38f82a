// The settings: what they say, and when they have changed.

import { bitsPerPixel, sized, written } from "./numbers.js";

const SETTLING = 350; // milliseconds that a slider rests before its value counts
const LEAST_BPP = 0.05; // ends of the slider for sizes, which is logarithmic
const MOST_BPP = 3;

const $ = (id) => document.getElementById(id);

export class Controls {
  /** @param {function()} changed called when there is something else to be done */
  constructor(changed) {
    this.changed = changed;
    this.size = null;
    $("settings").addEventListener("submit", (event) => event.preventDefault());
    $("settings").addEventListener("input", (event) => this.heard(event));
    this.say();
  }

  /** Offer the codecs to compare with. */
  offer(rivals) {
    $("rival").replaceChildren(...rivals.map(({ name, label }) => new Option(label, name)));
    $("rival").parentElement.hidden = !rivals.length;
  }

  /** Width and height of the picture, which sizes depend on; null while they are not known. */
  setSize(size) {
    this.size = size;
    document.querySelector("[name=aim][value=size]").disabled = !size;
    if (!size) document.querySelector("[name=aim][value=quality]").checked = true;
    this.say();
  }

  /** Parameters of a comparison. */
  values() {
    const bySize = this.bySize();
    return {
      quality: bySize ? null : $("quality").value,
      target_size: bySize ? this.targetSize() : null,
      effort: $("effort").value,
      rival: $("rival").value || null,
    };
  }

  bySize() {
    return document.querySelector("[name=aim]:checked").value === "size";
  }

  targetSize() {
    const slider = $("size");
    const bpp = LEAST_BPP * (MOST_BPP / LEAST_BPP) ** (slider.value / slider.max);
    return Math.max(Math.round((bpp * this.size.width * this.size.height) / 8), 100);
  }

  heard(event) {
    this.say();
    clearTimeout(this.timer);
    if (event.target.type === "range") this.timer = setTimeout(this.changed, SETTLING);
    else this.changed();
  }

  /** Another picture: what a slider had still to tell concerns the one before. */
  forget() {
    clearTimeout(this.timer);
  }

  say() {
    const bySize = this.bySize();
    $("quality-row").hidden = bySize;
    $("size-row").hidden = !bySize;
    $("quality-text").textContent = written(Number($("quality").value), 1);
    if (!bySize) return;
    const bytes = this.targetSize();
    const text = `${sized(bytes)}, ${written(bitsPerPixel(bytes, this.size), 2)} bits per pixel`;
    $("size-text").textContent = text;
    $("size").setAttribute("aria-valuetext", text);
  }
}
