// The catalogue as points: typed arrays to pixels, and a grid of cells to find the star under the pointer.

const SCALE = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
  [92, 200, 99], [170, 220, 50], [253, 231, 37]]; // viridis
const CELL = 12; // CSS pixels
const REVERSED = { x: new Set(["teff"]), y: new Set(["logg", "m_k", "mk", "mag", "m_g"]) };

const sky = {
  about: null, // what the server says of the catalogue
  columns: new Map(), // name: Float32Array
  ids: null,
  axes: { x: "", y: "", c: "" },
  reverse: { x: false, y: false },
  shown: new Int32Array(0), // rows that pass the filters
  star: -1,
  over: -1,
  held: new Set(), // rows with a spectrum, where the page holds its own data
};

const widths = new Map(); // of columns, from which follows how many digits of a value are shown

function shortly(name, row) {
  const values = sky.columns.get(name);
  if (!widths.has(name)) { const [low, high] = quantiles(values, [0.02, 0.98]); widths.set(name, (high - low) / 50); }
  return rounded(values[row], widths.get(name));
}

function colourTable() {
  const table = new Uint32Array(257), [first, last] = dark.matches ? [0.2, 1] : [0, 0.92];
  for (let i = 0; i < 256; i++) {
    const at = (first + (last - first) * (i / 255)) * (SCALE.length - 1), k = Math.min(SCALE.length - 2, Math.floor(at));
    const [r, g, b] = [0, 1, 2].map((j) => Math.round(SCALE[k][j] + (at - k) * (SCALE[k + 1][j] - SCALE[k][j])));
    table[i] = (255 << 24) | (b << 16) | (g << 8) | r; // bytes of an image, on any machine with a browser
  }
  table[256] = (255 << 24) | (150 << 16) | (150 << 8) | 150;
  return table;
}

class Scatter extends Plot {
  constructor(canvas, hooks) {
    super(canvas, [10, 74, 42, 58], hooks);
    this.grid = null;
  }

  column(axis) { return sky.columns.get(sky.axes[axis]); }

  home() {
    const ends = ["x", "y"].map((axis) => {
      const all = this.column(axis), share = sky.shown.length > 2000 ? 0.0005 : 0;
      let [low, high] = quantiles(sky.shown.length ? Float32Array.from(sky.shown, (i) => all[i]) : all, [share, 1 - share]);
      if (!Number.isFinite(low)) [low, high] = [0, 1];
      const edge = 0.04 * (high - low) || 0.5;
      return sky.reverse[axis] ? [high + edge, low - edge] : [low - edge, high + edge];
    });
    this.view = ends.flat();
    this.changed();
  }

  draw() {
    if (!this.column("x") || !this.column("y")) return;
    const pen = this.begin();
    this.grid = null;
    this.points();
    const described = (axis) => sky.about.columns.find((one) => one.name === sky.axes[axis]) || { name: "", unit: "" };
    const title = (axis) => withUnit(described(axis).name, described(axis).unit);
    this.axes(title("x"), title("y"));
    if (sky.axes.c) this.bar(title("c"));
    pen.save();
    pen.beginPath(); pen.rect(this.box.x, this.box.y, this.box.w, this.box.h); pen.clip();
    for (const row of sky.held) this.ring(row, 5, colour("soft"), 1);
    if (sky.over >= 0) this.ring(sky.over, 6, colour("ink"), 1.5);
    if (sky.star >= 0) this.ring(sky.star, 8, colour("model"), 2.5);
    pen.restore();
  }

  points() {
    const { box, ratio } = this, xs = this.column("x"), ys = this.column("y");
    const x0 = Math.round(box.x * ratio), y0 = Math.round(box.y * ratio);
    const width = Math.round(box.w * ratio), height = Math.round(box.h * ratio);
    const image = this.context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    const count = sky.shown.length, css = count > 2e5 ? 1.5 : count > 2e4 ? 2 : count > 2000 ? 3 : 5;
    const size = Math.max(1, Math.round(css * ratio)), half = (size - 1) / 2;
    const stamp = []; // a disc
    for (let j = 0; j < size; j++) for (let i = 0; i < size; i++) {
      if ((i - half) ** 2 + (j - half) ** 2 <= (half + 0.3) ** 2) stamp.push([i - Math.round(half), j - Math.round(half)]);
    }
    const di = Int32Array.from(stamp, (s) => s[0]), dj = Int32Array.from(stamp, (s) => s[1]);
    const [a, b, c, d] = this.view, sx = width / (b - a), sy = height / (d - c);
    const table = colourTable(), of = this.column("c");
    [this.low, this.high] = of ? quantiles(of, [0.02, 0.98]) : [0, 1];
    const sc = 255 / (this.high - this.low || 1);
    let inside = 0;
    for (let k = 0; k < count; k++) {
      const row = sky.shown[k], x = Math.floor((xs[row] - a) * sx), y = Math.floor(height - (ys[row] - c) * sy);
      if (!(x >= 0 && x < width && y >= 0 && y < height)) continue; // NaN too
      inside++;
      const at = of ? (of[row] - this.low) * sc : 70;
      const ink = table[at !== at ? 256 : at < 0 ? 0 : at > 255 ? 255 : at | 0];
      for (let s = 0; s < di.length; s++) {
        const i = x + di[s], j = y + dj[s];
        if (i >= 0 && i < width && j >= 0 && j < height) pixels[j * width + i] = ink;
      }
    }
    this.inside = inside;
    this.context.putImageData(image, x0, y0);
  }

  bar(title) {
    const { context: pen, box } = this, x = box.x + box.w + 8, wide = 10;
    const table = colourTable();
    for (let i = 0; i < box.h; i++) {
      const ink = table[Math.round(255 * (1 - i / box.h))];
      pen.fillStyle = `rgb(${ink & 255},${(ink >> 8) & 255},${(ink >> 16) & 255})`;
      pen.fillRect(x, box.y + i, wide, 1.5);
    }
    pen.fillStyle = colour("soft");
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    for (const [value, text] of ticks(this.low, this.high, 6)) {
      pen.fillText(text, x + wide + 3, box.y + box.h * (1 - (value - this.low) / (this.high - this.low)));
    }
    pen.save();
    pen.translate(x + wide + 50, box.y + box.h / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.fillStyle = colour("ink");
    pen.fillText(title, 0, 0, box.h);
    pen.restore();
  }

  ring(row, radius, ink, width) {
    const x = this.toX(this.column("x")[row]), y = this.toY(this.column("y")[row]);
    if (!Number.isFinite(x + y)) return;
    this.context.strokeStyle = ink;
    this.context.lineWidth = width;
    this.context.beginPath(); this.context.arc(x, y, radius, 0, 7); this.context.stroke();
    this.context.lineWidth = 1;
  }

  // rows of each cell, as linked lists in two arrays; made when first needed after a change
  cells() {
    if (this.grid) return this.grid;
    const xs = this.column("x"), ys = this.column("y");
    const across = Math.ceil(this.box.w / CELL), down = Math.ceil(this.box.h / CELL);
    const first = new Int32Array(across * down).fill(-1), next = new Int32Array(sky.shown.length);
    for (let k = 0; k < sky.shown.length; k++) {
      const row = sky.shown[k];
      const i = Math.floor((this.toX(xs[row]) - this.box.x) / CELL), j = Math.floor((this.toY(ys[row]) - this.box.y) / CELL);
      if (!(i >= 0 && i < across && j >= 0 && j < down)) continue;
      next[k] = first[j * across + i];
      first[j * across + i] = k;
    }
    this.grid = { across, down, first, next };
    return this.grid;
  }

  // rows near a place, the nearest first, within so many CSS pixels
  near(x, y, reach = CELL, most = 1) {
    if (!this.column("x") || !this.box) return [];
    const { across, down, first, next } = this.cells(), xs = this.column("x"), ys = this.column("y");
    const found = [], around = Math.ceil(reach / CELL);
    const i0 = Math.floor((x - this.box.x) / CELL), j0 = Math.floor((y - this.box.y) / CELL);
    for (let j = Math.max(0, j0 - around); j <= Math.min(down - 1, j0 + around); j++) {
      for (let i = Math.max(0, i0 - around); i <= Math.min(across - 1, i0 + around); i++) {
        for (let k = first[j * across + i]; k >= 0; k = next[k]) {
          const row = sky.shown[k], far = Math.hypot(this.toX(xs[row]) - x, this.toY(ys[row]) - y);
          if (far <= reach) found.push([far, row]);
        }
      }
    }
    found.sort((one, other) => one[0] - other[0]);
    return found.slice(0, most).map((one) => one[1]);
  }
}
