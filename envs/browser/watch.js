// Runs in every page before its own scripts: keeps pictures the same every time, and knows when the page is on its way
// to another one. See page.py.
(() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(
    "*, *::before, *::after { caret-color: transparent !important; animation: none !important;" +
      " transition: none !important; scroll-behavior: auto !important; }"
  );
  document.adoptedStyleSheets = [sheet];

  const state = { leaving: false };
  const leave = () => { state.leaving = true; };
  // A form is sent by a later task than the click on its button; links and scripts navigate at once.
  addEventListener("submit", (event) => {
    if (!event.defaultPrevented && event.target.method !== "dialog") leave();
  });
  if (window.navigation) {
    navigation.addEventListener("navigate", (event) => {
      if (!event.destination.sameDocument && event.downloadRequest === null) leave();
    });
    navigation.addEventListener("navigateerror", () => { state.leaving = false; });
  }
  const busy = () =>
    state.leaving || document.readyState !== "complete" || document.querySelector('[aria-busy="true"]') !== null;
  const settled = async () => {
    while (busy()) await new Promise((resolve) => setTimeout(resolve, 2));
  };
  Object.defineProperty(window, "__turnwise", { value: Object.freeze({ settled }) });
})();
