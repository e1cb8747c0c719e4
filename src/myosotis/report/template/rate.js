"use strict";
(() => {
  const form = document.getElementById("sheet");
  const chosen = () => [...form.querySelectorAll("input:checked")];
  const told = document.getElementById("told");
  form.addEventListener("change", () => {
    told.textContent = `${chosen().length} of ${form.dataset.cards} rated`;
  });
  document.getElementById("save").addEventListener("click", () => {
    const rows = chosen().map((input) => `${form.dataset.sheet},${input.name},${input.value}`);
    const text = ["sheet,item,choice", ...rows, ""].join("\n");
    const link = document.createElement("a");
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(text)}`;
    link.download = "ratings.csv";
    link.click();
  });
})();
