// Weight norm against class size before and after each head: figure 2 of Kang et al. (ICLR 2020).

panel("norms", (section) => {
  const [bank, relative] = [byId("norms-bank"), byId("norms-relative")];
  const able = data.banks.map((_, b) => b).filter((b) => data.cells.some((c) => c.bank === b && c.norms));
  choices(bank, able.map((b) => [b, bankName(b)]));
  const host = section.querySelector(".chart");
  const draw = () => {
    const cells = data.cells.filter((c) => c.bank === Number(bank.value) && c.norms);
    const sizes = unpack(classesOf(cells[0]).size);
    const curves = cells.map((c) => {
      const values = [...unpack(c.norms)];
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      return relative.checked ? values.map((v) => v / mean) : values;
    });
    const chart = new Chart(host, {
      x: rankAxis(sizes),
      y: { domain: padded(curves.flat(), 0.08, [0, Infinity]), label: relative.checked ? "weight norm / its mean" : "weight norm" },
      label: "Weight norm by class, from the largest class to the smallest, for each head",
    });
    const style = (c, i) => (data.heads[c.head] === "joint" ? "g-all" : `c${i % 8}`);
    curves.forEach((values, i) => {
      chart.line(values.map((v, k) => [k, v]), style(cells[i], i), DASHES[i % 4]);
    });
    chart.hover(curves.flatMap((values, i) => values.map((v, k) =>
      [k, v, () => [data.heads[cells[i].head], `${brief(v)} at ${count(Math.round(sizes[k]))} training images`]])));
    legend(section.querySelector(".legend"), cells.map((c, i) => ({
      style: style(c, i), dash: DASHES[i % 4],
      text: data.heads[c.head] === "joint" ? "joint: stage 1, before" : data.heads[c.head],
    })));
  };
  bank.addEventListener("change", draw);
  relative.addEventListener("change", draw);
  return draw;
});
