// The table of stars: those around the chosen one, or those that a search finds; and the filters.

const ROWS = 10;

class Stars {
  constructor(choose) { this.choose = choose; }

  draw(scatter) {
    const text = $("search").value.trim().toLowerCase();
    let rows = [], caption = "";
    if (text && sky.ids) {
      for (let i = 0; i < sky.ids.length && rows.length < ROWS; i++) if (sky.ids[i].toLowerCase().includes(text)) rows.push(i);
      caption = rows.length ? `The first ${rows.length} stars with this name` : "No star has such a name";
    } else if (sky.star >= 0) {
      const x = scatter.toX(scatter.column("x")[sky.star]), y = scatter.toY(scatter.column("y")[sky.star]);
      for (const reach of [12, 40, 120, 400]) if (rows.length < ROWS) rows = scatter.near(x, y, reach, ROWS);
      if (!rows.includes(sky.star)) rows = [sky.star, ...rows.slice(0, ROWS - 1)];
      caption = "The star and those around it in the plot";
    } else {
      rows = Array.from(sky.shown.subarray(0, ROWS));
      caption = "The first stars";
    }
    this.fill(rows, caption);
  }

  fill(rows, caption) {
    const table = $("stars"), names = [...new Set([sky.axes.x, sky.axes.y, sky.axes.c].filter(Boolean))];
    table.querySelector("caption").textContent = caption;
    const [head, body] = ["thead", "tbody"].map((tag) => table.querySelector(tag));
    head.replaceChildren();
    body.replaceChildren();
    const top = element("tr", null, head);
    for (const name of ["star", ...names.map(pretty), "flags"]) element("th", name, top);
    const flags = sky.columns.get("result_flags");
    for (const row of rows) {
      const line = element("tr", null, body, row === sky.star ? { class: "here" } : {});
      const first = element("td", sky.ids ? sky.ids[row] : `row ${row}`, line);
      if (sky.ids) first.title = sky.ids[row];
      for (const name of names) element("td", shortly(name, row), line);
      const set = flags ? sky.about.flags.filter((flag) => flags[row] & flag.bit) : [];
      element("td", set.length ? `${set.length}` : "", line, { title: set.map((flag) => flag.name).join(", ") });
      line.addEventListener("click", () => this.choose(row));
    }
  }
}

class Filters {
  constructor(changed) {
    this.changed = changed;
    this.bits = 0;
    this.ranges = []; // [name, low, high]
    $("add-range").addEventListener("click", () => { this.ranges.push([sky.axes.c || sky.axes.x, null, null]); this.rows(); changed(); });
  }

  build() {
    const flags = sky.columns.get("result_flags"), parent = $("flags");
    parent.hidden = !flags;
    for (const old of parent.querySelectorAll("label")) old.remove();
    if (flags) for (const { bit, name, text, bad } of sky.about.flags) {
      let count = 0;
      for (let i = 0; i < flags.length; i++) if (flags[i] & bit) count++;
      if (!count) continue;
      const label = element("label", null, parent), box = element("input", null, label, { type: "checkbox" });
      box.checked = Boolean(this.bits & bit);
      element("span", `${name}${bad ? " (bad)" : ""}: ${text}; ${count.toLocaleString("en")} stars`, label);
      box.addEventListener("change", () => { this.bits = box.checked ? this.bits | bit : this.bits & ~bit; this.changed(); });
    }
    if (flags && !parent.querySelector("label")) element("label", "No star has a flag.", parent);
    this.rows();
  }

  rows() {
    $("ranges").replaceChildren();
    this.ranges.forEach((range, k) => {
      const line = element("div", null, $("ranges"), { class: "range" });
      const select = element("select", null, line, { "aria-label": "Column" });
      options(select, range[0], false);
      select.addEventListener("change", () => { range[0] = select.value; this.changed(); });
      [["from", 1], ["to", 2]].forEach(([word, at]) => {
        const input = element("input", null, line, { type: "number", step: "any", placeholder: word, "aria-label": word });
        if (range[at] !== null) input.value = range[at];
        input.addEventListener("change", () => { range[at] = input.value === "" ? null : Number(input.value); this.changed(); });
      });
      element("button", "×", line, { title: "Remove" }).addEventListener("click", () => { this.ranges.splice(k, 1); this.rows(); this.changed(); });
    });
  }

  async apply() {
    for (const [name] of this.ranges) await column(name);
    const flags = sky.columns.get("result_flags"), kept = new Int32Array(sky.about.rows);
    const limits = this.ranges.filter(([, low, high]) => low !== null || high !== null)
      .map(([name, low, high]) => [sky.columns.get(name), low === null ? -Infinity : low, high === null ? Infinity : high]);
    let count = 0;
    for (let i = 0; i < kept.length; i++) {
      if (flags && flags[i] & this.bits) continue;
      let inside = true;
      for (const [values, low, high] of limits) if (!(values[i] >= low && values[i] <= high)) { inside = false; break; }
      if (inside) kept[count++] = i;
    }
    sky.shown = kept.slice(0, count);
    const set = (this.bits ? 1 : 0) + limits.length;
    $("filtered").textContent = set ? `(${count.toLocaleString("en")} of ${kept.length.toLocaleString("en")} stars are left)` : "";
  }
}
