// Which of the most confused classes are taken for which.

panel("confusion", (section) => {
  const which = byId("confusion-cell");
  const able = data.cells.filter((c) => unpack(c.confusion.classes).length);
  cellChoices(which, able, able[0]);
  const table = section.querySelector("table");
  const draw = () => {
    const { classes, matrix, rows } = Object.fromEntries(Object.entries(chosenCell(which).confusion).map(([k, v]) => [k, unpack(v)]));
    const names = classesOf(chosenCell(which)).names;
    const k = classes.length;
    const short = [...classes].every((c) => names[c].length <= 7);
    const head = make("tr", {}, make("th", { scope: "col", text: "true \u2193  predicted \u2192" }),
      ...range(k).map((j) => make("th", { scope: "col", text: short ? names[classes[j]] : j + 1, title: names[classes[j]] })), make("th", { scope: "col", text: "others" }));
    const line = (i) => {
      let others = rows[i];
      const cells = range(k).map((j) => {
        const n = matrix[i * k + j];
        others -= n;
        const td = make("td", { text: n || "·", class: i === j ? "right" : "wrong", title: `${names[classes[i]]} taken for ${names[classes[j]]}: ${n} of ${rows[i]}` });
        td.style.setProperty("--share", (rows[i] ? n / rows[i] : 0).toFixed(3));
        return td;
      });
      return make("tr", {}, make("th", { scope: "row", text: short ? names[classes[i]] : `${i + 1} · ${names[classes[i]]}`, title: names[classes[i]] }), ...cells, make("td", { class: "others", text: others || "·" }));
    };
    table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...range(k).map(line)));
  };
  which.addEventListener("change", draw);
  return draw;
});
