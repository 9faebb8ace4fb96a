// Reliability diagrams: accuracy against stated confidence (Guo et al., ICML 2017).

function diagram(host, cell) {
  const { rows, confidence, accuracy } = Object.fromEntries(Object.entries(cell.reliability).map(([k, v]) => [k, unpack(v)]));
  const total = rows.reduce((a, b) => a + b, 0);
  const ticks = [0, 0.5, 1];
  const chart = new Chart(host, {
    x: { domain: [0, 1], ticks, label: "confidence (%)", format: (v) => percent(v, 0) },
    y: { domain: [0, 1], ticks, label: "accuracy (%)", format: (v) => percent(v, 0) },
    height: 236, label: `Reliability of ${cellName(cell)}: accuracy against confidence`,
  });
  chart.line([[0, 0], [1, 1]], "ideal", "4 4");
  const bins = range(rows.length).filter((b) => rows[b]);
  for (const b of bins) { // the area of a mark is its share of the rows
    const r = 2 + 9 * Math.sqrt(rows[b] / total);
    chart.line([[confidence[b], confidence[b]], [confidence[b], accuracy[b]]], "gap");
    chart.marks([[confidence[b], accuracy[b]]], "c0 half", { r });
  }
  chart.hover(bins.map((b) => [confidence[b], accuracy[b], () => [`${count(rows[b])} rows`, `confidence ${percent(confidence[b])}`, `accuracy ${percent(accuracy[b])}`]]));
}

panel("reliability", (section) => {
  const bank = byId("reliability-bank");
  choices(bank, data.banks.map((b, i) => [i, b.name]));
  const facets = section.querySelector(".facets");
  const draw = () => {
    const cells = data.cells.filter((c) => c.bank === Number(bank.value));
    const boxes = cells.map((c) => {
      const cal = c.calibration;
      const scaled = known(cal.temperature) ? `, ${percent(cal.ece_scaled)} at T = ${brief(cal.temperature)}` : "; no temperature was fitted";
      const ece = known(cal.ece) ? `ECE ${percent(cal.ece)} as it is${scaled}` : "";
      return make("div", {}, make("h3", { text: data.heads[c.head] }), make("div", { class: "chart" }), make("p", { class: "under", text: ece }));
    });
    facets.replaceChildren(...boxes);
    boxes.forEach((box, i) => diagram(box.querySelector(".chart"), cells[i]));
  };
  bank.addEventListener("change", draw);
  return draw;
});
