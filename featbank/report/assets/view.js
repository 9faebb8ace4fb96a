// The features in a plane, and how heads divide it.

// Regions of equal value in a grid, as one path for each value, row by row.
function regions(grid, size) {
  const paths = new Map();
  for (let row = 0; row < size; row += 1) {
    for (let start = 0, end; start < size; start = end) {
      const value = grid[row * size + start];
      for (end = start + 1; end < size && grid[row * size + end] === value; end += 1);
      paths.set(value, `${paths.get(value) ?? ""}M${start} ${row}h${end - start}v1h${start - end}z`);
    }
  }
  return paths;
}
// The lines between neighbours that differ.
function boundaries(grid, size) {
  let d = "";
  for (let row = 0; row < size; row += 1) {
    for (let col = 0; col < size; col += 1) {
      const value = grid[row * size + col];
      if (col + 1 < size && grid[row * size + col + 1] !== value) d += `M${col + 1} ${row}v1`;
      if (row + 1 < size && grid[(row + 1) * size + col] !== value) d += `M${col} ${row + 1}h1`;
    }
  }
  return d;
}

function drawRegions(chart, plane) {
  const grid = unpack(plane.grid);
  const [x0, x1, y0, y1] = plane.extent;
  const [left, top] = [chart.X(x0), chart.Y(y0)];
  const move = `translate(${left} ${top}) scale(${(chart.X(x1) - left) / plane.size} ${(chart.Y(y1) - top) / plane.size})`;
  const layer = chart.add("g", { transform: move, class: "regions" });
  for (const [value, d] of regions(grid, plane.size)) layer.append(shape("path", { d, class: `fill ${styleOf(value)}` }));
  layer.append(shape("path", { d: boundaries(grid, plane.size), class: "boundary" }));
}

// A class's colour; its group's where there are too many classes to tell apart.
const manyClasses = () => data.by_group;
const styleOf = (value) => (manyClasses() ? `g-${GROUPS[value]}` : `c${value % 8}`);

function pointsOf(view, name) {
  const { xy, extent: [x0, x1, y0, y1], units } = view[name];
  const all = unpack(xy);
  const n = all.length / 2;
  return range(n).map((i) => [x0 + (all[i] / units) * (x1 - x0), y0 + (all[n + i] / units) * (y1 - y0)]);
}

const widened = ([x0, x1, y0, y1]) => [...padded([x0, x1]), ...padded([y0, y1])];

function drawView(host, cell, projection, only) {
  const bank = data.banks[cell.bank];
  const set = classesOf(cell);
  const points = pointsOf(bank.view, projection);
  const labels = unpack(bank.view.labels);
  const wrong = unpack(cell.wrong);
  const isWrong = (i) => (wrong[i >> 3] >> (7 - (i & 7))) & 1;
  const [x0, x1, y0, y1] = projection === "pca" ? cell.plane.extent : widened(bank.view.tsne.extent);
  const side = Math.min(host.clientWidth, 460);
  const chart = new Chart(host, {
    x: { domain: [x0, x1], label: projection === "pca" ? "first principal axis" : "t-SNE, first axis" },
    y: { domain: [y0, y1], label: projection === "pca" ? "second principal axis" : "t-SNE, second axis" },
    height: side, label: `Features of ${bankName(cell.bank)} and the regions of ${data.heads[cell.head]}`,
  });
  if (projection === "pca") drawRegions(chart, cell.plane);
  const groups = unpack(set.group);
  const keys = new Map();
  points.forEach((_, i) => {
    const value = manyClasses() ? groups[labels[i]] : labels[i];
    if (!keys.has(value)) keys.set(value, []);
    keys.get(value).push(i);
  });
  const inside = ([x, y]) => x >= x0 && x <= x1 && y >= y0 && y <= y1;
  for (const [value, members] of keys) {
    const faint = only >= 0 && only !== value ? "faint" : "";
    const mark = SHAPES[manyClasses() ? 0 : Math.floor(value / 8) % 4];
    const here = members.filter((i) => inside(points[i]));
    chart.marks(here.filter((i) => !isWrong(i)).map((i) => points[i]), `edged ${styleOf(value)} ${faint}`, { mark, r: 2.4 });
    chart.crosses(here.filter(isWrong).map((i) => points[i]), `${styleOf(value)} ${faint}`, 3);
  }
  chart.hover(points.map((p, i) => [...p, () => [set.names[labels[i]], isWrong(i) ? "taken for another class" : ""].filter(Boolean)]));
}

panel("view", (section) => {
  const [bank, projection, only, first, second] = ["view-bank", "view-projection", "view-class", "view-a", "view-b"].map(byId);
  choices(bank, data.banks.map((b, i) => [i, b.name]));
  const hosts = section.querySelectorAll(".chart");
  const fillHeads = () => {
    const own = data.cells.filter((c) => c.bank === Number(bank.value));
    const names = own.map((c) => [c.head, data.heads[c.head]]);
    const [one, two] = [first.value || own[0].head, second.value || own.at(-1).head];
    choices(first, names, one);
    choices(second, names, two);
    const view = data.banks[Number(bank.value)].view;
    choices(projection, [["pca", "principal axes"], ...(view.tsne ? [["tsne", "t-SNE"]] : [])]);
    const set = data.classes[data.banks[Number(bank.value)].classes];
    const values = manyClasses() ? GROUPS : set.names;
    choices(only, [[-1, manyClasses() ? "all groups" : "all classes"], ...values.map((text, i) => [i, text])]);
    legend(section.querySelector(".legend"), values.map((text, i) => ({ style: styleOf(i), mark: manyClasses() ? "circle" : SHAPES[Math.floor(i / 8) % 4], text })));
  };
  const draw = () => {
    [first, second].forEach((select, i) => {
      const cell = cellOf(Number(bank.value), Number(select.value));
      byId(`view-title-${i}`).textContent = `${data.heads[cell.head]}, all ${percent(cell.metrics.all)}`;
      drawView(hosts[i], cell, projection.value, Number(only.value));
    });
  };
  bank.addEventListener("change", () => { fillHeads(); draw(); });
  for (const select of [projection, only, first, second]) select.addEventListener("change", draw);
  fillHeads();
  return draw;
});
