"use strict";
// Keys and looks that Gradio's pages lack. Nothing here asks a server; the look is kept in the browser alone.
(() => {
  const LOOK = "kzoo-look";
  const seen = (element) => element.offsetParent !== null;

  // Gradio sets the class once when it starts, and again when the system changes.
  const dress = () => {
    const wanted = localStorage.getItem(LOOK);
    if (wanted) document.body.classList.toggle("dark", wanted === "dark");
  };
  const begin = () => {
    dress();
    new MutationObserver(dress).observe(document.body, { attributeFilter: ["class"] });
  };
  // Gradio may put this into the page before it is read to its end, or after.
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);

  document.addEventListener("click", (event) => {
    if (!event.target.closest("#look")) return;
    localStorage.setItem(LOOK, document.body.classList.contains("dark") ? "light" : "dark");
    dress();
  });

  // Ctrl+Enter in a box is its tab's button.
  const submit = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    const tab = event.target.closest?.("[role=tabpanel]");
    const button = tab && [...tab.querySelectorAll("button.primary")].find(seen);
    if (!button) return;
    event.preventDefault();
    event.stopPropagation();
    // Gradio takes what was typed when it has had a turn.
    setTimeout(() => button.click());
  };

  const STEPS = { ArrowLeft: -1, ArrowRight: 1 };
  const turn = (event) => {
    const tab = event.target.closest?.("[role=tab]");
    const ends = { Home: 0, End: -1 };
    if (!tab || event.altKey || event.ctrlKey || event.metaKey || !(event.key in STEPS || event.key in ends)) return;
    const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")].filter(seen);
    const place = event.key in ends ? ends[event.key] : (tabs.indexOf(tab) + STEPS[event.key]) % tabs.length;
    event.preventDefault();
    tabs.at(place).focus();
    tabs.at(place).click();
  };

  // A page that is loaded again, as it is by itself when its server was restarted, gets its tabs and texts back. They
  // stay in this tab of the browser.
  const KEPT = "kzoo-kept";
  const boxes = () => [...document.querySelectorAll("textarea:not([disabled])")].filter(seen);
  const nameOf = (box) => box.labels?.[0]?.querySelector("span")?.textContent.trim();
  const openTabs = () => [...document.querySelectorAll("[role=tab][aria-selected=true]")].filter(seen);
  const namesOf = (tabs) => tabs.map((tab) => tab.textContent.trim());
  const isLost = () => [...document.querySelectorAll(".toast-body")].some((toast) => /connection/i.test(toast.textContent));
  addEventListener("pagehide", () => {
    const texts = boxes().map((box) => [nameOf(box), box.value]).filter(([, text]) => text);
    sessionStorage.setItem(KEPT, JSON.stringify({ tabs: namesOf(openTabs()), texts, lost: isLost() }));
  });

  const appear = async (find) => {
    for (let turn = 0; turn < 300; turn++) {
      const found = find();
      if (found) return found;
      await new Promise((wake) => setTimeout(wake, 100));
    }
  };
  const tell = (text) => {
    const place = Object.assign(document.createElement("p"), { className: "told", textContent: text });
    place.setAttribute("role", "status");
    document.querySelector(".header").after(place);
  };
  const restore = async () => {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    sessionStorage.removeItem(KEPT);
    const again = performance.getEntriesByType("navigation")[0]?.type === "reload";
    if (!kept || !again || new URLSearchParams(location.search).has("tab")) return;
    for (const name of kept.tabs) {
      const isIt = (tab) => seen(tab) && tab.textContent.trim() === name;
      (await appear(() => [...document.querySelectorAll("[role=tab]")].find(isIt)))?.click();
      await appear(() => namesOf(openTabs()).includes(name));
    }
    for (const [name, text] of kept.texts) {
      const box = await appear(() => boxes().find((each) => nameOf(each) === name));
      if (!box || box.value) continue;
      box.value = text;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
    if (kept.lost) tell("The server was restarted, and what you asked it last got no answer: ask again.");
  };
  restore();

  document.addEventListener("keydown", (event) => { submit(event); turn(event); }, true);
})();
