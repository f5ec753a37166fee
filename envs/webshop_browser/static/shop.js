// Choosing an option tells the shop at once; what the shop says then stands on the page.
"use strict";
(() => {
  const item = document.querySelector("article.item");
  if (item === null) return;
  let waiting = 0;
  const choose = async (input) => {
    waiting += 1;
    item.setAttribute("aria-busy", "true");
    try {
      const body = new URLSearchParams({ to: input.value });
      const answer = await fetch(`${item.dataset.here}/choose`, { method: "POST", body });
      if (!answer.ok) throw new Error(`the shop answered ${answer.status}`);
      const { chosen, choice, paint, next } = await answer.json();
      if (next !== null) {
        location.href = next;
        return;  // stays busy until the next page is there
      }
      for (const group of item.querySelectorAll("fieldset")) {
        const value = chosen[group.querySelector("legend").textContent];
        for (const radio of group.querySelectorAll("input")) radio.checked = radio.value === value;
      }
      item.querySelector(".choice").textContent = choice;
      item.querySelector("svg.picture g").setAttribute("fill", paint);
    } catch {
      location.reload();
      return;
    }
    waiting -= 1;
    if (waiting === 0) item.removeAttribute("aria-busy");
  };
  item.addEventListener("change", (event) => {
    if (event.target.matches('input[type="radio"]')) choose(event.target);
  });
})();
