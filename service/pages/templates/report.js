"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const style = root.style.colorScheme;
      const isDark = style ? style === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.style.colorScheme = isDark ? "light" : "dark";
    });
  }
  const written = (count) => count >= 10 ? Math.round(count).toLocaleString("en") : String(Math.round(count * 10) / 10);
  for (const box of document.querySelectorAll(".explore")) {
    const data = JSON.parse(box.querySelector("script").textContent);
    const slider = box.querySelector("input");
    const said = box.querySelector("output");
    const marker = box.parentElement.querySelector(".marker");
    const show = () => {
      const at = Number(slider.value);
      const r = data.thresholds[at];
      const nulls = Object.entries(data.nulls).map(([name, counts]) => `${data.names[name]} ${written(counts[at])}`);
      said.textContent = `r ≥ ${r.toFixed(2)}: ${written(data.shared[at])} pairs, ` +
        `${written(data.beyond[at])} of them beyond the token; nulls: ${nulls.join(", ")}`;
      const place = Number(marker.dataset.left) + Number(marker.dataset.span) *
        (r - Number(marker.dataset.low)) / (Number(marker.dataset.high) - Number(marker.dataset.low));
      marker.setAttribute("x1", place);
      marker.setAttribute("x2", place);
      marker.style.visibility = "visible";
    };
    slider.max = String(data.thresholds.length - 1);
    slider.addEventListener("input", show);
    box.hidden = false;
    show();
  }

  const number = (text) => {
    const found = text.replace(/[,\s]/g, "").replace("\u2212", "-").match(/^[^0-9-]*(-?[0-9.]+)/);
    return found ? Number(found[1]) : NaN;
  };
  const text = (cell) => (cell.firstChild ? cell.firstChild.textContent : "").trim() || cell.textContent.trim();
  const compare = (left, right) => {
    const [a, b] = [number(left), number(right)];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || left.localeCompare(right);
    return a - b;
  };
  const sortable = (table, name) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      head.dataset.sorts = "";
      head.tabIndex = 0;
      const sort = () => {
        const falls = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", falls ? "descending" : "ascending");
        const rows = [...body.rows].sort((one, other) => compare(text(one.cells[at]), text(other.cells[at])));
        body.append(...(falls ? rows.reverse() : rows));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
    const save = document.createElement("button");
    save.type = "button";
    save.className = "download";
    save.textContent = "Save as CSV";
    save.addEventListener("click", () => {
      const quoted = (cell) => `"${cell.innerText.replace(/\s+/g, " ").trim().replaceAll('"', '""')}"`;
      const lines = [...table.rows].map((row) => [...row.cells].map(quoted).join(","));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
      link.download = `${name}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
    table.parentElement.after(save);
  };
  const cells = (row, kind, values) => {
    for (const value of values) {
      const cell = document.createElement(kind);
      cell.textContent = value === null ? "–" : typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : String(value);
      row.append(cell);
    }
  };
  document.querySelectorAll(".table").forEach((table, at) => sortable(table, `table-${at + 1}`));
  for (const card of document.querySelectorAll(".pairs-table")) {
    const columns = JSON.parse(card.querySelector("script").textContent);
    const names = Object.keys(columns);
    card.hidden = !names.length || !columns[names[0]].length;
    card.querySelector("details").addEventListener("toggle", () => {
      const table = document.createElement("table");
      table.className = "table";
      cells(table.createTHead().insertRow(), "th", names);
      const body = table.createTBody();
      columns[names[0]].forEach((_, row) => cells(body.insertRow(), "td", names.map((name) => columns[name][row])));
      card.querySelector(".scroll").append(table);
      sortable(table, `pairs-${card.closest(".match").id}`);
    }, { once: true });
  }
})();
