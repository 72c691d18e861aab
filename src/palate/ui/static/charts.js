// Charts of runs: uPlot with a legend of buttons, colours of the page, and a range that others share.
import { el, shown } from "./site.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220;
const FEW = 40; // points up to which each is drawn as a dot too
const DASHED = [7, 5];
const FONT = "12px system-ui, sans-serif";
export const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
const COLORS = 8;

/** Colour and dashes of the run at a place of the list: neighbours differ in both. */
export const lookOfRun = (at) => ({ color: `--run-${(at % COLORS) + 1}`, dash: DASHES[at % DASHES.length] });
const lookOfLine = (line) => ({ color: `--look-${line.look}`, dash: line.dashed ? DASHED : [] });

/** Values by line, `key → [steps, values]`, that grow at their end. */
export class Lines {
  constructor() {
    this.replace({});
  }

  replace(lines) {
    this.added = 0;
    this.byKey = new Map(Object.entries(lines).map(([key, [x, y]]) => [key, [[...x], [...y]]]));
  }

  /** Add what is behind the last step of each line; after a reconnection some of it is known. */
  append(lines) {
    for (const [key, [x, y]] of Object.entries(lines)) {
      const known = this.byKey.get(key) ?? [[], []];
      this.byKey.set(key, known);
      const last = known[0].at(-1) ?? -Infinity;
      x.forEach((step, at) => {
        if (step <= last) return;
        known[0].push(step);
        known[1].push(y[at]);
        this.added += 1;
      });
    }
  }

  get(key) {
    return this.byKey.get(key) ?? [[], []];
  }
}

/** A short line in a colour and dashes, beside a name. */
export function swatch({ color, dash }) {
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "line");
  for (const [name, value] of Object.entries({ viewBox: "0 0 28 10", class: "swatch", "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  const look = { x1: 1, x2: 27, y1: 5, y2: 5, stroke: `var(${color})`, "stroke-width": 2.5 };
  for (const [name, value] of Object.entries(look)) line.setAttribute(name, value);
  if (dash.length) line.setAttribute("stroke-dasharray", dash.join(" "));
  svg.append(line);
  return svg;
}

/**
 * One chart. `spec` is the server's; each of its lines may have a `look` of its own ({color, dash}).
 * `onZoom(from, to)` is asked for a part of the run, `onZoom()` for the whole.
 */
export class Chart {
  constructor(spec, { onZoom, toggles = true }) {
    this.spec = spec;
    this.onZoom = onZoom;
    this.hidden = new Set();
    this.lines = spec.lines.map((line) => ({ ...line, drawn: line.drawn ?? lookOfLine(line) }));
    this.data = this.lines.map(() => [[], []]);
    this.range = null;
    this.place = el("div", { class: "plot", role: "img" });
    this.values = new Map();
    const legend = el("div", { class: "legend", role: "group", "aria-label": `Lines of ${spec.title}` });
    for (const line of this.lines) legend.append(this.entry(line, toggles));
    const id = `chart-${spec.id}`;
    this.node = el(
      "figure",
      { class: "chart", "data-chart": spec.id, "aria-labelledby": id },
      el("h3", { id }, spec.title),
      legend,
      this.place,
      spec.note ? el("figcaption", {}, spec.note) : null,
    );
    new ResizeObserver(() => this.fit()).observe(this.place);
  }

  entry(line, toggles) {
    const value = el("output", { "data-key": line.key }, "–");
    this.values.set(line.key, value);
    const inner = [swatch(line.drawn), el("span", {}, line.label), value];
    if (!toggles) return el("span", { class: "series" }, ...inner);
    const button = el("button", { type: "button", class: "series", "aria-pressed": "true" }, ...inner);
    button.addEventListener("click", () => {
      const showing = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(showing));
      this.show(line.key, showing);
    });
    return button;
  }

  /** Show or hide a line. */
  show(key, showing) {
    if (showing) this.hidden.delete(key);
    else this.hidden.add(key);
    this.rebuild();
  }

  /** New values: `values(line)` gives [steps, values]. `range` is the part of the run, or null. */
  set(values, range = null) {
    this.data = this.lines.map(values);
    this.range = range;
    const joined = this.joined();
    if (!this.plot || this.dotted !== this.isDotted()) this.rebuild();
    else this.plot.setData(joined);
    this.tell();
  }

  joined() {
    return uPlot.join(this.data.map(([x, y]) => [x, y]));
  }

  isDotted() {
    return this.data.map(([x]) => x.length <= FEW).join();
  }

  format(value) {
    return this.spec.share ? `${shown(100 * value)} %` : told(value, 3);
  }

  /** The values at the cursor, or the last ones, in the legend; and the chart in words. */
  tell(at = null) {
    const words = [];
    this.lines.forEach((line, number) => {
      const [x, y] = this.data[number];
      let place = x.length - 1;
      if (at !== null) {
        place = x.findLastIndex((step) => step <= at);
      }
      const value = place < 0 ? "–" : this.format(y[place]);
      this.values.get(line.key).textContent = value;
      if (place >= 0) words.push(`${line.label} ${value} at step ${x[place]}`);
    });
    if (at === null) this.place.setAttribute("aria-label", `${this.spec.title}: ${words.join(", ") || "no values"}`);
  }

  fit() {
    const width = this.place.clientWidth;
    if (width && this.plot && this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
    else if (width && !this.plot && this.data.some(([x]) => x.length)) this.rebuild();
  }

  /** Draw from the beginning: after a change of lines or of the page's colours. */
  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    const width = this.place.clientWidth;
    if (!width) return;
    this.dotted = this.isDotted();
    this.plot = new uPlot(this.options(width), this.joined(), this.place);
  }

  options(width) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const [ink, grid] = [color("--chart-ink"), color("--chart-grid")];
    const axis = { stroke: ink, font: FONT, labelFont: FONT, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
    const tick = (value) => (this.spec.share ? shown(100 * value) : compact(value));
    return {
      width,
      height: HEIGHT,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "runs", setSeries: false, scales: ["x", null] },
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => this.onZoom() },
        points: { size: 7 },
      },
      scales: {
        x: { time: false, range: (_, low, high) => this.range ?? wide(low, high) },
        y: { range: (_, low, high) => wide(low, high, 0.06) },
      },
      axes: [
        { ...axis, label: "step", labelSize: 18, size: 28, values: (_, ticks) => ticks.map(compact) },
        { ...axis, label: this.spec.unit || null, labelSize: 20, labelGap: 2, size: sized, values: (_, ticks) => ticks.map(tick) },
      ],
      series: [
        {},
        ...this.lines.map((line, number) => ({
          label: line.label,
          show: !this.hidden.has(line.key),
          stroke: color(line.drawn.color),
          dash: line.drawn.dash,
          width: 2,
          spanGaps: true,
          points: { show: this.data[number][0].length <= FEW, size: 5 },
        })),
      ],
      hooks: {
        setSelect: [(plot) => this.selected(plot)],
        setCursor: [(plot) => this.pointed(plot)],
      },
    };
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < 6) return;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.onZoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
  }

  pointed(plot) {
    const at = plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null;
    if (at === this.at) return;
    this.at = at;
    this.tell(at);
  }
}

/** A range that is never empty, with some room around it. */
function wide(low, high, room = 0) {
  if (low === null || high === null || low === undefined) return [0, 1];
  if (low === high) return [low - Math.max(0.5, Math.abs(low) * 0.1), high + Math.max(0.5, Math.abs(high) * 0.1)];
  const more = (high - low) * room;
  return [low - more, high + more];
}

/** As wide as the longest tick. */
function sized(plot, ticks, number, cycle) {
  if (cycle > 1) return plot.axes[number]._size;
  const longest = (ticks ?? []).reduce((most, tick) => Math.max(most, tick.length), 0);
  return Math.max(34, 18 + 7.5 * longest);
}

function compact(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${told(value / 1e6, 3)} M`;
  if (size >= 10000) return `${told(value / 1e3, 3)} k`;
  return told(value, 4);
}

/** With a true minus sign, and an exponent where there would be many zeros. */
function told(value, digits) {
  const small = value !== 0 && Math.abs(value) < 1e-3;
  const words = small ? String(Number(value.toPrecision(2)).toExponential()) : shown(value, digits);
  return words.replaceAll("-", "−");
}

/** Call `draw` when the page's colours change, and once for many calls of what it returns. */
export function redrawing(draw) {
  let waiting = false;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(true));
  return () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => requestAnimationFrame(() => {
      waiting = false;
      draw(false);
    }), 200);
  };
}

/** The fields that choose a part of the run by keyboard; `onZoom` as of a chart. */
export function zoomFields(bar, onZoom) {
  const [from, to] = ["from", "to"].map((name) => bar.querySelector(`[data-part="${name}"]`));
  const go = () => {
    const range = [Number(from.value || 0), Number(to.value || Number.MAX_SAFE_INTEGER)];
    if (range[0] < range[1]) onZoom(...range);
  };
  bar.hidden = false;
  bar.querySelector('[data-do="zoom"]').addEventListener("click", go);
  bar.querySelector('[data-do="whole"]').addEventListener("click", () => onZoom());
  for (const field of [from, to]) field.addEventListener("keydown", (event) => event.key === "Enter" && go());
  return (range) => {
    [from.value, to.value] = range ? range.map(Math.round) : ["", ""];
  };
}
