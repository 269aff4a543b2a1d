// Sorts a table by the column whose heading is pressed; cells without a value come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const order = new Intl.Collator(undefined, { numeric: true }).compare;
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const isText = head.classList.contains("text");
    const keyed = [...body.rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return [text === "" ? null : isText ? text : parseFloat(text), row];
    });
    const compare = isText ? order : (a, b) => a - b;
    keyed.sort(([a], [b]) =>
      a === null || b === null ? (a === null) - (b === null) : up ? compare(a, b) : compare(b, a));
    body.remove(); // rows that are shown move slowly
    for (const [, row] of keyed) body.append(row);
    table.append(body);
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }));
}

for (const [box, { data, layout }] of Object.entries(drawings)) {
  Plotly.newPlot(box, data, layout, { responsive: true, displayModeBar: false });
}

// Learning curves: their x is in steps, shown in epochs unless asked otherwise.
function learningCurves(box) {
  const trial = document.getElementById("pick-trial"), unit = document.getElementById("pick-unit");
  const traces = box.data.map((trace) => ({ x: [...trace.x], y: [...trace.y], ...trace.meta }));
  const titles = { epoch: `epoch (of ${nEpochs})`, step: "optimizer step" };
  trial.append(new Option("none", ""), ...picked.trials.map((run) => new Option(run.name, run.slot)));
  unit.value = curvesBy;
  const draw = () => {
    const run = picked.trials.find((each) => String(each.slot) === trial.value);
    const drawn = traces.map((trace) => {
      if (!trace.trial) return trace;
      if (!run) return { x: [], y: [], per_epoch: 1 };
      const [place, y] = run.lines[trace.trial];
      return { x: picked.steps[place], y, per_epoch: run.per_epoch };
    });
    const scaled = ({ x, per_epoch }) => unit.value === "epoch" ? x.map((step) => step / per_epoch) : x;
    const places = traces.flatMap((trace, place) => trace.trial === "rate" ? [place] : []);
    Plotly.update(box, { x: drawn.map(scaled), y: drawn.map(({ y }) => y) },
      { "xaxis.title.text": titles[unit.value], "xaxis.range": [0, 1.01 * Math.max(...drawn.flatMap(scaled))] });
    Plotly.restyle(box, { name: run ? run.name : "", showlegend: Boolean(run) }, places);
  };
  trial.addEventListener("change", draw);
  unit.addEventListener("change", draw);
  for (const row of document.querySelectorAll("table.sortable tbody tr")) {
    const slot = String(parseInt(row.cells[0].textContent));
    if (![...trial.options].some((option) => option.value === slot)) continue;
    row.classList.add("picks");
    row.addEventListener("click", () => {
      if (String(getSelection())) return; // of text, to copy it
      trial.value = slot;
      draw();
      document.getElementById("curves").scrollIntoView();
    });
  }
  draw();
}
const curves = document.getElementById("figure-curves");
if (curves) learningCurves(curves);

// A printed page has another width, and figures do not hear of it by themselves.
const figures = () => document.querySelectorAll(".figure");
addEventListener("beforeprint", () => figures().forEach((figure) => Plotly.relayout(figure, { width: 660 })));
addEventListener("afterprint", () => figures().forEach((figure) => Plotly.relayout(figure, { width: null, autosize: true })));
