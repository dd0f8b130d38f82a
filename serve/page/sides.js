// Which pictures of a result are either side of the line.

import { difference } from "./pictures.js";

const $ = (id) => document.getElementById(id);

export class Sides {
  constructor(viewer, failed) {
    this.viewer = viewer;
    this.failed = failed;
    this.images = {};
    this.chosen = { left: "original", right: "dcae" };
    for (const side of ["left", "right"]) {
      $(side).addEventListener("change", () => {
        this.chosen[side] = $(side).value;
        this.show();
      });
    }
  }

  /**
   * Show other pictures, and close those before.
   *
   * @param {Object} images name -> {label, image}: `original`, `dcae`, `rival`; a single one is shown without a line
   */
  set(images) {
    const before = Object.values(this.images);
    this.images = { ...images };
    this.choices();
    this.show();
    this.viewer.draw(); // what is closed now must not be drawn again
    for (const { image } of before) image.close?.();
  }

  clear() {
    this.viewer.clear();
    for (const { image } of Object.values(this.images)) image.close?.();
    this.images = {};
  }

  choices() {
    const names = Object.keys(this.images);
    const options = names.map((name) => [name, this.images[name].label]);
    for (const name of names) {
      if (name !== "original") options.push([`${name}-difference`, `${this.images[name].label}, error ×8`]);
    }
    for (const side of ["left", "right"]) {
      if (names.length > 1 && !options.some(([name]) => name === this.chosen[side])) this.chosen[side] = "original";
      $(side).replaceChildren(...options.map(([name, label]) => new Option(label, name)));
      $(side).value = this.chosen[side];
      $(side).hidden = names.length < 2;
    }
  }

  show() {
    const names = Object.keys(this.images);
    try {
      const chosen = names.length > 1 ? [this.chosen.left, this.chosen.right] : names;
      this.viewer.show(chosen.map((name) => this.image(name)));
    } catch (error) {
      this.failed(error);
    }
  }

  /** A picture, or the difference of one from the original, which is made when it is first wanted. */
  image(name) {
    if (!this.images[name]) {
      const { image, label } = this.images[name.replace("-difference", "")];
      const made = { label: `${label}, error ×8`, image: difference(this.images.original.image, image) };
      Object.defineProperty(this.images, name, { value: made, configurable: true }); // not among the choices
    }
    return this.images[name];
  }
}
