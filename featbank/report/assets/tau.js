// The exact curve over tau, and a slider along it.

const CURVE_GROUPS = [...GROUPS, "all"];

panel("tau", (section) => {
  const [which, split, slider] = ["tau-curve", "tau-split", "tau-slider"].map(byId);
  const found = data.banks.flatMap((bank, b) => bank.curves.map((curve) => ({ ...curve, bank: b })));
  choices(which, found.map((c, i) => [i, data.banks.length > 1 ? `${bankName(c.bank)} · ${c.head}` : c.head]));
  const host = section.querySelector(".chart");
  legend(section.querySelector(".legend"), CURVE_GROUPS.map((g, i) => ({ style: `g-${g}`, dash: DASHES[i], text: g })));
  let cursor = null;
  let chart = null;
  const curve = () => found[Number(which.value)];

  const move = () => {
    const values = unpack(curve().parameter);
    const at = Number(slider.value);
    const shown = curve().splits[split.value];
    for (const group of CURVE_GROUPS) {
      byId(`tau-${group}`).textContent = percent(unpack(shown[group])?.[at]);
    }
    byId("tau-value").textContent = values[at].toFixed(2);
    slider.setAttribute("aria-valuetext", `tau ${values[at].toFixed(2)}, all ${byId("tau-all").textContent} percent`);
    const x = chart.X(values[at]);
    cursor.setAttribute("d", `M${x} ${chart.inner[2]}V${chart.inner[3]}`);
  };
  const draw = () => {
    const values = [...unpack(curve().parameter)];
    const shown = curve().splits[split.value];
    const lines = CURVE_GROUPS.map((g) => unpack(shown[g]));
    chart = new Chart(host, {
      x: { domain: [values[0], values.at(-1)], label: "tau" },
      y: { domain: padded(lines.flatMap((l) => (l ? [...l] : [])), 0.08, [0, 1.001]), label: `accuracy on ${split.value} (%)`, format: (v) => percent(v, 0) },
      label: `Accuracy on ${split.value} over tau by shot group; the numbers are in the table beside the slider`,
    });
    if (known(curve().best)) chart.upright(curve().best, "chosen", `chosen: ${brief(curve().best)}`);
    lines.forEach((l, i) => l && chart.line(values.map((x, k) => [x, l[k]]), `g-${CURVE_GROUPS[i]}`, DASHES[i]));
    cursor = chart.upright(values[0], "cursor");
    move();
  };
  const toBest = () => {
    const values = [...unpack(curve().parameter)];
    const far = values.map((v) => Math.abs(v - (curve().best ?? 0)));
    byId("tau-best").hidden = !known(curve().best);
    slider.max = values.length - 1;
    slider.value = far.indexOf(Math.min(...far));
  };
  const choose = () => {
    const names = Object.keys(curve().splits);
    const report = names.includes(data.settings.report) ? data.settings.report : names.at(-1);
    choices(split, names.map((n) => [n, n]), names.includes(split.value) ? split.value : report);
    toBest();
    draw();
  };
  which.addEventListener("change", choose);
  split.addEventListener("change", draw);
  slider.addEventListener("input", move);
  byId("tau-best").addEventListener("click", () => { toBest(); move(); });
  choose();
  return draw;
});
