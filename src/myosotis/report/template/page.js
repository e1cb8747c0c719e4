"use strict";
// What the page gains where scripts run: settings are filtered and sorted, commands are copied.
// Everything it works on stands on the page without it. It sends nothing and reads nothing else.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function button(text, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  if (label) made.setAttribute("aria-label", label);
  return made;
}

// A table whose header cells have data-sort: number or text.
function sortable(table) {
  const heads = all("thead th", table);
  const body = table.tBodies[0];
  const first = [...body.rows];
  const value = (row, place, kind) => {
    const cell = row.cells[place];
    const given = cell.dataset.value ?? cell.textContent.trim();
    return kind === "number" ? (given === "" ? NaN : Number(given)) : given;
  };
  const order = (place, kind, down) => (a, b) => {
    const [x, y] = [value(a, place, kind), value(b, place, kind)];
    if (kind !== "number") return down ? y.localeCompare(x) : x.localeCompare(y);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return down ? y - x : x - y;
  };
  heads.forEach((head, place) => {
    const kind = head.dataset.sort;
    if (!kind) return;
    const made = button("", "");
    made.className = "sort";
    made.append(...head.childNodes);
    made.insertBefore(document.createElement("span"), made.querySelector("small"));
    head.append(made);
    made.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const next = now === "descending" ? "ascending" : now === "ascending" ? null : "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      let rows = first;
      if (next) {
        head.setAttribute("aria-sort", next);
        rows = [...first].sort(order(place, kind, next === "descending"));
      }
      body.append(...rows);
    });
  });
}

// Rows have data-kind; a button for each kind hides and shows them, a field those that hold words.
function filtered(bar) {
  const table = document.getElementById(bar.dataset.filters);
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const hidden = new Set();
  const field = document.createElement("input");
  const told = document.createElement("span");
  const apply = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.cells[0].textContent.toLowerCase().replaceAll("\u2011", "-");
      row.hidden = hidden.has(row.dataset.kind) || !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    told.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} settings`;
  };
  all("[data-kind]", bar).forEach((chip) => {
    const made = button("", "");
    made.className = chip.className;
    made.append(...chip.childNodes);
    made.setAttribute("aria-pressed", "true");
    made.addEventListener("click", () => {
      const kind = chip.dataset.kind;
      if (!hidden.delete(kind)) hidden.add(kind);
      made.setAttribute("aria-pressed", String(!hidden.has(kind)));
      apply();
    });
    chip.replaceWith(made);
  });
  field.type = "search";
  field.placeholder = "filter settings";
  field.setAttribute("aria-label", "show settings whose name holds");
  field.addEventListener("input", apply);
  told.setAttribute("role", "status");
  bar.append(field, told);
  bar.hidden = false;
}

function copied(command) {
  const made = button("Copy", "copy the command");
  made.className = "copy";
  made.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent.trim());
      made.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      made.textContent = "Selected";
    }
    setTimeout(() => (made.textContent = "Copy"), 1600);
  });
  command.after(made);
}

all("table.sortable").forEach(sortable);
all("[data-filters]").forEach(filtered);
all("pre.command").forEach(copied);
