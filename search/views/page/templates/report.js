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

// A printed page has another width, and figures do not hear of it by themselves.
const figures = () => document.querySelectorAll(".figure");
addEventListener("beforeprint", () => figures().forEach((figure) => Plotly.relayout(figure, { width: 660 })));
addEventListener("afterprint", () => figures().forEach((figure) => Plotly.relayout(figure, { width: null, autosize: true })));
