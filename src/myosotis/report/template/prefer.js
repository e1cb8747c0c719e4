"use strict";
(() => {
  const form = document.getElementById("sheet");
  const told = document.getElementById("told");
  let kept = 0;
  const say = () => {
    told.textContent = `${kept} of ${form.dataset.cards} kept`;
  };
  form.addEventListener("change", async (event) => {
    const input = event.target;
    const card = input.closest("fieldset");
    card.disabled = true;
    try {
      const answer = await fetch("choose", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ item: Number(input.name), choice: input.value }),
      });
      if (!answer.ok) throw new Error(await answer.text());
      kept += 1;
      say();
    } catch (error) {
      card.disabled = false;
      input.checked = false;
      told.textContent = `not kept: ${error.message}`;
    }
  });
})();
