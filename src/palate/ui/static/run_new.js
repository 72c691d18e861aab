// The form of a new run. Only the server reads it: each change asks what the recipe is now.
import { el, post, say } from "./site.js";

const form = document.getElementById("run");
const touched = new Set();
let asked = 0;

function begin() {
  let timer;
  form.addEventListener("input", (event) => {
    changed(event.target);
    clearTimeout(timer);
    timer = setTimeout(preview, 200);
  });
  form.addEventListener("click", (event) => {
    if (event.target.closest(".reset")) reset(event.target.closest(".field"));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  document.getElementById("start").addEventListener("click", start);
  document.getElementById("check").addEventListener("click", check);
  preview();
}

const control = (field) => field.querySelector("input, select, textarea");
const isOff = (node) => node.closest("fieldset[disabled]") !== null;

/** What the form says: texts, ticks, and what is there of the sections that can be left out. */
function values() {
  const found = {};
  for (const field of form.querySelectorAll(".field")) {
    if (isOff(field)) continue;
    const one = control(field);
    const value = one.type === "checkbox" ? one.checked : one.value;
    found[field.dataset.key] = "whole" in field.dataset ? { yaml: value } : value;
  }
  for (const one of form.querySelectorAll("[data-switch]")) {
    if (!isOff(one)) found[one.dataset.switch] = one.checked;
  }
  return found;
}

function changed(one) {
  if (one.dataset.switch) {
    const inside = form.querySelector(`[data-inside="${one.dataset.switch}"]`);
    inside.hidden = inside.disabled = !one.checked;
    touched.add(one.dataset.switch);
  }
  const field = one.closest(".field");
  if (field) {
    touched.add(field.dataset.key);
    if (field.dataset.kind === "method") chosen(one.value);
    mark(field);
  }
  count(one);
}

function chosen(name) {
  for (const place of form.querySelectorAll("[data-method]")) {
    const mine = place.dataset.method === name;
    place.hidden = place.disabled = !mine;
    if (mine && "samples" in place.dataset) needsRollout(name);
  }
}

function needsRollout(name) {
  const rollout = form.querySelector('[data-switch="rollout"]');
  if (rollout.checked) return;
  rollout.checked = true;
  changed(rollout);
  rollout.closest("details").open = true;
  say(`${name} learns from its own samples: say in Rollout how, and who judges them`);
}

function mark(field) {
  if (field.dataset.default === undefined || "required" in field.dataset) return;
  const one = control(field);
  const now = one.type === "checkbox" ? String(one.checked) : one.value;
  const differs = now !== field.dataset.default;
  field.classList.toggle("changed", differs);
  const back = field.querySelector(".reset");
  if (back) back.hidden = !differs;
}

function count(one) {
  for (let at = one.closest("details"); at; at = at.parentElement.closest("details")) {
    const many = [...at.querySelectorAll(".field.changed, [data-switch]:checked")].filter((it) => !isOff(it)).length;
    at.querySelector("[data-count]").textContent = many ? `${many} changed` : "";
  }
}

function reset(field) {
  const one = control(field);
  if (one.type === "checkbox") one.checked = field.dataset.default === "true";
  else one.value = field.dataset.default;
  delete field.dataset.whole;
  one.dispatchEvent(new Event("input", { bubbles: true }));
  one.focus();
}

async function preview() {
  const turn = ++asked;
  const recipe = document.getElementById("recipe");
  try {
    const answer = await post("/runs/new/recipe", { fields: values() });
    if (turn !== asked) return;
    recipe.classList.toggle("stale", !answer.recipe);
    if (answer.recipe) recipe.textContent = answer.recipe;
    if (answer.command) document.getElementById("command").textContent = answer.command;
    problems(Object.fromEntries(Object.entries(answer.errors).filter(([key]) => touched.has(key) || shown(key))));
  } catch (error) {
    say(error.message, true);
  }
}

/** The control of a field, the switch or the line of a section, and the place for its problem. */
function places(key) {
  const one = document.getElementById(`f-${key}`) ?? document.getElementById(`s-${key}`);
  const said = document.getElementById(`problem-f-${key}`) ?? document.getElementById(`problem-s-${key}`);
  return { one, said };
}

const shown = (key) => places(key).said?.hidden === false;

/** Show exactly these problems beside their fields; what has no field is at the top. */
function problems(errors) {
  const rest = [];
  for (const said of form.querySelectorAll('[id^="problem-"]')) said.hidden = true;
  for (const one of form.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  for (const [key, words] of Object.entries(errors)) {
    const { one, said } = places(key);
    if (!said || isOff(said)) rest.push(key ? `${key}: ${words}` : words);
    else {
      said.textContent = words;
      said.hidden = false;
      one?.setAttribute("aria-invalid", "true");
    }
  }
  return rest;
}

/** All problems, and the first of them under the eyes and hands. */
function refuse(error) {
  const fields = error.fields ?? {};
  for (const key of Object.keys(fields)) touched.add(key);
  const rest = problems(fields);
  const top = document.getElementById("problems");
  const said = rest.length ? rest : Object.keys(fields).length ? [] : [error.message];
  top.hidden = said.length === 0;
  top.replaceChildren(el("strong", {}, "This cannot be started yet."), el("ul", {}, ...said.map((words) => el("li", {}, words))));
  const first = form.querySelector("[aria-invalid], .section > .problem:not([hidden])");
  for (let at = first?.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
  (said.length ? top : first)?.focus();
}

async function start() {
  await busy("start", async () => {
    const { url } = await post("/runs/new/start", { fields: values() });
    location.assign(encodeURI(url));
  });
}

async function check() {
  const said = document.getElementById("checked");
  const found = document.getElementById("found");
  said.textContent = "Looking at the model, the data and this machine …";
  found.hidden = true;
  const answer = await busy("check", () => post("/runs/new/check", { fields: values() }));
  said.textContent = !answer ? "" : answer.passed ? "The check has passed." : answer.error ?? "The check has failed.";
  said.classList.toggle("problem", Boolean(answer) && !answer.passed);
  if (answer) {
    found.textContent = answer.lines.join("\n");
    found.hidden = false;
  }
}

async function busy(id, work) {
  const button = document.getElementById(id);
  button.disabled = true;
  try {
    const answer = await work();
    document.getElementById("problems").hidden = true;
    return answer;
  } catch (error) {
    refuse(error);
    return null;
  } finally {
    button.disabled = false;
  }
}

async function lookAtData(event) {
  event.preventDefault();
  const place = event.target;
  const problem = document.getElementById("init-problem");
  const button = place.querySelector("button");
  button.disabled = true;
  problem.hidden = true;
  try {
    const { url } = await post("/runs/new/init", { model: place.elements.model.value, data: place.elements.data.value });
    location.assign(encodeURI(url));
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    button.disabled = false;
    place.elements.data.focus();
  }
}

if (form) begin();
document.getElementById("init")?.addEventListener("submit", lookAtData);
