// Sortable tables, figures that can be enlarged, and a slider through the epochs. Without it the
// page says the same.
"use strict";

function sortKey(cell) {
  const text = cell.textContent.trim();
  const number = parseFloat(text.replace(/,/g, ""));
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function compareKeys(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // numbers first
  return a < b ? -1 : a > b ? 1 : 0;
}

function makeSortable(table) {
  if (!table.tHead || table.tBodies[0].rows.length < 2) return;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const order = compareKeys(sortKey(a.cells[column]), sortKey(b.cells[column]));
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

function makeEnlargeable(dialog) {
  const shown = dialog.querySelector("img");
  for (const image of document.querySelectorAll("figure img")) {
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.title = "enlarge";
    const open = () => {
      shown.src = image.src;
      shown.alt = image.alt;
      dialog.showModal();
    };
    image.addEventListener("click", open);
    image.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        open();
      }
    });
  }
  dialog.addEventListener("click", () => dialog.close());
}

function makeSlider(box) {
  const slider = box.querySelector("input");
  const told = box.querySelector("output");
  const figures = [...box.querySelectorAll("figure")];
  slider.max = String(figures.length - 1);
  slider.value = slider.max;
  const show = () => {
    figures.forEach((figure, number) => (figure.hidden = number !== Number(slider.value)));
    told.textContent = `epoch ${figures[Number(slider.value)].dataset.epoch}`;
  };
  slider.addEventListener("input", show);
  box.querySelector("label").hidden = figures.length < 2;
  show();
}

document.querySelectorAll("table").forEach(makeSortable);
document.querySelectorAll("dialog").forEach(makeEnlargeable);
document.querySelectorAll(".epochs").forEach(makeSlider);
