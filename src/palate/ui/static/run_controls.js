// Stop, resume, and how a run is doing; on any page that shows `_run_controls.html.j2`.
import { get, post, say } from "./site.js";

const EVERY = 2000;
const QUESTIONS = {
  term: "What came since the last checkpoint will be lost.",
  kill: "It does not answer. It will be ended in the middle of whatever it does.",
};

for (const place of document.querySelectorAll("[data-run]")) begin(place);

function begin(place) {
  const address = `/runs/${encodeURIComponent(place.dataset.run)}`;
  const part = (name) => place.querySelector(`[data-part="${name}"]`);
  const button = (name) => place.querySelector(`[data-do="${name}"]`);
  let timer;

  function show(run) {
    const before = place.dataset.word;
    const [word, error] = [part("word"), part("error")];
    place.dataset.word = run.word;
    word.textContent = run.words;
    word.className = `chip ${run.look}`;
    error.textContent = run.error;
    error.hidden = !run.error;
    part("mend").hidden = run.word !== "refused";
    toggle(button("stop"), run.stop);
    toggle(button("resume"), run.resume);
    toggle(button("insist"), run.insist && part("sure").hidden);
    button("insist").dataset.insist = run.insist;
    if (!run.insist) part("sure").hidden = true;
    if (before !== run.word) {
      say(`${run.name}: ${run.words}`, run.look === "bad");
      place.dispatchEvent(new CustomEvent("run-state", { bubbles: true, detail: run }));
    }
    again(run);
  }

  /** Who was on a button that goes away is on the next one, not at the top of the page. */
  function toggle(one, shown) {
    const focused = one === document.activeElement;
    one.hidden = !shown;
    if (focused && one.hidden) place.querySelector("button:not([hidden])")?.focus();
  }

  function again(run) {
    clearTimeout(timer);
    if (["running", "saving", "elsewhere"].includes(run.word)) timer = setTimeout(look, EVERY);
  }

  async function look() {
    if (document.hidden) return again({ word: place.dataset.word });
    try {
      const { run, lines } = await get(`${address}/log.json`);
      write(run, lines);
      show(run);
    } catch {
      again({ word: place.dataset.word });
    }
  }

  async function ask(what, given) {
    try {
      show(await post(`${address}/${what}`, given));
    } catch (error) {
      say(error.message, true);
      look();
    }
  }

  place.addEventListener("click", (event) => {
    const what = event.target.closest("[data-do]")?.dataset.do;
    const insist = button("insist").dataset.insist;
    if (what === "stop" || what === "resume") ask(what);
    if (what === "insist") {
      part("question").textContent = QUESTIONS[insist];
      part("sure").hidden = false;
      button("insist").hidden = true;
      button("never").focus();
    }
    if (what === "sure" || what === "never") {
      part("sure").hidden = true;
      if (what === "sure") ask("stop", { insist });
      else button("insist").hidden = false;
    }
  });
  again({ word: place.dataset.word });
}

function write(run, lines) {
  const log = document.querySelector("[data-log]");
  if (log?.dataset.log !== run.name || !lines.length) return;
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
  const text = lines.join("\n");
  if (log.textContent !== text) log.textContent = text;
  if (atEnd) log.scrollTop = log.scrollHeight;
}
