// What everything else uses. Text of a catalogue enters the page by textContent alone.

const $ = (id) => document.getElementById(id);
const STATE = document.documentElement.dataset; // for tests, and for whoever drives the page

function element(tag, text, parent, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (parent) parent.append(made);
  return made;
}

const HELD = $("data") ? JSON.parse($("data").textContent) : null; // all data, or a server's

async function ask(path) {
  if (HELD) return path in HELD ? HELD[path] : null;
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${(await answer.text()).trim()}`);
  if (answer.headers.get("Content-Type") === "application/json") return answer.json();
  return new Float32Array(await answer.arrayBuffer());
}

function numbers(text) {
  if (text instanceof Float32Array) return text;
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const NAMES = { teff: "Teff", logg: "log g", fe_h: "[Fe/H]", m_h: "[M/H]", v_micro: "v_micro", snr: "S/N",
  alpha_m: "[α/M]", alpha_fe: "[α/Fe]" };

function pretty(name) {
  for (const [start, words] of [["raw_e_", "raw error of "], ["raw_", "raw "], ["e_", "error of "]]) {
    if (name.startsWith(start) && pretty(name.slice(start.length)) !== name.slice(start.length)) {
      return words + pretty(name.slice(start.length));
    }
  }
  const ratio = /^([a-z]{1,2})_(fe|h)$/.exec(name);
  const upper = (text) => text[0].toUpperCase() + text.slice(1);
  return NAMES[name] || (ratio ? `[${upper(ratio[1])}/${upper(ratio[2])}]` : name);
}

const withUnit = (name, unit) => pretty(name) + (unit ? ` [${unit}]` : "");

function rounded(value, sigma) {
  if (value === null || !Number.isFinite(value)) return "–";
  const scale = sigma > 0 ? sigma : Math.abs(value) / 1000;
  const digits = scale > 0 ? Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(scale)))) : 2;
  return value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
}

// the value below which a share of some numbers is; of a sample where there are many
function quantiles(values, shares) {
  const step = Math.max(1, Math.floor(values.length / 50000));
  const kept = [];
  for (let i = 0; i < values.length; i += step) if (Number.isFinite(values[i])) kept.push(values[i]);
  kept.sort((a, b) => a - b);
  return shares.map((share) => kept.length ? kept[Math.round(share * (kept.length - 1))] : NaN);
}

function download(name, content) {
  const link = element("a", null, null, { download: name });
  link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
