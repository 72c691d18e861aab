// The list of runs: what is chosen, and how far those come that go.
import { get } from "./site.js";

const EVERY = 5000;
const MOST = 12;
const form = document.getElementById("compare");
if (form) {
  const button = form.querySelector('button[type="submit"]');
  const words = form.querySelector('[data-part="chosen"]');
  const told = () => {
    const count = form.querySelectorAll('input[name="run"]:checked').length;
    button.disabled = count < 1 || count > MOST;
    if (count > MOST) words.textContent = `At most ${MOST} runs can be told apart.`;
    else words.textContent = count ? `${count} chosen.` : "Tick the runs to compare.";
  };
  form.addEventListener("change", told);
  told();
  setInterval(look, EVERY);
}

async function look() {
  const going = form.querySelector('[data-state="running"], [data-state="saving"], [data-state="elsewhere"]');
  if (document.hidden || !going) return;
  let runs;
  try {
    ({ runs } = await get("/runs.json"));
  } catch {
    return;
  }
  for (const run of runs) {
    const row = form.querySelector(`input[value="${CSS.escape(run.name)}"]`)?.closest("tr");
    if (!row) return location.reload();
    if (row.querySelector('[data-part="state"]').dataset.state !== run.state) return location.reload();
    const { step, total, left_words: left } = run.progress;
    const [bar, steps, soft] = ["progress", ".steps", "td:nth-child(4) .soft"].map((one) => row.querySelector(one));
    if (bar && total) bar.value = step;
    if (steps && step !== null) steps.textContent = `${step.toLocaleString("en")}${total ? ` of ${total.toLocaleString("en")}` : ""} steps`;
    if (soft && step !== null) soft.textContent = left;
  }
}
