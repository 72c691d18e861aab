// The data pages: buttons that start and stop work, and pages that watch it.
import { get, post, say } from "./site.js";

const EVERY = 1000; // milliseconds between two looks at work that runs

async function press(button) {
  button.disabled = true;
  try {
    await post(button.dataset.post, JSON.parse(button.dataset.body));
    location.reload();
  } catch (error) {
    button.disabled = false;
    say(error.message, true);
  }
}

for (const button of document.querySelectorAll("[data-post]")) {
  button.addEventListener("click", () => press(button));
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const line = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(line.textContent);
      say("Copied");
    } catch {
      getSelection().selectAllChildren(line);
      say("Selected: copy it with the keyboard");
    }
  });
}

const trace = document.getElementById("trace");
if (trace) {
  const run = trace.elements.run;
  const model = trace.elements.model;
  model.addEventListener("input", () => {
    if (model.value) run.value = "";
  });
  run.addEventListener("change", () => {
    if (run.value) model.value = "";
  });
  trace.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = { run: run.value, model: model.value.trim() };
    const place = `/data/i/${trace.dataset.id}/trace`;
    try {
      await post(place, chosen);
      location.href = `${place}?${new URLSearchParams(chosen)}`;
    } catch (error) {
      trace.querySelector("[data-error]").textContent = error.message;
    }
  });
}

async function watch(card) {
  const twin = `${location.pathname}.json${location.search}`;
  try {
    const { job } = await get(twin);
    if (!job || job.state !== "running") {
      location.reload();
      return;
    }
    card.querySelector("[data-seconds]").textContent = Math.round(job.seconds);
    const progress = card.querySelector("[data-progress]");
    if (progress.textContent !== job.progress) progress.textContent = job.progress;
  } catch {
    // The server may be restarting: the next look tells.
  }
  setTimeout(() => watch(card), EVERY);
}

for (const card of document.querySelectorAll("[data-watch]")) setTimeout(() => watch(card), EVERY);

// A rare word: look further back by itself until something is found or all was looked at.
const further = document.querySelector("a[data-further]");
if (further) {
  further.textContent = "Looking further back …";
  location.replace(further.href);
}
