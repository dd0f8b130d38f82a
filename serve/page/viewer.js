// The stage: two pictures of the same size on one canvas, either side of a line, with zoom and pan.
//
// Scale is pixels of the screen for one of the picture, so that 1 is what the codec has made, on any screen. A canvas
// of the size of the stage is drawn anew for every change: large pictures take no layers of their size.

const LARGEST = 32; // scale
const STEP = 1.5; // of a zoom
const SHIFT = 0.1; // share of the stage that an arrow key moves by
const LINE_STEP = 2; // percent that an arrow key moves the line by

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

export class Viewer {
  /**
   * @param {Object} parts elements: stage, canvas, divider, scale (an output)
   */
  constructor({ stage, canvas, divider, scale }) {
    Object.assign(this, { stage, canvas, divider, output: scale });
    this.context = canvas.getContext("2d");
    this.sides = []; // {label, image}: one or two
    this.size = null; // width and height of the pictures
    this.line = 50; // percent of the stage's width
    this.pointers = new Map();
    new ResizeObserver(() => this.resized()).observe(stage);
    stage.addEventListener("keydown", (event) => this.key(event));
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.up(event));
  }

  /**
   * Show one picture, or two either side of the line. The view stays where it is if the size does.
   *
   * @param {{label: string, image: CanvasImageSource}[]} sides with `width` and `height`, all the same
   */
  show(sides) {
    const { width, height } = sides[0].image;
    const same = this.size?.width === width && this.size?.height === height;
    this.sides = sides;
    this.size = { width, height };
    this.divider.hidden = sides.length < 2;
    if (same) this.changed();
    else this.reset();
  }

  /** Nothing more to show; pictures may be closed. */
  clear() {
    this.sides = [];
    this.size = null;
    this.divider.hidden = true;
    this.changed();
  }

  reset() {
    this.line = 50;
    this.fit();
  }

  /** The whole picture in the middle; small ones enlarged to whole multiples. */
  fit() {
    if (!this.size) return;
    this.scale = this.fitting();
    this.centre = { x: this.size.width / 2, y: this.size.height / 2 };
    this.changed();
  }

  fitting() {
    const scale = Math.min(this.canvas.width / this.size.width, this.canvas.height / this.size.height);
    return scale > 1 ? Math.min(Math.floor(scale), LARGEST) : scale;
  }

  /** Zoom by a factor, about a place of the canvas that keeps its pixel. */
  zoom(factor, at = { x: this.canvas.width / 2, y: this.canvas.height / 2 }) {
    if (!this.size) return;
    const scale = clamp(this.scale * factor, Math.min(this.fitting(), 1), LARGEST);
    const away = 1 / this.scale - 1 / scale;
    this.centre.x += (at.x - this.canvas.width / 2) * away;
    this.centre.y += (at.y - this.canvas.height / 2) * away;
    this.scale = scale;
    this.changed();
  }

  oneToOne() {
    if (this.size) this.zoom(1 / this.scale);
  }

  /** Move the view by pixels of the canvas. */
  pan(x, y) {
    if (!this.size) return;
    this.centre.x += x / this.scale;
    this.centre.y += y / this.scale;
    this.changed();
  }

  moveLine(percent) {
    this.line = clamp(percent, 0, 100);
    this.changed();
  }

  resized() {
    const whole = this.size && this.scale === this.fitting();
    const box = this.stage.getBoundingClientRect();
    this.ratio = globalThis.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(box.width * this.ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * this.ratio));
    if (whole) this.fit();
    else this.changed();
  }

  changed() {
    if (this.size) {
      for (const [axis, side] of [["x", "width"], ["y", "height"]]) {
        const half = this.canvas[side] / 2 / this.scale;
        const middle = this.size[side] / 2;
        const free = Math.max(middle - half, 0);
        this.centre[axis] = clamp(this.centre[axis], middle - free, middle + free);
      }
    }
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
      this.say();
    });
  }

  draw() {
    const { canvas, context } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.size) return;
    const width = this.size.width * this.scale;
    const height = this.size.height * this.scale;
    const x = Math.round(canvas.width / 2 - this.centre.x * this.scale);
    const y = Math.round(canvas.height / 2 - this.centre.y * this.scale);
    const line = this.sides.length > 1 ? Math.round((canvas.width * this.line) / 100) : canvas.width;
    context.imageSmoothingEnabled = this.scale < 1; // enlarged pixels keep their edges
    context.imageSmoothingQuality = "high";
    for (const [side, from, to] of [[0, 0, line], [1, line, canvas.width]]) {
      if (to <= from) continue;
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, canvas.height);
      context.clip();
      context.drawImage(this.sides[side].image, x, y, width, height);
      context.restore();
    }
  }

  /** Tell where the view is, to eyes and to assistive technology. */
  say() {
    const percent = Math.round(this.line);
    const [left, right] = this.sides.map((side) => side.label);
    this.divider.style.left = `${this.line}%`;
    this.divider.setAttribute("aria-valuenow", percent);
    this.divider.setAttribute("aria-valuetext", `${percent} %, ${left} on its left, ${right} on its right`);
    const scale = this.size ? `${Math.round(100 * this.scale)} %` : "";
    this.output.textContent = scale;
    const shown = right ? `${left}, and right of the line ${right}` : left;
    this.canvas.setAttribute("aria-label", shown ? `${shown}, at ${scale}` : "No picture yet");
    const enlarged = Boolean(this.size) && this.scale > this.fitting();
    this.stage.classList.toggle("enlarged", enlarged);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const line = event.target === this.divider;
    const across = SHIFT * this.canvas.width;
    const down = SHIFT * this.canvas.height;
    const step = event.shiftKey ? 5 * LINE_STEP : LINE_STEP;
    const actions = {
      "+": () => this.zoom(STEP),
      "=": () => this.zoom(STEP),
      "-": () => this.zoom(1 / STEP),
      "_": () => this.zoom(1 / STEP),
      0: () => this.fit(),
      1: () => this.oneToOne(),
      Escape: () => this.reset(),
      ArrowLeft: () => (line ? this.moveLine(this.line - step) : this.pan(-across, 0)),
      ArrowRight: () => (line ? this.moveLine(this.line + step) : this.pan(across, 0)),
      ArrowUp: () => (line ? this.moveLine(this.line + step) : this.pan(0, -down)),
      ArrowDown: () => (line ? this.moveLine(this.line - step) : this.pan(0, down)),
    };
    const ofLine = {
      Home: () => this.moveLine(0),
      End: () => this.moveLine(100),
      PageUp: () => this.moveLine(this.line + 5 * LINE_STEP),
      PageDown: () => this.moveLine(this.line - 5 * LINE_STEP),
    };
    const action = actions[event.key] ?? (line ? ofLine[event.key] : undefined);
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** A wheel zooms where the stage has the focus, or with the key that zooms elsewhere; else it scrolls the page. */
  wheel(event) {
    if (!(event.ctrlKey || this.stage.contains(document.activeElement))) return;
    event.preventDefault();
    this.zoom(Math.exp(-clamp(event.deltaY, -200, 200) / 300), this.place(event));
  }

  place({ clientX, clientY }) {
    const box = this.stage.getBoundingClientRect();
    return { x: (clientX - box.left) * this.ratio, y: (clientY - box.top) * this.ratio };
  }

  down(event) {
    if (!this.size || event.button > 0) return;
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    const onLine = this.divider.contains(event.target);
    const whole = !this.stage.classList.contains("enlarged");
    this.dragged = this.sides.length > 1 && (onLine || whole) ? "line" : "picture";
    this.stage.classList.toggle("grabbed", this.dragged === "picture");
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.place(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) {
      const apart = (a) => Math.hypot(a.x - other.x, a.y - other.y);
      this.zoom(apart(now) / Math.max(apart(before), 1), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      this.pan((before.x - now.x) / 2, (before.y - now.y) / 2);
    } else if (this.dragged === "line") {
      this.moveLine((100 * now.x) / this.canvas.width);
    } else {
      this.pan(before.x - now.x, before.y - now.y);
    }
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.stage.classList.remove("grabbed");
  }
}
