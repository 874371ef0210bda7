// Draws the charts of the page, in the colours of the reader's scheme, and again when that changes.
const scheme = matchMedia("(prefers-color-scheme: dark)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [ink, rule, shade] = ["--ink", "--rule", "--shade"].map((name) => style.getPropertyValue(name).trim());
  return { ink, rule, shade };
}

// The colours that a layout of plotly needs besides those of its curves: text, axes and what hovers.
function recoloured(layout) {
  const { ink, rule, shade } = colours();
  const changed = { "font.color": ink, "hoverlabel.bgcolor": shade, "hoverlabel.font.color": ink, "modebar.color": rule };
  for (const name of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(name)) {
      for (const line of ["gridcolor", "zerolinecolor", "linecolor"]) changed[`${name}.${line}`] = rule;
    }
  }
  return changed;
}

function draw(chart) {
  const { data, layout } = JSON.parse(chart.nextElementSibling.textContent);
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  return Plotly.newPlot(chart, data, layout, options).then(() => Plotly.relayout(chart, recoloured(layout)));
}

// A folded section has no width: its charts are drawn when it is opened.
for (const chart of document.querySelectorAll(".chart")) {
  const folded = chart.closest("details:not([open])");
  if (folded) folded.addEventListener("toggle", () => draw(chart), { once: true });
  else draw(chart);
}
scheme.addEventListener("change", () => {
  for (const chart of document.querySelectorAll(".chart.js-plotly-plot")) Plotly.relayout(chart, recoloured(chart.layout));
});
