// How often each strategy draws a class in stage 1.

panel("sampling", (section) => {
  const which = byId("sampling-classes");
  choices(which, data.classes.map((_, i) => [i, data.banks.filter((b) => b.classes === i).map((b) => b.name).join(", ")]));
  const draw = () => {
    const set = data.classes[Number(which.value)];
    const sizes = unpack(set.size);
    const curves = Object.entries(set.sampling).map(([name, p]) => [name, [...unpack(p)]]);
    const there = curves.flatMap(([, p]) => p).filter((p) => p > 0);
    const chart = new Chart(section.querySelector(".chart"), {
      x: rankAxis(sizes),
      y: { domain: [Math.min(...there) / 1.3, Math.max(...there) * 1.3], log: true, label: "probability (%, log scale)", format: (v) => brief(100 * v) },
      label: "Probability of drawing each class, from the largest to the smallest, by strategy",
    });
    curves.forEach(([, p], i) => chart.line(p.map((v, k) => [k, v > 0 ? v : null]), `c${i}`, DASHES[i % 4]));
    chart.hover(curves.flatMap(([name, p]) => p.map((v, k) =>
      [k, v, () => [name, `${brief(100 * v)} % for a class of ${count(Math.round(sizes[k]))}`]])).filter(([, v]) => v > 0));
    const texts = { instance: "instance (q = 1)", sqrt: "square root (q = ½)", class: "class (q = 0)", progressive: "progressive, half-way", reversed: "reversed (BBN)" };
    legend(section.querySelector(".legend"), curves.map(([name], i) => ({ style: `c${i}`, dash: DASHES[i % 4], text: texts[name] ?? name })));
  };
  which.addEventListener("change", draw);
  return draw;
});
