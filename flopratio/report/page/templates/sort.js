// Tables are sorted by the column that is clicked, and searched by the words of their lines.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], headings = [...table.tHead.rows[0].cells], ran = [...body.rows];
  const value = (row, column) => row.cells[column].dataset.value;
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
    const words = heading.classList.contains("words");
    const first = words ? "ascending" : "descending", second = words ? "descending" : "ascending";
    const before = heading.getAttribute("aria-sort");
    const order = before === null ? first : before === first ? second : null;
    headings.forEach((each) => each.removeAttribute("aria-sort"));
    if (order === null) return body.append(...ran);
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const compare = words ? (a, b) => a.localeCompare(b) : (a, b) => a - b;
    body.append(...[...ran].sort((a, b) => {
      const [one, other] = [value(a, column), value(b, column)];
      if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
      return sign * compare(one, other);
    }));
  }));
  const search = table.parentElement.previousElementSibling?.querySelector("input");
  search?.addEventListener("input", () => {
    for (const row of ran) row.hidden = !row.textContent.toLowerCase().includes(search.value.toLowerCase());
  });
}
