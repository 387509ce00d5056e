// The user's own weights: every slider moves the last row of the table of scores. Without this the table stands alone.
(() => {
  const table = document.querySelector("table.scores");
  if (!table) return;
  for (const part of table.querySelectorAll("[hidden]")) part.hidden = false;
  const rows = [...table.tBodies[0].rows];
  const outputs = [...table.querySelectorAll("tfoot output")];
  const say = document.getElementById("own-verdict");
  function update() {
    const weights = rows.map((row) => Number(row.querySelector("input").value));
    const whole = weights.reduce((sum, weight) => sum + weight, 0);
    const scores = outputs.map((_, subject) =>
      rows.reduce((sum, row, i) => sum + weights[i] * Number(row.querySelectorAll("[data-score]")[subject].dataset.score), 0) / (whole || 1));
    const best = Math.max(...scores);
    outputs.forEach((output, i) => { output.value = whole ? scores[i].toFixed(1) : "–"; });
    const leaders = outputs.filter((_, i) => scores[i] > best - 0.05).map((output) => output.dataset.name);
    say.textContent = !whole ? "No criterion has any weight." : leaders.length > 1 ? `Level: ${leaders.join(", ")}.` : `With these weights ${leaders[0]} leads.`;
    rows.forEach((row, i) => { row.querySelector(".weight output").value = String(weights[i]); });
  }
  table.addEventListener("input", update);
  update();
})();

// Rows of the matrix: those that hold every word of the search, in the order of the column that was clicked.
(() => {
  const table = document.querySelector("table.matrix");
  const field = document.getElementById("find");
  if (!table || !field) return;
  field.closest("p").hidden = false;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = `${row.id} ${row.querySelector("summary").textContent}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("found").value = words.length ? `${shown} of ${rows.length} rows` : "";
  });
  // A link to a row that the search hides shows it again.
  window.addEventListener("hashchange", () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!row || !row.hidden) return;
    field.value = "";
    field.dispatchEvent(new Event("input"));
    row.scrollIntoView();
  });
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const key = (row) => column === 0 ? rows.indexOf(row) : Number(getComputedStyle(row.cells[column]).getPropertyValue("--share").replace("%", ""));
      body.append(...[...rows].sort((x, y) => (order === "ascending" ? 1 : -1) * (key(x) - key(y))));
    });
  }
})();
