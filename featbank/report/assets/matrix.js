// Every head on every checkpoint.

const METRICS = {
  all: { text: "accuracy, mean over classes", short: "all" },
  many: { text: "accuracy, many-shot classes", short: "many" },
  medium: { text: "accuracy, medium-shot classes", short: "medium" },
  few: { text: "accuracy, few-shot classes", short: "few" },
  micro: { text: "accuracy, all rows (top-1)", short: "micro" },
  error: { text: "top-1 error", short: "error", lower: true },
  macro_f1: { text: "macro F1", short: "F1" },
  ece: { text: "ECE, as it is", lower: true, from: "calibration" },
  ece_scaled: { text: "ECE, at the fitted temperature", lower: true, from: "calibration" },
  nll: { text: "NLL, as it is (nats)", lower: true, from: "calibration", plain: true },
  nll_scaled: { text: "NLL, at the fitted temperature (nats)", lower: true, from: "calibration", plain: true },
};
const measured = (cell, metric) => cell[METRICS[metric].from ?? "metrics"][metric];
const written = (v, metric) => (METRICS[metric].plain ? (known(v) ? v.toFixed(3) : "–") : percent(v));
const change = (v, metric) =>
  METRICS[metric].plain && known(v) ? (v < 0 ? "−" : "+") + Math.abs(v).toFixed(3) : signed(v);

// The comparison of two cells by a metric, turned so that it is `cell` minus `base`.
function comparison(cell, base, metric) {
  const [i, j] = [data.cells.indexOf(cell), data.cells.indexOf(base)];
  for (const c of data.comparisons) {
    if (c.metric !== metric) continue;
    if (c.a === i && c.b === j) return c;
    if (c.a === j && c.b === i) {
      const ci95 = c.ci95 && [-c.ci95[1], -c.ci95[0]];
      return { ...c, difference: -c.difference, ci95 };
    }
  }
  return null;
}

function baselineOf(cell, choice) {
  const [kind, index] = choice.split(":");
  if (kind === "head") return cellOf(cell.bank, Number(index));
  return kind === "bank" ? cellOf(Number(index), cell.head) : null;
}

function bestOfRow(cells, metric) {
  const values = cells.filter(Boolean).map((c) => measured(c, metric)).filter(known);
  return values.length < 2 ? null : Math[METRICS[metric].lower ? "min" : "max"](...values);
}

function detailLines(cell, metric, base) {
  const m = cell.metrics;
  const lines = [`${bankName(cell.bank)} · ${data.heads[cell.head]}`];
  const ci = cell.ci95[metric];
  const span = ci ? `, 95 % interval ${percent(ci[0])} to ${percent(ci[1])}` : "";
  lines.push(`${METRICS[metric].text}: ${written(measured(cell, metric), metric)}${span}`);
  lines.push(`all ${percent(m.all)}, many ${percent(m.many)}, medium ${percent(m.medium)}, few ${percent(m.few)}, top-1 ${percent(m.micro)}`);
  const on = cell.selected_on ? `chosen on ${cell.selected_on}${cell.dishonest ? " (REPORTED)" : ""}` : "nothing chosen";
  const took = known(cell.seconds) ? `, fitted in ${cell.seconds.toFixed(2)} s` : "";
  lines.push(`${parameters(cell)} (${on}${took})`);
  const found = base && base !== cell && comparison(cell, base, metric);
  if (found) lines.push(againstLine(found, base, metric));
  return lines;
}
const detailElements = (...args) => detailLines(...args).map((text) => make("div", { text }));

function againstLine(found, base, metric) {
  const ci = found.ci95 ? ` (95 % interval ${change(found.ci95[0], metric)} to ${change(found.ci95[1], metric)})` : "";
  const ps = [["bootstrap", found.p_bootstrap], ["McNemar", found.p_mcnemar], ["adjusted", found.p_adjusted]];
  const said = ps.filter(([, p]) => known(p)).map(([name, p]) => `${name} p ${p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`}`);
  return `against ${cellName(base)}: ${change(found.difference, metric)}${ci}, ${found.paired ? "paired" : "unpaired"}; ${said.join(", ")}`;
}

// Shot groups of two checkpoints can be of different classes; then they are not set against each other.
function sameClasses(cell, base, metric) {
  if (!GROUPS.includes(metric)) return true;
  const [one, other] = [cell, base].map((c) => unpack(classesOf(c).group));
  return one.length === other.length && one.every((g, i) => g === other[i]);
}

function matrixCell(cell, state) {
  if (!cell) return make("td", { text: "–" });
  const { metric, best, detail } = state;
  const base = baselineOf(cell, state.baseline);
  const value = measured(cell, metric);
  const td = make("td");
  const button = make("button", { type: "button", class: "cell" });
  const show = () => detail.replaceChildren(...detailElements(cell, metric, base));
  for (const on of ["pointerenter", "focus", "click"]) button.addEventListener(on, show);
  button.append(...(base ? difference(cell, base, metric, td) : plainValue(cell, metric)));
  if (value === best) {
    button.classList.add("best");
    button.append(make("span", { class: "aside", text: " (best of its row)" }));
  }
  td.append(button);
  return td;
}
function plainValue(cell, metric) {
  const ci = cell.ci95[metric];
  const span = ci ? `${percent(ci[0])}–${percent(ci[1])}` : "";
  return [make("span", { class: "value", text: written(measured(cell, metric), metric) }), make("span", { class: "span", text: span })];
}
function difference(cell, base, metric, td) {
  const [value, other] = [measured(cell, metric), measured(base, metric)];
  const delta = known(value) && known(other) && sameClasses(cell, base, metric) ? value - other : null;
  const found = base === cell ? null : comparison(cell, base, metric);
  const better = METRICS[metric].lower ? delta < 0 : delta > 0;
  if (known(delta) && Math.abs(delta) > 5e-5) {
    td.className = better ? "better" : "worse";
    td.style.setProperty("--share", Math.min(1, Math.abs(delta) / 0.1).toFixed(2));
  }
  const sure = found && known(found.p_adjusted) && found.p_adjusted < 0.05;
  const text = base === cell ? "baseline" : change(delta, metric) + (sure ? " *" : "");
  const span = found?.ci95 ? `${change(found.ci95[0], metric)} to ${change(found.ci95[1], metric)}` : "";
  return [make("span", { class: "value", text }), make("span", { class: "span", text: span })];
}

panel("matrix", (section) => {
  const metric = byId("matrix-metric");
  const baseline = byId("matrix-baseline");
  const there = Object.keys(METRICS).filter((m) => data.cells.some((c) => known(measured(c, m))));
  choices(metric, there.map((m) => [m, METRICS[m].text]), data.settings.metric ?? "all");
  choices(baseline, [
    ["none", "none: the values themselves"],
    ...data.heads.map((h, i) => [`head:${i}`, `${h}, same checkpoint`]),
    ...(data.banks.length > 1 ? data.banks.map((b, i) => [`bank:${i}`, `${b.name}, same head`]) : []),
  ]);
  const table = section.querySelector("table");
  const detail = byId("matrix-detail");
  const best = () => {
    const sign = METRICS[metric.value].lower ? -1 : 1;
    const able = data.cells.filter((c) => known(measured(c, metric.value)));
    return able.reduce((a, b) => (sign * measured(b, metric.value) > sign * measured(a, metric.value) ? b : a));
  };
  const draw = () => {
    const head = make("tr", {}, make("th", { text: "checkpoint", scope: "col" }), ...data.heads.map((h) => make("th", { text: h, scope: "col" })));
    const rows = data.banks.map((bank, b) => {
      const cells = data.heads.map((_, h) => cellOf(b, h));
      const state = { metric: metric.value, baseline: baseline.value, best: bestOfRow(cells, metric.value), detail };
      return make("tr", {}, make("th", { text: bank.name, scope: "row" }), ...cells.map((c) => matrixCell(c, state)));
    });
    table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
    detail.replaceChildren(...detailElements(best(), metric.value, baselineOf(best(), baseline.value)));
  };
  metric.addEventListener("change", draw);
  baseline.addEventListener("change", draw);
  return draw;
});
