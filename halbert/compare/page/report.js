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
