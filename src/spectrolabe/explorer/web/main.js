// The page as a whole: what is chosen, the address that keeps it, keys.

async function column(name) {
  if (!name || sky.columns.has(name)) return;
  const at = sky.about.columns.findIndex((one) => one.name === name);
  const found = await ask(`/column/${at}`);
  sky.columns.set(name, found ? numbers(found) : new Float32Array(sky.about.rows).fill(NaN));
}

function options(select, value, nothing) {
  select.replaceChildren();
  if (nothing) element("option", "none", select, { value: "" });
  const of = { Labels: [], "Of the spectrum": [], Errors: [], "Before calibration": [], Flags: [] };
  for (const one of sky.about.columns) {
    const kind = sky.about.labels.includes(one.name) ? "Labels" : /flags?(_|$)/.test(one.name) ? "Flags"
      : one.name.startsWith("raw_") ? "Before calibration" : one.name.startsWith("e_") ? "Errors" : "Of the spectrum";
    of[kind].push(one);
  }
  for (const [kind, list] of Object.entries(of)) {
    if (!list.length) continue;
    const group = element("optgroup", null, select, { label: kind });
    for (const one of list) element("option", pretty(one.name), group, { value: one.name, title: one.text });
  }
  select.value = value;
}

const scatter = new Scatter($("scatter"), {
  draw: () => { if (sky.about && scatter.column("x") && scatter.column("y")) { scatter.draw(); told(); } },
  home: () => { scatter.home(); },
  changed: () => remember(),
  click: (x, y) => { const [row] = scatter.near(x, y, 20); if (row !== undefined) choose(row); },
  hover: (x, y) => hover(x, y),
});
const panel = new StarPanel(() => remember());
const stars = new Stars((row) => choose(row));
const filters = new Filters(async () => { await filters.apply(); scatter.later(); stars.draw(scatter); remember(); });

function told() {
  if (!STATE.drawn) STATE.drawn = Math.round(performance.now());
  STATE.shown = scatter.inside;
  const all = sky.about.rows.toLocaleString("en"), here = scatter.inside.toLocaleString("en");
  $("counts").textContent = `${all} rows, ${here} in view`;
  $("save").textContent = `Save ${here} names`;
}

function hover(x, y) {
  const [row] = x === undefined ? [] : scatter.near(x, y);
  const tip = $("tip");
  tip.hidden = row === undefined;
  if (row !== undefined) {
    const lines = [sky.ids ? sky.ids[row] : `row ${row}`];
    for (const name of new Set([sky.axes.x, sky.axes.y, sky.axes.c].filter(Boolean))) lines.push(`${pretty(name)} ${shortly(name, row)}`);
    tip.textContent = lines.join("\n");
    tip.style.left = `${Math.min(x + 14, Math.max(0, scatter.canvas.clientWidth - 190))}px`;
    tip.style.top = `${y + 14}px`;
  }
  if (sky.over !== (row ?? -1)) { sky.over = row ?? -1; drawRings(); }
}

// rings need no new points where there are few; where there are many, the ring of the pointer is left out
function drawRings() { if (sky.shown.length < 50000) scatter.later(); }

async function choose(row) {
  sky.star = row;
  scatter.later();
  stars.draw(scatter);
  remember();
  await panel.show(row);
}

function step(by) {
  const rows = sky.shown;
  if (!rows.length) return;
  let at = 0, high = rows.length; // the first row at or after the star: rows ascend
  while (at < high) { const middle = (at + high) >> 1; if (rows[middle] < sky.star) at = middle + 1; else high = middle; }
  const here = rows[at] === sky.star;
  if (sky.star < 0) at = 0; else at = by > 0 ? at + (here ? 1 : 0) : at - 1;
  choose(rows[(at + rows.length) % rows.length]);
}

async function axis(name, value) {
  sky.axes[name] = value;
  await column(value);
  if (name !== "c") {
    sky.reverse[name] = REVERSED[name].has(value);
    $(`r${name}`).checked = sky.reverse[name];
    scatter.home();
  }
  scatter.later();
  stars.draw(scatter);
  remember();
}

// the address: #x=teff&y=logg&c=fe_h&v=...&star=...

let remembering = 0, ready = false, written = "";

function remember() {
  if (!ready) return;
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    const said = new URLSearchParams();
    for (const name of ["x", "y", "c"]) said.set(name, sky.axes[name]);
    said.set("v", scatter.view.map((value) => Number(value.toPrecision(6))).join(","));
    if (filters.bits) said.set("hide", filters.bits);
    for (const [name, low, high] of filters.ranges) said.append("range", [name, low ?? "", high ?? ""].join(","));
    if (sky.star >= 0) {
      const id = sky.ids ? sky.ids[sky.star] : "";
      if (id && sky.ids.indexOf(id) === sky.star) said.set("star", id); else said.set("row", sky.star);
      said.set("w", panel.plot.view.slice(0, 2).map((value) => Number(value.toPrecision(8))).join(","));
      if (panel.element) said.set("lines", panel.element);
      if (panel.chosen) said.set("labels", panel.chosen.join(","));
    }
    written = `#${said}`;
    history.replaceState(null, "", written);
  }, 150);
}

const finite = (text, count) => {
  const values = (text || "").split(",").map(Number);
  return text && values.length === count && values.every(Number.isFinite) ? values : null;
};

async function recall() {
  const said = new URLSearchParams(location.hash.slice(1)), known = new Set(sky.about.columns.map((one) => one.name));
  const first = (...names) => names.find((name) => known.has(name)) || "";
  const every = sky.about.columns[0] ? sky.about.columns[0].name : "";
  const wanted = (name, otherwise) => known.has(said.get(name)) ? said.get(name) : otherwise;
  sky.axes.x = wanted("x", first("teff", sky.about.labels[0]) || every);
  sky.axes.y = wanted("y", first("logg", sky.about.labels[1]) || every);
  sky.axes.c = said.get("c") === "" ? "" : wanted("c", first("fe_h", sky.about.labels[2]));
  filters.bits = Number(said.get("hide")) || 0;
  filters.ranges = said.getAll("range").map((text) => text.split(",")).filter(([name]) => known.has(name))
    .map(([name, low, high]) => [name, low ? Number(low) : null, high ? Number(high) : null]);
  panel.element = said.get("lines") || "";
  panel.chosen = said.has("labels") ? said.get("labels").split(",").filter((name) => sky.about.labels.includes(name)) : null;
  panel.wanted = finite(said.get("w"), 2);
  const flags = known.has("result_flags") ? "result_flags" : "";
  await Promise.all([sky.axes.x, sky.axes.y, sky.axes.c, flags].map(column));
  await filters.apply();
  const view = finite(said.get("v"), 4);
  for (const name of ["x", "y"]) {
    sky.reverse[name] = view ? view[name === "x" ? 0 : 2] > view[name === "x" ? 1 : 3] : REVERSED[name].has(sky.axes[name]);
    $(`r${name}`).checked = sky.reverse[name];
  }
  scatter.begin();
  if (view) scatter.view = view; else scatter.home();
  scatter.draw();
  told();
  for (const name of ["x", "y", "c"]) options($(name), sky.axes[name], name === "c");
  filters.build();
  if (!sky.ids) sky.ids = await ask("/ids");
  const star = said.get("star"), row = star !== null ? sky.ids.indexOf(star) : said.has("row") ? Number(said.get("row")) : -1;
  ready = true;
  if (Number.isInteger(row) && row >= 0 && row < sky.about.rows) await choose(row);
  else {
    stars.draw(scatter);
    if (star !== null) panel.fail(new Error(`No star of this catalogue is called ${star}.`));
  }
  STATE.ready = "yes";
}

function listen() {
  for (const name of ["x", "y", "c"]) $(name).addEventListener("change", () => axis(name, $(name).value));
  for (const name of ["x", "y"]) $(`r${name}`).addEventListener("change", () => {
    const at = name === "x" ? 0 : 2, view = [...scatter.view];
    [view[at], view[at + 1]] = [view[at + 1], view[at]];
    sky.reverse[name] = $(`r${name}`).checked;
    scatter.view = view;
    scatter.changed();
  });
  $("zoom-in").addEventListener("click", () => scatter.zoom(0.6));
  $("zoom-out").addEventListener("click", () => scatter.zoom(1 / 0.6));
  $("zoom-all").addEventListener("click", () => scatter.home());
  $("search").addEventListener("input", () => stars.draw(scatter));
  $("search").addEventListener("keydown", (event) => {
    const first = event.key === "Enter" && $("stars").querySelector("tbody tr");
    if (first) first.click();
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("save").addEventListener("click", () => {
    const [a, b, c, d] = scatter.view, xs = scatter.column("x"), ys = scatter.column("y");
    const within = (value, one, other) => value >= Math.min(one, other) && value <= Math.max(one, other);
    const names = Array.from(sky.shown).filter((row) => within(xs[row], a, b) && within(ys[row], c, d));
    const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
    download("stars.csv", ["row,star_id", ...names.map((row) => `${row},${quoted(sky.ids[row])}`)].join("\n") + "\n");
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });
  dark.addEventListener("change", () => { scatter.later(); panel.plot.later(); panel.corner.draw(); });
  window.addEventListener("hashchange", () => { if (location.hash !== written) recall(); });
}

async function begin() {
  try {
    sky.about = await ask("/catalogue");
    sky.held = new Set(sky.about.held || []);
    STATE.rows = sky.about.rows;
    listen();
    await recall();
  } catch (error) {
    $("counts").textContent = `This page does not work: ${error.message}`;
    STATE.error = error.message;
  }
}

begin();
