// One spectrum: observed with its errors, the model over it, residuals below, lines that drive a label.

const SIGMAS = 6; // limit of the residuals
const LIGHT = 299792.458; // km/s

class SpectrumPlot extends Plot {
  constructor(canvas, changed) {
    super(canvas, [10, 12, 42, 58], { draw: () => this.draw(), home: () => this.home(), changed }, true);
    this.one = null;
    this.lines = []; // [wavelength, share]
  }

  show(one) {
    this.one = one;
    if (one) this.scale = Math.abs(quantiles(one.flux.filter((_, i) => one.sigma[i] > 0), [0.5])[0]) || 1;
    this.later();
  }

  home() {
    if (!this.one) return;
    const all = this.one.wavelength, edge = 0.01 * (all[all.length - 1] - all[0]);
    this.view = [all[0] - edge, all[all.length - 1] + edge, 0, 1];
    this.changed();
  }

  look(wavelength) { // at one line
    const half = Math.max(wavelength * 0.0035, 4);
    this.view = [wavelength - half, wavelength + half, 0, 1];
    this.changed();
  }

  range() {
    const { wavelength: w, flux, sigma, model } = this.one;
    let first = 0, last = w.length - 1;
    while (first < last && w[first] < this.view[0]) first++;
    while (last > first && w[last] > this.view[1]) last--;
    [first, last] = [Math.max(0, first - 1), Math.min(w.length - 1, last + 1)];
    const good = [], drawn = [];
    for (let i = first; i <= last; i++) {
      if (sigma[i] > 0) good.push(flux[i]);
      if (model && Number.isFinite(model[i])) drawn.push(model[i]);
    }
    let [low, high] = quantiles(good, [0.004, 0.996]);
    const [least, most] = quantiles(drawn, [0, 1]);
    low = Math.min(low, Number.isFinite(least) ? least : low);
    high = Math.max(high, Number.isFinite(most) ? most : high);
    if (!Number.isFinite(low)) [low, high] = [0, this.scale];
    const edge = 0.08 * (high - low) || 0.1 * this.scale;
    return [first, last, low - edge, high + edge * (this.lines.length ? 2.2 : 1)];
  }

  draw() {
    if (!this.canvas.clientWidth || !this.one) return;
    const pen = this.begin(), whole = { ...this.box };
    const [first, last, low, high] = this.range();
    this.view = [this.view[0], this.view[1], low / this.scale, high / this.scale];
    const below = this.one.model ? Math.round(whole.h * 0.24) : 0;
    this.box.h = whole.h - below - (below ? 10 : 0);
    const lower = { ...whole, y: whole.y + whole.h - below, h: below };
    this.clipped(this.box, () => {
      this.unused(first, last, this.box);
      this.marks();
      this.band(first, last);
      this.path(this.one.flux, first, last, colour("data"), 1, (i) => this.one.sigma[i] > 0);
      if (this.one.model) this.path(this.one.model, first, last, colour("model"), last - first > 1500 ? 0.9 : 1.6, () => true);
    });
    this.axes(null, "flux / median");
    if (below) this.residuals(first, last, lower);
    this.box = whole;
    this.scaleX(`wavelength in vacuum, ${this.one.rest ? "at rest" : "as observed"} [Å]`);
  }

  clipped(box, act) {
    this.context.save();
    this.context.beginPath();
    this.context.rect(box.x, box.y, box.w, box.h);
    this.context.clip();
    act();
    this.context.restore();
  }

  unused(first, last, box) {
    const { wavelength: w, sigma, used } = this.one, pen = this.context;
    pen.fillStyle = colour("unused");
    pen.globalAlpha = 0.35;
    const out = (i) => !(sigma[i] > 0) || (used && !(used[i] > 0));
    for (let i = first; i <= last; i++) {
      if (!out(i)) continue;
      const from = i;
      while (i < last && out(i + 1)) i++;
      const edge = (k, l) => this.toX((w[k] + w[Math.max(0, Math.min(w.length - 1, l))]) / 2);
      const left = edge(from, from - 1), right = edge(i, i + 1);
      pen.fillRect(left, box.y, Math.max(1, right - left), box.h);
    }
    pen.globalAlpha = 1;
  }

  marks() {
    const pen = this.context;
    pen.strokeStyle = pen.fillStyle = colour("mark");
    pen.textAlign = "center";
    pen.textBaseline = "top";
    let text = -1e9;
    for (const [wavelength] of [...this.lines].sort((a, b) => a[0] - b[0])) {
      const x = this.toX(wavelength);
      if (x < this.box.x || x > this.box.x + this.box.w) continue;
      pen.setLineDash([3, 3]);
      pen.beginPath(); pen.moveTo(x, this.box.y + 18); pen.lineTo(x, this.box.y + this.box.h); pen.stroke();
      pen.setLineDash([]);
      if (x - text > 52) { pen.fillText(wavelength.toFixed(1), Math.max(this.box.x + 24, Math.min(x, this.box.x + this.box.w - 24)), this.box.y + 4); text = x; }
    }
  }

  band(first, last) {
    const { wavelength: w, flux, sigma } = this.one, pen = this.context;
    pen.fillStyle = colour("band");
    for (let i = first; i <= last; i++) {
      if (!(sigma[i] > 0)) continue;
      const from = i;
      while (i < last && sigma[i + 1] > 0) i++;
      pen.beginPath();
      for (let k = from; k <= i; k++) pen.lineTo(this.toX(w[k]), this.toY((flux[k] + sigma[k]) / this.scale));
      for (let k = i; k >= from; k--) pen.lineTo(this.toX(w[k]), this.toY((flux[k] - sigma[k]) / this.scale));
      pen.fill();
    }
  }

  path(values, first, last, ink, width, there) {
    const pen = this.context, w = this.one.wavelength;
    pen.strokeStyle = ink;
    pen.lineWidth = width;
    pen.lineJoin = "round";
    pen.beginPath();
    let drawing = false;
    for (let i = first; i <= last; i++) {
      if (!there(i) || !Number.isFinite(values[i])) { drawing = false; continue; }
      const x = this.toX(w[i]), y = this.toY(values[i] / this.scale);
      if (drawing) pen.lineTo(x, y); else pen.moveTo(x, y);
      drawing = true;
    }
    pen.stroke();
    pen.lineWidth = 1;
  }

  residuals(first, last, box) {
    const { wavelength: w, flux, error, model, used } = this.one, pen = this.context;
    const to = (value) => box.y + box.h * (0.5 - value / (2 * SIGMAS));
    this.clipped(box, () => {
      this.unused(first, last, box);
      pen.fillStyle = colour("band");
      pen.fillRect(box.x, to(1), box.w, to(-1) - to(1));
      pen.fillStyle = colour("data");
      for (let i = first; i <= last; i++) {
        const value = (flux[i] - model[i]) / error[i];
        if (!Number.isFinite(value)) continue;
        pen.globalAlpha = !used || used[i] > 0 ? 1 : 0.35;
        pen.fillRect(this.toX(w[i]) - 0.75, to(Math.max(-SIGMAS, Math.min(SIGMAS, value))) - 0.75, 1.5, 1.5);
      }
      pen.globalAlpha = 1;
    });
    pen.strokeStyle = colour("soft");
    pen.strokeRect(box.x + 0.5, box.y + 0.5, box.w, box.h);
    this.scaleY("residual / σ", box, [-SIGMAS, SIGMAS], to);
  }
}
