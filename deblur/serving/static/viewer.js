// Two pictures of one size, one over the other, with a border between them that can be moved.
//
// Places are in CSS pixels from the stage's top left corner. A zoom of 1 shows one pixel of the
// picture on one pixel of the screen, whatever the screen's density.

const MOST = 16;
const STEP = Math.sqrt(2);
const PIXELATED_ABOVE = 2;

const MARKUP = `
  <div class="layer"><img alt="The deblurred photograph" draggable="false"></div>
  <div class="layer before"><img alt="The photograph as it was" draggable="false"></div>
  <span class="tag left">Before</span><span class="tag right">After</span>
  <div class="border" role="slider" tabindex="0" aria-label="Border between before and after"
    aria-orientation="horizontal" aria-valuemin="0" aria-valuemax="100">
    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="m9 7-5 5 5 5M15 7l5 5-5 5"/></svg>
  </div>`;

const BUTTONS = `
  <button type="button" class="small" aria-label="Zoom out" title="Zoom out (−)">−</button>
  <output aria-label="Zoom"></output>
  <button type="button" class="small" aria-label="Zoom in" title="Zoom in (+)">+</button>
  <button type="button" class="small" title="Whole photograph (0)">Fit</button>
  <button type="button" class="small" title="A pixel on a pixel (1)">100 %</button>`;

export class Viewer {
  #stage;
  #after;
  #before;
  #layer;
  #border;
  #tags;
  #zoomLabel;
  #size = null; // [width, height] of the picture, or null while there is none
  #scale = 1;
  #x = 0;
  #y = 0;
  #fitted = true;
  #split = 0.5;
  #pointers = new Map();
  #dragging = null;

  /** `stage` takes the pictures, `buttons` what zooms them. Both are filled here. */
  constructor(stage, buttons) {
    this.#stage = stage;
    stage.innerHTML = MARKUP;
    [this.#after, this.#before] = stage.querySelectorAll("img");
    this.#layer = stage.querySelector(".before");
    this.#border = stage.querySelector("[role=slider]");
    this.#tags = stage.querySelectorAll(".tag");
    buttons.innerHTML = BUTTONS;
    const [out, inwards, fit, full] = buttons.querySelectorAll("button");
    this.#zoomLabel = buttons.querySelector("output");
    out.onclick = () => this.#zoomBy(1 / STEP);
    inwards.onclick = () => this.#zoomBy(STEP);
    fit.onclick = () => this.#fit();
    full.onclick = () => this.#zoomTo(1);
    new ResizeObserver(() => this.#resized()).observe(stage);
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      stage.addEventListener(end, (event) => this.#up(event));
    }
    stage.addEventListener("dblclick", (event) => this.#double(event));
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Shows the picture before the work; says whether the browser can show it. */
  async showBefore(url) {
    this.clear();
    return this.#show(this.#before, url);
  }

  /**
   * Shows the answer over it. "both": they can be compared. "alone": only the answer is shown.
   * "none": the browser cannot show the answer.
   */
  async showAfter(url) {
    const sizeBefore = this.#size;
    if (!(await this.#show(this.#after, url))) return "none";
    const same = sizeBefore && String(sizeBefore) === String(this.#size);
    if (!same) this.#before.removeAttribute("src");
    this.#stage.classList.toggle("comparing", Boolean(same));
    this.#split = same ? 0.5 : 0;
    this.#fit();
    return same ? "both" : "alone";
  }

  clear() {
    this.#size = null;
    this.#split = 1;
    this.#stage.classList.remove("comparing", "filled");
    for (const image of [this.#before, this.#after]) image.removeAttribute("src");
  }

  focus() {
    if (this.#stage.classList.contains("comparing")) this.#border.focus({ preventScroll: true });
  }

  async #show(image, url) {
    image.src = url;
    try {
      await image.decode();
    } catch {
      if (image.getAttribute("src") === url) image.removeAttribute("src");
      return false;
    }
    // While it was decoded the person may have gone on to another picture.
    if (image.getAttribute("src") !== url) return false;
    this.#size = [image.naturalWidth, image.naturalHeight];
    this.#stage.classList.add("filled");
    this.#fit();
    return true;
  }

  get #room() {
    return [this.#stage.clientWidth, this.#stage.clientHeight];
  }

  get #fitScale() {
    const [width, height] = this.#room;
    return Math.min(width / this.#size[0], height / this.#size[1], 2 / devicePixelRatio);
  }

  #fit() {
    if (!this.#size) return;
    this.#scale = this.#fitScale;
    this.#settle();
  }

  #zoomBy(factor, at) {
    this.#zoomTo(this.#scale * devicePixelRatio * factor, at);
  }

  /** Zooms and keeps the place `at` of the stage, by default its middle, where it is. */
  #zoomTo(zoom, at = this.#room.map((length) => length / 2)) {
    if (!this.#size) return;
    const least = this.#fitScale;
    const most = Math.max(MOST / devicePixelRatio, least);
    const scale = Math.min(Math.max(zoom / devicePixelRatio, least), most);
    this.#x = at[0] - ((at[0] - this.#x) * scale) / this.#scale;
    this.#y = at[1] - ((at[1] - this.#y) * scale) / this.#scale;
    this.#scale = scale;
    this.#settle();
  }

  #pan(right, down) {
    this.#x += right;
    this.#y += down;
    this.#settle();
  }

  #resized() {
    if (!this.#size) return;
    if (this.#fitted) this.#fit();
    else this.#zoomBy(1);
  }

  /** Keeps the picture in the stage: centred where it is smaller, without a gap where larger. */
  #settle() {
    const [x, y] = [this.#x, this.#y].map((place, axis) => {
      const room = this.#room[axis];
      const length = this.#size[axis] * this.#scale;
      return length <= room + 0.5
        ? (room - length) / 2
        : Math.min(0, Math.max(room - length, place));
    });
    [this.#x, this.#y] = [x, y];
    this.#fitted = this.#scale <= this.#fitScale * 1.001;
    this.#draw();
  }

  /** What is seen of the picture: left, top, right, bottom. */
  get #seen() {
    const [width, height] = this.#room;
    return [
      Math.max(0, this.#x),
      Math.max(0, this.#y),
      Math.min(width, this.#x + this.#size[0] * this.#scale),
      Math.min(height, this.#y + this.#size[1] * this.#scale),
    ];
  }

  #draw() {
    const [left, top, right, bottom] = this.#seen;
    const zoom = this.#scale * devicePixelRatio;
    for (const image of [this.#after, this.#before]) {
      image.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
      image.classList.toggle("pixelated", zoom > PIXELATED_ABOVE);
    }
    const border = left + this.#split * (right - left);
    this.#layer.style.clipPath = `inset(0 ${this.#room[0] - border}px 0 0)`;
    Object.assign(this.#border.style, {
      left: `${border}px`, top: `${top}px`, height: `${bottom - top}px`,
    });
    const percent = Math.round(this.#split * 100);
    this.#border.setAttribute("aria-valuenow", percent);
    this.#border.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
    const [leftTag, rightTag] = this.#tags;
    for (const tag of this.#tags) tag.style.top = `${top}px`;
    leftTag.style.left = `${left}px`;
    rightTag.style.right = `${this.#room[0] - right}px`;
    leftTag.classList.toggle("covered", border - left < leftTag.offsetWidth + 24);
    rightTag.classList.toggle("covered", right - border < rightTag.offsetWidth + 24);
    this.#zoomLabel.value = `${Math.round(zoom * 100)} %`;
    this.#stage.classList.toggle("zoomed", !this.#fitted);
  }

  #splitTo(share) {
    this.#split = Math.min(1, Math.max(0, share));
    this.#draw();
  }

  #place(event) {
    const box = this.#stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #wheel(event) {
    // At its smallest the picture leaves the wheel to the page.
    if (!this.#size || event.deltaY === 0 || (event.deltaY > 0 && this.#fitted)) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
    const turned = Math.min(120, Math.max(-120, event.deltaY * lines));
    this.#zoomBy(2 ** (-turned / 200), this.#place(event));
  }

  #down(event) {
    if (!this.#size || event.button !== 0) return;
    this.#stage.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#place(event));
    const comparing = this.#stage.classList.contains("comparing");
    const onBorder = this.#border.contains(event.target);
    if (onBorder) this.#border.focus({ preventScroll: true });
    this.#dragging = comparing && (onBorder || this.#fitted) ? "border" : "picture";
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before || !this.#size) return;
    const now = this.#place(event);
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, now);
    if (other) {
      this.#dragging = "picture";
      const apart = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]);
      const middle = (place) => [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2];
      const [from, to] = [middle(before), middle(now)];
      this.#pan(to[0] - from[0], to[1] - from[1]);
      this.#zoomBy(apart(now) / Math.max(1, apart(before)), to);
    } else if (this.#dragging === "border") {
      const [left, , right] = this.#seen;
      this.#splitTo((now[0] - left) / (right - left));
    } else {
      this.#pan(now[0] - before[0], now[1] - before[1]);
    }
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
  }

  #double(event) {
    if (!this.#size || this.#border.contains(event.target)) return;
    if (!this.#fitted) return this.#fit();
    this.#zoomTo(Math.max(1, this.#scale * devicePixelRatio * 2), this.#place(event));
  }

  #key(event) {
    const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (!this.#size || this.#stage.hidden || typing) return;
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#keyed(event)) return;
    event.preventDefault();
  }

  /** Whether the key meant something. */
  #keyed(event) {
    const { key } = event;
    const arrows = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    };
    if (event.shiftKey && key in arrows) {
      this.#pan(...arrows[key].map((direction) => direction * -60));
    } else if (key === "+" || key === "=") this.#zoomBy(STEP);
    else if (key === "-") this.#zoomBy(1 / STEP);
    else if (key === "0") this.#fit();
    else if (key === "1") this.#zoomTo(1);
    else if (event.target === this.#border) {
      const to = {
        ArrowLeft: this.#split - 0.01, ArrowDown: this.#split - 0.01,
        ArrowRight: this.#split + 0.01, ArrowUp: this.#split + 0.01,
        PageDown: this.#split - 0.1, PageUp: this.#split + 0.1, Home: 0, End: 1,
      }[key];
      if (to === undefined) return false;
      this.#splitTo(to);
    } else return false;
    return true;
  }
}
