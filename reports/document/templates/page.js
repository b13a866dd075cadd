"use strict";
// Clicking a head sorts its table: numbers as numbers, missing values always last, equal ones in the order they had.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending"
      || (head.getAttribute("aria-sort") === "none" && head.classList.contains("right") && at > 0);
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[at].dataset.sort;
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
    const order = (a, b) => numeric ? Number(a) - Number(b) : a.localeCompare(b);
    rows.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      return down ? order(y, x) : order(x, y);
    });
    table.tBodies[0].append(...rows);
  }));
}
// Long tables are searched: a row stays while it holds every word typed.
for (const box of document.querySelectorAll(".search")) {
  const rows = [...box.nextElementSibling.querySelectorAll("tbody tr")];
  const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
  box.hidden = false;
  box.firstElementChild.addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    box.lastElementChild.textContent = event.target.value ? `${shown} of ${rows.length}` : "";
  });
}
