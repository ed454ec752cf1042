// The corner plot: what a catalogue states of a few labels of a star, normal distributions.

const LEFT = 72, BOTTOM = 46, TOP = 20, RIGHT = 62; // there is room for the title of the last curve

class Corner {
  constructor(canvas) {
    this.canvas = canvas;
    this.labels = [];
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(canvas);
  }

  // labels: those with a value; rho(i, j) of two of them
  show(labels, rho) {
    Object.assign(this, { labels, rho });
    const wide = this.canvas.parentElement.clientWidth || 320;
    const cell = Math.min(116, (wide - LEFT - RIGHT) / labels.length);
    this.canvas.style.height = `${labels.length ? cell * labels.length + BOTTOM + TOP : 0}px`;
    this.draw();
  }

  draw() {
    const { canvas, labels } = this, count = labels.length;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    if (!count || !height) return;
    const pen = this.pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const left = LEFT, top = TOP, gap = 6;
    this.cell = Math.min((width - left - RIGHT) / count, (height - BOTTOM - top) / count) - gap;
    this.width = width;
    for (let i = 0; i < count; i++) for (let j = 0; j <= i; j++) {
      const box = { x: left + j * (this.cell + gap), y: top + i * (this.cell + gap) };
      pen.strokeStyle = colour("line");
      pen.strokeRect(box.x, box.y, this.cell, this.cell);
      if (i === j) this.curve(box, labels[i]); else this.ellipses(box, labels[j], labels[i], this.rho(j, i));
      if (i === count - 1) this.below(box, labels[j]);
      if (j === 0 && i > 0) this.beside(box, labels[i]);
    }
  }

  // four sigma either way
  at(box, u) { return box + ((u + 4) / 8) * this.cell; }

  curve(box, label) {
    const pen = this.pen;
    pen.strokeStyle = colour("model");
    pen.fillStyle = colour("band");
    pen.beginPath();
    for (let u = -1; u <= 1.001; u += 0.1) pen.lineTo(this.at(box.x, u), this.height(box, u));
    pen.lineTo(this.at(box.x, 1), box.y + this.cell); pen.lineTo(this.at(box.x, -1), box.y + this.cell);
    pen.fill();
    pen.beginPath();
    for (let u = -4; u <= 4.001; u += 0.1) pen.lineTo(this.at(box.x, u), this.height(box, u));
    pen.lineWidth = 1.5; pen.stroke(); pen.lineWidth = 1;
    pen.fillStyle = colour("ink");
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "left"; pen.textBaseline = "bottom";
    const unit = label.unit && label.unit !== "dex" ? ` ${label.unit}` : "";
    const value = `${rounded(label.value, label.sigma)} ± ${rounded(label.sigma, label.sigma)}${unit}`;
    const text = `${pretty(label.name)} = ${value}`, room = this.width - box.x - 2;
    pen.fillText(pen.measureText(text).width > room ? value : text, box.x, box.y - 3, room);
  }

  height(box, u) { return box.y + this.cell * (1 - 0.85 * Math.exp((-u * u) / 2)); }

  ellipses(box, one, other, rho) {
    const pen = this.pen;
    if (!Number.isFinite(rho)) { this.unsaid(box); return; }
    for (const [size, alpha] of [[2, 0.35], [1, 0.8]]) {
      pen.beginPath();
      for (let t = 0; t <= 2 * Math.PI + 0.01; t += Math.PI / 60) {
        const a = Math.cos(t), b = rho * a + Math.sqrt(Math.max(0, 1 - rho * rho)) * Math.sin(t);
        pen.lineTo(this.at(box.x, size * a), box.y + this.cell - (this.at(0, size * b)));
      }
      pen.globalAlpha = alpha; pen.fillStyle = colour("band"); pen.fill(); pen.globalAlpha = 1;
      pen.strokeStyle = colour("model"); pen.stroke();
    }
    pen.fillStyle = colour("soft");
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right"; pen.textBaseline = "top";
    if (this.cell > 55) pen.fillText(`ρ ${rho.toFixed(2).replace("-", "−")}`, box.x + this.cell - 4, box.y + 4);
  }

  unsaid(box) {
    this.pen.fillStyle = colour("soft");
    this.pen.font = "11px system-ui, sans-serif";
    this.pen.textAlign = "center"; this.pen.textBaseline = "middle";
    this.pen.fillText("ρ not stated", box.x + this.cell / 2, box.y + this.cell / 2, this.cell - 6);
  }

  marks(label) { return [-2, 2].map((u) => [u, rounded(label.value + u * label.sigma, label.sigma)]); }

  below(box, label) {
    const pen = this.pen, y = box.y + this.cell;
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = colour("soft"); pen.strokeStyle = colour("soft");
    pen.textAlign = "center"; pen.textBaseline = "top";
    let marks = this.marks(label);
    const wide = marks.reduce((sum, [, text]) => sum + pen.measureText(text).width / 2, 10);
    if (wide > this.cell / 2) marks = [[0, rounded(label.value, label.sigma)]];
    for (const [u, text] of marks) {
      pen.beginPath(); pen.moveTo(this.at(box.x, u), y); pen.lineTo(this.at(box.x, u), y + 4); pen.stroke();
      pen.fillText(text, this.at(box.x, u), y + 6);
    }
    pen.fillStyle = colour("ink"); pen.font = "12px system-ui, sans-serif";
    pen.fillText(pretty(label.name), box.x + this.cell / 2, y + 24);
  }

  beside(box, label) {
    const pen = this.pen;
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = colour("soft"); pen.strokeStyle = colour("soft");
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const [u, text] of this.marks(label)) {
      const y = box.y + this.cell - this.at(0, u);
      pen.beginPath(); pen.moveTo(box.x - 4, y); pen.lineTo(box.x, y); pen.stroke();
      pen.fillText(text, box.x - 6, y);
    }
    pen.save();
    pen.translate(12, box.y + this.cell / 2); pen.rotate(-Math.PI / 2);
    pen.textAlign = "center"; pen.fillStyle = colour("ink"); pen.font = "12px system-ui, sans-serif";
    pen.fillText(pretty(label.name), 0, 0);
    pen.restore();
  }
}
