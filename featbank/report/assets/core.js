// What every panel uses. Text from the data reaches the page through textContent and nothing else.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = document.getElementById("svg-seed").namespaceURI;
const GROUPS = ["many", "medium", "few"];
const SHAPES = ["circle", "square", "triangle", "diamond"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };

const byId = (id) => document.getElementById(id);
const range = (n) => Array.from({ length: n }, (_, i) => i);
const known = (v) => v !== null && v !== undefined && !Number.isNaN(v);

// An array that pack.py packed, unpacked once.
const unpacked = new WeakMap();
function unpack(packed) {
  if (!packed) return null;
  if (!unpacked.has(packed)) {
    const bytes = Uint8Array.from(atob(packed.b), (c) => c.charCodeAt(0));
    unpacked.set(packed, new TYPES[packed.t](bytes.buffer));
  }
  return unpacked.get(packed);
}

function fillIn(node, attrs, children) {
  for (const [name, value] of Object.entries(attrs)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}
const make = (tag, attrs = {}, ...children) =>
  fillIn(document.createElement(tag), attrs, children);
const shape = (tag, attrs = {}, ...children) =>
  fillIn(document.createElementNS(SVG, tag), attrs, children);

const percent = (v, digits = 1) => (known(v) ? (100 * v).toFixed(digits) : "–");
const signed = (v, digits = 1) =>
  !known(v) ? "–" : (v < 0 ? "−" : "+") + Math.abs(100 * v).toFixed(digits);
const brief = (v) => {
  if (typeof v !== "number") return String(v);
  return v && Math.abs(v) < 1e-4 ? v.toExponential(1) : String(+v.toPrecision(4));
};
const cut = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text);
const count = (n) => n.toLocaleString("en");

function parameters(cell) {
  const shown = Object.entries(cell.params).filter(([, v]) => v !== null && typeof v !== "object");
  return shown.map(([k, v]) => `${k} = ${brief(v)}`).join(", ") || "no parameters";
}

const bankName = (b) => data.banks[b].name;
const cellName = (cell) =>
  data.banks.length > 1 ? `${bankName(cell.bank)} · ${data.heads[cell.head]}` : data.heads[cell.head];
const cellOf = (bank, head) => data.cells.find((c) => c.bank === bank && c.head === head);
const classesOf = (cell) => data.classes[data.banks[cell.bank].classes];

// Options of a select: [value, text] pairs, or values in named groups.
function choices(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value, text })));
  if (chosen !== undefined) select.value = String(chosen);
}
function cellChoices(select, cells, chosen) {
  const banks = [...new Set(cells.map((c) => c.bank))];
  const option = (c) => make("option", { value: data.cells.indexOf(c), text: cellName(c) });
  const groups = banks.map((b) =>
    make("optgroup", { label: bankName(b) }, ...cells.filter((c) => c.bank === b).map(option)));
  select.replaceChildren(...(banks.length > 1 ? groups : cells.map(option)));
  if (chosen) select.value = String(data.cells.indexOf(chosen));
}
const chosenCell = (select) => data.cells[Number(select.value)];

// One note that follows the pointer.
const tip = byId("tip");
function showTip(x, y, lines) {
  tip.replaceChildren(...lines.map((text) => make("div", { text })));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(x + 14, document.documentElement.clientWidth - box.width - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${y + box.height + 24 > innerHeight ? y - box.height - 12 : y + 14}px`;
}
const hideTip = () => { tip.hidden = true; };
addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
addEventListener("scroll", hideTip, { passive: true });

// A legend: what each mark means, in words.
function legend(host, items) {
  host.replaceChildren(...items.map(({ style, text, dash, mark }) => {
    const picture = shape("svg", { width: 26, height: 12, "aria-hidden": "true" });
    if (mark) picture.append(shape("path", { d: symbol(mark, 13, 6, 4.5), class: `fill ${style}` }));
    else picture.append(shape("path", { d: "M1 6H25", class: `line ${style}`, "stroke-dasharray": dash }));
    return make("span", { class: "key" }, picture, make("span", { text }));
  }));
}

// Panels draw when they come near the window, when it changes its width, and before printing.
const panels = [];
function panel(id, setUp) {
  const section = byId(id);
  if (section) panels.push({ section, setUp, draw: null });
}
function drawPanel(each) {
  if (!each.draw) each.draw = each.setUp(each.section) ?? (() => {});
  each.draw();
}
function start() {
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const each = panels.find((p) => p.section === entry.target);
      if (entry.isIntersecting && !each.draw) drawPanel(each);
    }
  }, { rootMargin: "800px" });
  panels.forEach((each) => near.observe(each.section));
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    requestAnimationFrame(() => panels.forEach((each) => each.draw?.()));
  });
  addEventListener("beforeprint", () => panels.forEach((each) => each.draw || drawPanel(each)));
}
