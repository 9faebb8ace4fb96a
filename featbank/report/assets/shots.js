// Accuracy by shot group for sampler x head, as figure 1 of Kang et al. (ICLR 2020).

const samplers = () => [...new Set(data.banks.map((b) => b.recipe?.sampler).filter(known))];

// Mean, least and greatest accuracy of a sampler's checkpoints by a head; the interval of one.
function ofSampler(sampler, head, group) {
  const cells = data.cells.filter((c) => c.head === head && data.banks[c.bank].recipe?.sampler === sampler);
  const values = cells.map((c) => c.metrics[group]).filter(known);
  if (!values.length) return null;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const ends = values.length > 1 ? [Math.min(...values), Math.max(...values)] : cells[0].ci95[group];
  return { mean, ends, n: values.length };
}

function shotFacet(host, group, domain) {
  const letters = Math.floor((host.clientWidth - 60) / data.heads.length / 6.6);
  const chart = new Chart(host, {
    x: { domain: [-0.5, data.heads.length - 0.5], ticks: range(data.heads.length), label: group === "all" ? "all classes" : `${group}-shot classes`, format: (i) => cut(data.heads[i], letters) },
    y: { domain, label: "accuracy (%)", format: (v) => percent(v, 0) },
    height: 250, label: `Accuracy on ${group} classes by head and sampler`,
  });
  const spots = [];
  samplers().forEach((sampler, s) => data.heads.forEach((head, h) => {
    const found = ofSampler(sampler, h, group);
    if (!found) return;
    const x = h + (s - (samplers().length - 1) / 2) * Math.min(0.18, 0.7 / samplers().length);
    if (found.ends) chart.line([[x, found.ends[0]], [x, found.ends[1]]], `thin c${s % 8}`);
    chart.marks([[x, found.mean]], `c${s % 8}`, { mark: SHAPES[s % 4], r: 4.5 });
    const what = found.n > 1 ? `mean of ${found.n}, ${percent(found.ends[0])} to ${percent(found.ends[1])}` : "one checkpoint";
    spots.push([x, found.mean, () => [`${sampler} · ${head}`, `${percent(found.mean)} (${what})`]]);
  }));
  chart.hover(spots);
}

panel("shots", (section) => {
  const groups = [...GROUPS, "all"].filter((g) => data.cells.some((c) => known(c.metrics[g])));
  const hosts = groups.map(() => make("div", { class: "chart" }));
  section.querySelector(".facets").replaceChildren(...hosts);
  legend(section.querySelector(".legend"), samplers().map((text, s) => ({ style: `c${s % 8}`, mark: SHAPES[s % 4], text })));
  const used = data.cells.filter((c) => known(data.banks[c.bank].recipe?.sampler));
  const domain = padded(used.flatMap((c) => groups.flatMap((g) => [c.metrics[g], ...(c.ci95[g] ?? [])])), 0.04, [0, 1.001]);
  return () => groups.forEach((g, i) => shotFacet(hosts[i], g, domain));
});
