(() => {
  const main = document.querySelector("main");
  const { self, refresh } = main.dataset;
  // So many looks without an answer, and the page must not go on saying that all is well.
  const ENOUGH = 3;
  let answered = new Date();
  let missed = 0;
  let looking = false;
  const show = (page) => {
    const parts = page.querySelectorAll("main > :not(#notice)");
    if (parts.length !== document.querySelectorAll("main > :not(#notice)").length) return location.replace(self);
    document.title = page.title;
    for (const next of parts) {
      const here = document.getElementById(next.id);
      if (!here) return location.replace(self);
      // The countdown by itself, so that a code being copied stays selected.
      const left = here.querySelector("#time-left");
      const newer = next.querySelector("#time-left");
      if (left && newer) left.innerHTML = newer.innerHTML;
      if (here.innerHTML === next.innerHTML) continue;
      // Somebody is filling in the form, or reads what is wrong with it.
      const fields = [...here.querySelectorAll("input:not([type=hidden])")];
      if (fields.some((field) => field.value || field === document.activeElement)) continue;
      const focus = document.activeElement?.id;
      const open = here.querySelector("details")?.open;
      here.className = next.className;
      here.innerHTML = next.innerHTML;
      if (open) here.querySelector("details")?.setAttribute("open", "");
      if (focus) document.getElementById(focus)?.focus();
    }
  };
  const unanswered = () => {
    missed += 1;
    if (missed !== ENOUGH) return;
    const element = (name, text) => Object.assign(document.createElement(name), { textContent: text });
    const mark = Object.assign(element("span", "\u2715 "), { className: "mark", ariaHidden: "true" });
    const say = Object.assign(element("h2", `This page has had no answer since ${answered.toISOString().slice(11, 16)} UTC.`), { className: "say" });
    const step = element("p", "Load the page again. If it does not come, the app does not run or cannot be reached: look in the Azure portal at the app, Overview. If a key is refused, take the page's address from there anew. What stands below is from before.");
    say.prepend(mark);
    step.prepend(element("strong", "What to do: "));
    const verdict = document.getElementById("verdict");
    verdict.className = "verdict stopped";
    verdict.replaceChildren(say, step);
    document.title = `No answer - ${document.title.replace(/^.*? - /, "")}`;
  };
  const look = async () => {
    if (looking) return;
    looking = true;
    try {
      const answer = await fetch(self, { cache: "no-store", signal: AbortSignal.timeout(60_000) });
      if (!answer.ok) return unanswered();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      missed = 0;
      answered = new Date();
      show(page);
    } catch {
      unanswered();
    } finally {
      looking = false;
    }
  };
  setInterval(() => document.hidden || look(), Number(refresh) * 1000);
})();
