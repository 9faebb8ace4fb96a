// Accuracy of single classes against their size, two results side by side.

const MOST_LISTED = 8;
const MOST_MATCHES = 50;
const foundText = (n) => (n === 1 ? "1 class found" : `${count(n)} classes found`);

function classAccuracy(cell) {
  const [hits, rows] = [unpack(cell.hits), unpack(classesOf(cell).rows)];
  return Array.from(hits, (h, c) => (rows[c] ? h / rows[c] : null));
}

function classTable(title, order, set, one, two) {
  const line = (c) => make("tr", {},
    make("td", { class: "name", text: set.names[c] }),
    make("td", { text: count(unpack(set.counts)[c]) }), make("td", { text: percent(one[c]) }),
    make("td", { text: percent(two[c]) }), make("td", { text: known(one[c]) && known(two[c]) ? signed(two[c] - one[c]) : "–" }));
  const head = make("tr", {}, ...["class", "images", "A", "B", "B − A"].map((text) => make("th", { text, scope: "col" })));
  return make("figure", { class: "list" }, make("figcaption", { text: title }),
    make("table", { class: "numbers" }, make("thead", {}, head), make("tbody", {}, ...order.map(line))));
}

// Mean accuracy of classes of like size: runs of neighbours from the largest to the smallest.
function trend(counts, values) {
  const order = range(counts.length).filter((c) => known(values[c])).sort((a, b) => counts[b] - counts[a]);
  const runs = Math.min(20, Math.ceil(order.length / 4));
  return range(runs).map((i) => {
    const run = order.slice(Math.floor((i * order.length) / runs), Math.floor(((i + 1) * order.length) / runs));
    const mean = (of) => run.reduce((sum, c) => sum + of(c), 0) / run.length;
    return [Math.exp(mean((c) => Math.log(Math.max(1, counts[c])))), mean((c) => values[c])];
  });
}

function classScatter(host, cell, values, matches, title) {
  const set = classesOf(cell);
  const [counts, groups] = [unpack(set.counts), unpack(set.group)];
  const at = (c) => [Math.max(1, counts[c]), values[c]];
  const there = range(counts.length).filter((c) => known(values[c]));
  const sizes = there.map((c) => Math.max(1, counts[c]));
  const [least, most] = [sizes.reduce((a, b) => Math.min(a, b)), sizes.reduce((a, b) => Math.max(a, b))];
  const chart = new Chart(host, {
    x: { domain: [least / 1.15, most * 1.15], log: true, label: "training images (log scale)", format: count },
    y: { domain: [-0.03, 1.03], ticks: [0, 0.25, 0.5, 0.75, 1], label: "accuracy (%)", format: (v) => percent(v, 0) },
    height: 300, label: `${title}: accuracy of each class against its training images`,
  });
  const faint = matches ? "faint" : there.length > 500 ? "half" : "";
  GROUPS.forEach((g, i) => chart.marks(there.filter((c) => groups[c] === i).map(at), `g-${g} ${faint}`, { r: there.length > 500 ? 1.6 : 3.2 }));
  chart.line(trend(counts, values), "trend");
  if (matches) chart.marks(matches.filter((c) => known(values[c])).map(at), "g-all", { mark: "diamond", r: 4 });
  chart.hover(there.map((c) => [...at(c), () => [set.names[c], `${count(counts[c])} training images`, `accuracy ${percent(values[c])} of ${count(unpack(set.rows)[c])} rows`]]));
}

panel("classes", (section) => {
  const [first, second, search] = ["class-a", "class-b", "class-search"].map(byId);
  const able = data.cells.filter((c) => c.hits);
  const rest = able.filter((c) => c.bank === able[0].bank && c !== able[0]);
  const best = rest.length ? rest.reduce((a, b) => (b.metrics.all > a.metrics.all ? b : a)) : able[0];
  cellChoices(first, able, able[0]);
  cellChoices(second, able, best);
  const hosts = section.querySelectorAll(".chart");
  const lists = byId("class-lists");
  legend(section.querySelector(".legend"), [
    ...GROUPS.map((g) => ({ style: `g-${g}`, mark: "circle", text: g })),
    { style: "trend", text: "mean of classes of like size" }, { style: "g-all", mark: "diamond", text: "found by the search" },
  ]);

  const list = (cells, [one, two], matches) => {
    const set = classesOf(cells[0]);
    if (matches) {
      const more = matches.length > MOST_MATCHES ? `, the first ${MOST_MATCHES}` : "";
      return [classTable(foundText(matches.length) + more, matches.slice(0, MOST_MATCHES), set, one, two)];
    }
    const able = range(set.names.length).filter((c) => known(one[c]) && known(two[c]));
    const order = able.sort((a, b) => two[b] - one[b] - (two[a] - one[a]));
    const gained = order.filter((c) => two[c] > one[c]).slice(0, MOST_LISTED);
    const lost = order.filter((c) => two[c] < one[c]).slice(-MOST_LISTED).reverse();
    return [classTable("gained most from A to B", gained, set, one, two), classTable("lost most from A to B", lost, set, one, two)];
  };
  const draw = () => {
    const cells = [chosenCell(first), chosenCell(second)];
    const same = classesOf(cells[0]) === classesOf(cells[1]);
    byId("class-problem").hidden = same;
    const wanted = search.value.trim().toLowerCase();
    const matching = (set) => (wanted ? range(set.names.length).filter((c) => set.names[c].toLowerCase().includes(wanted)) : null);
    const values = cells.map(classAccuracy);
    cells.forEach((cell, i) => {
      byId(`class-title-${i}`).textContent = `${"AB"[i]}: ${cellName(cell)}, all ${percent(cell.metrics.all)}`;
      classScatter(hosts[i], cell, values[i], matching(classesOf(cell)), cellName(cell));
    });
    const matches = matching(classesOf(cells[0]));
    byId("class-found").textContent = matches ? foundText(matches.length) : "";
    lists.replaceChildren(...(same ? list(cells, values, matches) : []));
  };
  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(draw, 80); });
  for (const select of [first, second]) select.addEventListener("change", draw);
  return draw;
});
