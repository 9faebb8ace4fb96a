// Where the banks come from; the table itself is in the page.

panel("provenance", (section) => {
  const only = byId("provenance-only");
  const draw = () => section.querySelector("table").classList.toggle("only-differing", only.checked);
  only.addEventListener("change", draw);
  return draw;
});
