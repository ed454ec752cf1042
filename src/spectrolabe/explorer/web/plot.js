// A canvas with axes that can be moved and zoomed by mouse, touch and wheel.

class Plot {
  // hooks: draw() after the view has changed, home() to show all, click(x, y), hover(x, y) or hover()
  constructor(canvas, margins, hooks, alongX = false) {
    Object.assign(this, { canvas, margins, hooks, alongX });
    this.context = canvas.getContext("2d");
    this.view = [0, 1, 0, 1]; // at the left, right, bottom, top: left may be more than right
    this.pointers = new Map();
    this.waiting = false;
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.up(event, name === "pointerup"));
    }
    canvas.addEventListener("pointerleave", () => hooks.hover && hooks.hover());
    canvas.addEventListener("dblclick", () => hooks.home());
    new ResizeObserver(() => this.later()).observe(canvas);
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.hooks.draw(); });
  }

  begin() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const [top, right, bottom, left] = this.margins;
    this.box = { x: left, y: top, w: Math.max(10, width - left - right), h: Math.max(10, height - top - bottom) };
    this.ratio = ratio;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, height);
    this.context.font = "12px system-ui, sans-serif";
    this.context.lineWidth = 1;
    return this.context;
  }

  toX(value) { const [a, b] = this.view; return this.box.x + ((value - a) / (b - a)) * this.box.w; }
  toY(value) { const [, , a, b] = this.view; return this.box.y + (1 - (value - a) / (b - a)) * this.box.h; }

  zoom(factor, x = this.box.x + this.box.w / 2, y = this.box.y + this.box.h / 2) {
    const fx = (x - this.box.x) / this.box.w, fy = 1 - (y - this.box.y) / this.box.h;
    const [a, b, c, d] = this.view;
    const atX = a + fx * (b - a), atY = c + fy * (d - c);
    this.view = [atX + (a - atX) * factor, atX + (b - atX) * factor, c, d];
    if (!this.alongX) this.view = [...this.view.slice(0, 2), atY + (c - atY) * factor, atY + (d - atY) * factor];
    this.changed();
  }

  shift(dx, dy) {
    const [a, b, c, d] = this.view;
    const x = (-dx / this.box.w) * (b - a), y = this.alongX ? 0 : (dy / this.box.h) * (d - c);
    this.view = [a + x, b + x, c + y, d + y];
    this.changed();
  }

  changed() { this.later(); if (this.hooks.changed) this.hooks.changed(); }

  place(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(Math.sign(event.deltaY) * 0.18), ...this.place(event));
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    this.moved = this.pointers.size > 1 ? 99 : 0;
  }

  move(event) {
    const now = this.place(event), before = this.pointers.get(event.pointerId);
    if (!before) { if (this.hooks.hover) this.hooks.hover(...now); return; }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    this.pointers.set(event.pointerId, now);
    if (others.length) {
      const [ox, oy] = others[0][1];
      const far = (p) => Math.max(8, Math.hypot(p[0] - ox, p[1] - oy));
      this.zoom(far(before) / far(now), (now[0] + ox) / 2, (now[1] + oy) / 2);
      return;
    }
    this.moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (this.moved > 4) this.shift(now[0] - before[0], now[1] - before[1]);
  }

  up(event, clicked) {
    const last = this.pointers.size === 1;
    if (!this.pointers.delete(event.pointerId)) return;
    if (clicked && last && this.moved <= 4 && this.hooks.click) this.hooks.click(...this.place(event));
  }

  axes(xTitle, yTitle) {
    const { context: pen, box } = this;
    pen.strokeStyle = colour("soft");
    pen.strokeRect(box.x + 0.5, box.y + 0.5, box.w, box.h);
    if (xTitle !== null) this.scaleX(xTitle);
    this.scaleY(yTitle, box, this.view.slice(2), (value) => this.toY(value));
  }

  scaleX(title) {
    const { context: pen, box } = this;
    pen.fillStyle = colour("soft");
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const [value, text] of ticks(this.view[0], this.view[1], box.w / 55)) {
      const x = this.toX(value);
      pen.beginPath(); pen.moveTo(x, box.y + box.h); pen.lineTo(x, box.y + box.h + 4); pen.stroke();
      const edge = this.canvas.clientWidth - pen.measureText(text).width / 2 - 1;
      pen.fillText(text, Math.min(x, edge), box.y + box.h + 6);
    }
    pen.fillStyle = colour("ink");
    pen.fillText(title, box.x + box.w / 2, box.y + box.h + 22, box.w);
  }

  scaleY(title, box, range, to) {
    const pen = this.context;
    pen.fillStyle = colour("soft");
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const [value, text] of ticks(range[0], range[1], Math.max(3, box.h / 45))) {
      const y = to(value);
      pen.beginPath(); pen.moveTo(box.x - 4, y); pen.lineTo(box.x, y); pen.stroke();
      pen.fillText(text, box.x - 6, y);
    }
    pen.save();
    pen.translate(11, box.y + box.h / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.fillStyle = colour("ink");
    pen.fillText(title, 0, 0, box.h);
    pen.restore();
  }
}

// places and texts of marks along an axis, about so many
function ticks(from, to, count) {
  const low = Math.min(from, to), high = Math.max(from, to);
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((k) => k * power >= rough) * power;
  const digits = Math.max(0, Math.min(8, -Math.floor(Math.log10(step) + 1e-9)));
  const largest = Math.max(Math.abs(low), Math.abs(high));
  const write = largest >= 1e6 || largest < 1e-4
    ? (v) => v.toExponential(1) : (v) => v.toFixed(digits).replace("-", "−");
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push([k * step, write(k * step)]);
  return found;
}
