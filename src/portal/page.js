(() => {
  const main = document.querySelector("main");
  const { self, refresh } = main.dataset;
  const look = async () => {
    try {
      const answer = await fetch(self, { cache: "no-store" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const parts = page.querySelectorAll("main > :not(#notice)");
      if (parts.length !== document.querySelectorAll("main > :not(#notice)").length) return location.replace(self);
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
    } catch {
      // The next look may succeed.
    }
  };
  setInterval(() => document.hidden || look(), Number(refresh) * 1000);
})();
