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
      const keyed = [...body.rows].map((row) => [key(row.cells[column].textContent.trim()), row]);
      keyed.sort(([a], [b]) => compare(a, b, turn));
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
function key(text) {
  const number = /^-?(inf|[\d.]+(e[-+]?\d+)?)(?![\w.]*[a-df-z])/i.exec(text);
  if (text === "-" || text === "") return null;
  if (!number) return text;
  return number[1] === "inf" ? (text[0] === "-" ? -Infinity : Infinity) : parseFloat(number[0]);
}
function compare(a, b, turn) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return turn * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}
