// One run's page: charts that go on as the run does, and parts that are read again when they change.
import { Chart, Lines, redrawing, zoomFields } from "./charts.js";
import { el, get, live, say, shown } from "./site.js";
import { wordsButton } from "./words.js";

const POINTS = 800;
const MANY = 2000; // new points after which the lines are thinned anew
const PARTS = ["head", "findings", "missing", "latest", "spread", "samples", "ship", "about"];
const GOING = ["running", "saving", "elsewhere"];
const place = document.getElementById("charts");
const more = document.getElementById("more");
const { url } = place.dataset;
const lines = new Lines();
let charts = [];
let zoom = null;
let drawing = 0;

const showZoom = zoomFields(document.querySelector(".zoom"), (from, to) => {
  zoom = from === undefined ? null : [from, to];
  showZoom(zoom);
  draw();
});

const redraw = redrawing((colours) => {
  if (colours) for (const chart of charts) chart.rebuild();
  if (!document.hidden) fill();
});

function fill() {
  for (const chart of charts) chart.set((line) => lines.get(line.key), zoom);
}

/** Fetch the lines anew, as fine as the range wants; gives the mark up to which they reach. */
async function draw() {
  const mine = ++drawing;
  const range = zoom ? `&from=${zoom[0]}&to=${zoom[1]}` : "";
  let found;
  try {
    found = await get(`${url}/series?points=${POINTS}${range}`);
  } catch (error) {
    say(error.message, true);
    return null;
  }
  if (mine !== drawing) return null;
  lines.replace(found.lines);
  arrange(found.charts);
  fill();
  tell(found.latest);
  return found.mark;
}

/** The charts that there are now; those that stay keep what was chosen in them. */
function arrange(specs) {
  const shape = JSON.stringify(specs.map((spec) => [spec.id, spec.lines.map((line) => line.key)]));
  if (shape === arrange.shape) return;
  arrange.shape = shape;
  const hidden = new Set(charts.flatMap((chart) => [...chart.hidden]));
  const onZoom = (from, to) => {
    zoom = from === undefined ? null : [from, to];
    showZoom(zoom);
    draw();
  };
  charts = specs.map((spec) => new Chart(spec, { onZoom }));
  for (const chart of charts) {
    for (const button of chart.node.querySelectorAll("button.series")) {
      const key = button.querySelector("output").dataset.key;
      if (!hidden.has(key)) continue;
      chart.hidden.add(key);
      button.setAttribute("aria-pressed", "false");
    }
  }
  const [main, rest] = [charts.filter((one) => !one.spec.more), charts.filter((one) => one.spec.more)];
  const empty = place.querySelector("[data-empty]") ?? el("p", { class: "soft" }, "No step has been recorded yet.");
  place.replaceChildren(...(main.length ? main.map((one) => one.node) : [empty]));
  more.querySelector(".charts").replaceChildren(...rest.map((one) => one.node));
  more.hidden = !rest.length;
}

/** The table's last values. */
function tell(latest) {
  for (const row of document.querySelectorAll("#latest tr[data-key]")) {
    const [step, value] = latest[row.dataset.key] ?? [];
    if (value === undefined) continue;
    const chart = charts.find((one) => one.spec.lines.some((line) => line.key === row.dataset.key));
    row.querySelector('[data-part="last"]').textContent = chart ? chart.format(value) : shown(value);
    row.querySelector('[data-part="step"]').textContent = step.toLocaleString("en");
  }
}

function onPoints({ lines: found }) {
  const known = new Set(charts.flatMap((chart) => chart.spec.lines.map((line) => line.key)));
  if (!zoom) lines.append(found);
  const latest = Object.fromEntries(Object.entries(found).map(([key, [x, y]]) => [key, [x.at(-1), y.at(-1)]]));
  tell(latest);
  if (lines.added > MANY || !charts.length || [...Object.keys(found)].some((key) => isNew(key, known))) draw();
  else if (!zoom) redraw();
}

/** A line that has no chart yet; what is never drawn is asked for once only. */
function isNew(key, known) {
  if (known.has(key) || isNew.asked.has(key)) return false;
  isNew.asked.add(key);
  return true;
}
isNew.asked = new Set();

function onProgress({ state, progress }) {
  const going = GOING.includes(state);
  const { step, total } = progress;
  const bar = document.querySelector("#progress progress");
  if (bar && total) [bar.max, bar.value] = [total, step];
  const words = document.querySelector("#progress .steps");
  if (words && step !== null) {
    words.textContent = `${step.toLocaleString("en")}${total ? ` of ${total.toLocaleString("en")}` : ""} steps`;
  }
  const left = document.querySelector("#progress .steps ~ .soft");
  if (left) left.textContent = going ? progress.left_words : "";
  const changed = place.dataset.state !== state;
  place.dataset.state = state;
  if (changed || (!words && step !== null)) refresh(["progress"]);
}

/** Read the page again and put its parts in place of those that are here. */
async function refresh(parts = PARTS) {
  let text;
  try {
    const answer = await fetch(location.pathname + location.search);
    if (!answer.ok) return;
    text = await answer.text();
  } catch {
    return;
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const id of parts) {
    const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
    if (!old || !fresh || old.contains(document.activeElement)) continue;
    const open = new Set([...old.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
    for (const summary of fresh.querySelectorAll("details > summary")) {
      if (open.has(summary.textContent)) summary.parentElement.open = true;
    }
    if (old.open) fresh.open = true;
    old.replaceWith(document.adoptNode(fresh));
    if (id === "samples") wordsButton(document);
    if (id === "spread") choose();
  }
}

/** Another measurement of the held-out examples. */
function choose() {
  const at = document.getElementById("at");
  at?.addEventListener("change", () => {
    const last = at.selectedIndex === 0;
    history.replaceState(null, "", last ? location.pathname : `?at=${at.value}`);
    at.blur();
    refresh(["spread"]);
  });
}

function listen(mark) {
  const end = live(`${url}/events?mark=${mark}`, {
    points: onPoints,
    again: draw,
    progress: onProgress,
    changed: () => refresh(),
    end: () => {
      end();
      draw();
    },
  });
}

// A run that was resumed or stopped here: its events tell of that seconds later.
document.addEventListener("run-state", ({ detail }) => {
  place.dataset.state = detail.word;
  refresh(["progress"]);
});
choose();
wordsButton(document);
draw().then((mark) => listen(mark ?? ""));
