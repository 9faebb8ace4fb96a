// The most confident mistakes of a result, with pictures where the page has them.

// Few pixels are shown as what they are.
const smooth = ({ target }) => target.classList.toggle("pixels", target.naturalWidth <= 32);

panel("mistakes", (section) => {
  const which = byId("mistakes-cell");
  const { pictures, mistakes } = data.gallery;
  const able = data.cells.filter((_, i) => mistakes[i].length);
  cellChoices(which, able, able[0]);
  const host = section.querySelector(".gallery");
  const draw = () => {
    const cell = chosenCell(which);
    const names = classesOf(cell).names;
    host.replaceChildren(...mistakes[data.cells.indexOf(cell)].map((each) => {
      const picture = each.picture === null
        ? make("div", { class: "no-picture", text: each.id })
        : make("img", { src: `data:image/webp;base64,${pictures[each.picture]}`, alt: each.id, onload: smooth });
      return make("li", { title: each.id }, picture,
        make("div", { class: "is", text: names[each.true] }),
        make("div", { class: "taken", text: `${names[each.predicted]}, ${percent(each.confidence)} %` }),
        make("div", { class: "under", text: each.picture === null ? "" : each.id }));
    }));
  };
  which.addEventListener("change", draw);
  return draw;
});
