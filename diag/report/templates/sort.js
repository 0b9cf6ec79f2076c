for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => [key(row.cells[column]), row]);
      keyed.sort(([a], [b]) => compare(a, b, turn));
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
function key(cell) {
  const text = cell.textContent.trim();
  if (text === "-" || text === "") return null;
  if (!cell.classList.contains("num")) return text;
  // Of `0.93 ± 0.01` the mean counts; `- ± 1` has none.
  const number = parseFloat(text.replace("inf", "Infinity"));
  return Number.isNaN(number) ? null : number;
}
function compare(a, b, turn) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return turn * (typeof a === "number" ? (a > b) - (a < b) : natural(a, b));
}
// `lr=0.05` before `lr=0.3` before `lr=10`: numbers in a text by their value.
function natural(a, b) {
  const [left, right] = [a, b].map((text) => text.split(/(\d+(?:\.\d+)?(?:e[-+]?\d+)?)/i));
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const order = i % 2 ? left[i] - right[i] : left[i].localeCompare(right[i]);
    if (order) return order;
  }
  return left.length - right.length;
}
