// Several runs in the same charts: one colour and dash pattern each, one cursor for all charts.
import { Chart, Lines, lookOfRun, redrawing, swatch, zoomFields } from "./charts.js";
import { get, live, say } from "./site.js";

const POINTS = 600;
const MANY = 2000;
const place = document.getElementById("charts");
const runs = [...document.querySelectorAll("#legend button[data-run]")].map((button, at) => {
  const look = lookOfRun(at);
  button.querySelector('[data-part="swatch"]').replaceChildren(swatch(look));
  const name = button.dataset.run;
  return { name, button, look, url: `/runs/${encodeURIComponent(name)}`, lines: new Lines(), mark: "", specs: [] };
});
const byName = new Map(runs.map((run) => [run.name, run]));
let charts = new Map();
let zoom = null;

const onZoom = (from, to) => {
  zoom = from === undefined ? null : [from, to];
  showZoom(zoom);
  for (const run of runs) draw(run);
};
const showZoom = zoomFields(document.querySelector(".zoom"), onZoom);
const redraw = redrawing((colours) => {
  if (colours) for (const chart of charts.values()) chart.rebuild();
  if (!document.hidden) fill();
});

for (const { button, name } of runs) {
  button.addEventListener("click", () => {
    const showing = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(showing));
    for (const chart of charts.values()) chart.show(name, showing);
  });
}

function fill() {
  for (const [key, chart] of charts) chart.set((line) => byName.get(line.key).lines.get(key), zoom);
}

async function draw(run) {
  const range = zoom ? `&from=${zoom[0]}&to=${zoom[1]}` : "";
  try {
    const found = await get(`${run.url}/series?points=${POINTS}${range}`);
    run.lines.replace(found.lines);
    run.mark = found.mark;
    run.specs = found.charts.filter((spec) => !spec.more);
  } catch (error) {
    say(`${run.name}: ${error.message}`, true);
  }
  arrange();
  fill();
}

/** A chart for each line that any run has, in which each run has its own. */
function arrange() {
  const wanted = new Map();
  for (const spec of runs.flatMap((run) => run.specs)) {
    for (const line of spec.lines) {
      const one = spec.lines.length > 1 || line.key.startsWith("heldout.") ? `${spec.title}, ${line.label}` : spec.title;
      if (!wanted.has(line.key)) wanted.set(line.key, { ...spec, id: line.key, title: one, order: spec.id });
    }
  }
  const keys = [...wanted.keys()];
  if (keys.join() === [...charts.keys()].join()) return;
  charts = new Map(
    keys.map((key) => {
      const lines = runs.map((run) => ({ key: run.name, label: run.name, drawn: run.look }));
      return [key, new Chart({ ...wanted.get(key), lines }, { onZoom, toggles: false })];
    }),
  );
  for (const { name, button } of runs) {
    if (button.getAttribute("aria-pressed") === "true") continue;
    for (const chart of charts.values()) chart.hidden.add(name);
  }
  place.replaceChildren(...[...charts.values()].map((chart) => chart.node));
}

function listen() {
  const query = runs.map((run) => `run=${encodeURIComponent(run.name)}&mark=${run.mark}`).join("&");
  const left = new Set(runs.map((run) => run.name));
  const end = live(`/runs/compare/events?${query}`, {
    points: ({ run: name, lines }) => {
      const run = byName.get(name);
      if (zoom) return;
      run.lines.append(lines);
      if (run.lines.added > MANY) draw(run);
      else redraw();
    },
    again: ({ run }) => draw(byName.get(run)),
    progress: ({ run, state }) => {
      const chip = byName.get(run).button.parentElement.querySelector('[data-part="state"]');
      if (chip.dataset.state !== state) [chip.dataset.state, chip.textContent] = [state, state];
    },
    end: ({ run }) => {
      left.delete(run);
      if (!left.size) end();
    },
  });
}

/** A few at a time, so that the first are seen while the others are read. */
async function start() {
  const waiting = [...runs];
  const work = async () => {
    for (let run = waiting.shift(); run; run = waiting.shift()) await draw(run);
  };
  await Promise.all([work(), work()]);
  listen();
}

start();
