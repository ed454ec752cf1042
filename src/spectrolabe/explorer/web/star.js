// The panel of one star.

const FIRST_LABELS = ["teff", "logg", "fe_h", "mg_fe"];
const MOST_LABELS = 6; // of the corner plot

class StarPanel {
  constructor(changed) {
    this.changed = changed;
    this.plot = new SpectrumPlot($("spectrum"), changed);
    this.corner = new Corner($("corner"));
    this.told = null;
    this.element = "";
    this.chosen = null;
    this.wanted = null; // ends of the spectrum, of the address
    $("which").addEventListener("change", () => { this.spectrum(Number($("which").value)); this.plot.home(); });
    $("element").addEventListener("change", () => { this.element = $("element").value; this.lines(); changed(); });
    $("spectrum-in").addEventListener("click", () => this.plot.zoom(0.6));
    $("spectrum-out").addEventListener("click", () => this.plot.zoom(1 / 0.6));
    $("spectrum-all").addEventListener("click", () => this.plot.home());
  }

  async show(row) {
    this.row = row;
    for (const name of ["spectra", "model", "lines", "labels", "error"]) delete STATE[name];
    let told = null;
    try {
      told = await ask(`/star/${row}`);
    } catch (error) {
      if (this.row === row) this.fail(error);
      return;
    }
    if (this.row !== row) return; // another star has been clicked
    if (!told) for (const name of sky.about.labels) for (const one of [name, `e_${name}`]) await column(one);
    this.told = told || this.bare(row);
    $("hint").hidden = true;
    $("star").hidden = false;
    this.head();
    this.table();
    this.chips();
    this.spectra(this.told.spectra.map((one) => ({ ...one, rest: one.shift !== null })));
    $("spectrum-note").textContent = this.told.note;
    STATE.spectra = this.told.spectra.length;
    STATE.star = this.told.star_id;
    if (told) await this.model(row); else { $("model-note").textContent = ""; STATE.model = 0; }
  }

  fail(error) {
    $("hint").hidden = false;
    $("hint").textContent = `${error.message || error}`;
    STATE.error = error.message || error;
  }

  // what the columns alone say, where a page with its own data holds no more of a star
  bare(row) {
    const value = (name) => { const all = sky.columns.get(name); return all && Number.isFinite(all[row]) ? all[row] : null; };
    const unit = (name) => sky.about.columns.find((one) => one.name === name).unit;
    return {
      row, star_id: sky.ids ? sky.ids[row] : "", survey: "", file: "", spectrum_id: "", messages: "", numbers: {}, flags: [],
      labels: sky.about.labels.map((name) => ({ name, value: value(name), sigma: value(`e_${name}`), unit: unit(name), flags: [] })),
      rho: null, spectra: [],
      note: `This page holds the spectra of ${sky.held.size} stars, ringed in the plot, and not of this one. A page of spectrolabe explore without --output has those of all stars.`,
    };
  }

  head() {
    const told = this.told;
    $("name").textContent = told.star_id || `row ${told.row}`;
    const parts = [told.survey.replaceAll(";", ", ")];
    const error = told.numbers.e_rv > 0 ? ` ± ${rounded(told.numbers.e_rv, told.numbers.e_rv)}` : "";
    const said = { snr: ["S/N", 0, ""], rv: ["rv", 1, `${error} km/s`], ra: ["RA", 5, "°"], dec: ["Dec", 5, "°"], n_spectra: ["spectra:", 0, ""], chi2: ["χ²", 0, ""] };
    for (const [name, [word, digits, unit]] of Object.entries(said)) {
      const value = told.numbers[name];
      if (value !== null && value !== undefined) parts.push(`${word} ${value.toFixed(digits).replace("-", "−")}${unit}`);
    }
    if (told.file) parts.push(told.file.replaceAll(";", ", "));
    $("about").textContent = parts.filter(Boolean).join(" · ");
    $("warnings").replaceChildren();
    for (const text of told.flags) element("li", text, $("warnings"));
    if (told.messages) element("li", told.messages, $("warnings"));
  }

  table() {
    const [head, body] = ["thead", "tbody"].map((tag) => $("labels").querySelector(tag));
    head.replaceChildren();
    body.replaceChildren();
    const top = element("tr", null, head);
    for (const text of ["label", "value", "± 1σ", "unit"]) element("th", text, top);
    element("th", "", top, { class: "text" });
    for (const one of this.told.labels) {
      const line = element("tr", null, body, one.value === null ? { class: "none" } : {});
      element("td", pretty(one.name), line);
      element("td", rounded(one.value, one.sigma), line);
      element("td", rounded(one.sigma, one.sigma), line);
      element("td", one.unit, line);
      element("td", one.flags.join("; "), line, { class: "text" });
    }
    STATE.labels = this.told.labels.filter((one) => one.value !== null).length;
  }

  chips() {
    const known = this.told.labels.filter((one) => one.value !== null && one.sigma > 0).map((one) => one.name);
    if (!this.chosen) this.chosen = FIRST_LABELS;
    $("chosen").replaceChildren();
    for (const name of known) {
      const button = element("button", pretty(name), $("chosen"), { "aria-pressed": this.chosen.includes(name) });
      button.addEventListener("click", () => {
        this.chosen = this.chosen.includes(name) ? this.chosen.filter((one) => one !== name) : [...this.chosen, name].slice(-MOST_LABELS);
        this.chips();
        this.changed();
      });
    }
    const index = new Map(this.told.labels.map((one, k) => [one.name, k]));
    const shown = this.told.labels.filter((one) => known.includes(one.name) && this.chosen.includes(one.name));
    const rho = this.told.rho ? numbers(this.told.rho) : null, size = this.told.labels.length;
    this.corner.show(shown, (i, j) => rho ? rho[index.get(shown[i].name) * size + index.get(shown[j].name)] : NaN);
  }

  spectra(list) {
    const before = this.list && this.list.length === list.length ? this.list[this.at] : null;
    this.list = list.map((one) => this.read(one));
    const which = $("which");
    which.replaceChildren();
    list.forEach((one, k) => element("option", one.title, which, { value: k }));
    for (const id of ["spectrum-controls", "legend"]) $(id).hidden = !list.length;
    which.parentElement.hidden = list.length < 2;
    $("spectrum").parentElement.hidden = !list.length;
    this.at = this.at < list.length ? this.at : 0;
    if (!list.length) { this.plot.show(null); this.lines(); return; }
    const same = before && before.star === this.row;
    this.spectrum(this.at || 0);
    if (this.wanted) { this.plot.view = [...this.wanted, 0, 1]; this.wanted = null; this.plot.changed(); }
    else if (!same) this.plot.home();
  }

  read(one) {
    const read = (name) => one[name] ? numbers(one[name]) : null;
    const [wavelength, flux, sigma, model, error, used] = ["wavelength", "flux", "sigma", "model", "error", "used"].map(read);
    const at = one.shift ? 1 + one.shift / LIGHT : 1;
    return { title: one.title, rest: one.rest, star: this.row, wavelength: wavelength.map((w) => w / at), flux, sigma, model, error, used };
  }

  spectrum(at) {
    this.at = at;
    $("which").value = at;
    this.plot.show(this.list[at]);
    this.lines();
  }

  async model(row) {
    STATE.model = "asked";
    $("model-note").textContent = "Computing the model … the first one takes longest.";
    this.modelled = null;
    let done;
    try { done = await ask(`/model/${row}`); } catch (error) { done = { spectra: [], lines: {}, note: error.message }; }
    if (this.row !== row) return;
    this.modelled = done;
    const quality = done && done.chi2 ? ` χ² per degree of freedom: ${done.chi2.toFixed(2)}.` : "";
    $("model-note").textContent = done ? done.note + quality : "";
    if (done && done.spectra.length) {
      this.spectra(done.spectra.map((one) => ({ ...one, rest: true })));
      if (!this.told.spectra.length) $("spectrum-note").textContent = "";
    }
    STATE.model = done ? done.spectra.length : 0;
    const select = $("element");
    select.replaceChildren();
    element("option", "–", select, { value: "" });
    for (const name of Object.keys(done ? done.lines : {})) element("option", pretty(name), select, { value: name });
    select.value = this.element in (done ? done.lines : {}) ? this.element : "";
    select.parentElement.hidden = !Object.keys(done ? done.lines : {}).length;
    this.lines();
  }

  lines() {
    const all = (this.modelled && this.modelled.lines[this.element]) || [];
    const here = all.filter(([spectrum]) => spectrum === this.at).map(([, wavelength, share]) => [wavelength, share]);
    $("lines").replaceChildren();
    for (const [wavelength, share] of here) {
      const button = element("button", `${wavelength.toFixed(1)} Å, ${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`, $("lines"),
        { title: "Share of all that the spectra say of the label" });
      button.addEventListener("click", () => this.plot.look(wavelength));
    }
    $("lines-note").textContent = here.length ? `Where this spectrum says most of ${pretty(this.element)}, as shares of all that it says; of a strong line that may be the wings:` : "";
    STATE.lines = here.length;
    this.plot.lines = here;
    this.plot.later();
  }
}
