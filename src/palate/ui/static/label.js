// The labelling page: one item at a time, the next one fetched ahead, every word acknowledged.

import { difference } from "./difference.js";
import { el, get, isTyping, post, say } from "./site.js";

const at = (id) => document.getElementById(id);
const stage = at("stage");
const show = stage.dataset.show;
const LAST = 10;
const WORDS = {
  "clearly-first": "A clearly", "slightly-first": "A slightly", tie: "Tie",
  "slightly-second": "B slightly", "clearly-second": "B clearly", "both-bad": "Both bad",
  up: "Good", down: "Bad", skip: "Skipped", flag: "Flagged",
};
const IMPROVABLE = show === "pairs"
  ? [["clearly-first", "1"], ["slightly-first", "2"], ["slightly-second", "4"], ["clearly-second", "5"]]
  : [["up", "1"], ["down", "2"]];
const KEYS = show === "pairs"
  ? { 1: "clearly-first", 2: "slightly-first", 3: "tie", 4: "slightly-second", 5: "clearly-second",
      b: "both-bad", d: "difference" }
  : { 1: "up", 2: "down" };
Object.assign(KEYS, { " ": "skip", z: "undo", e: "edit", n: "note", f: "flag", "?": "help-button" });

let now = null; // the item in view
let ahead = null; // a promise of the page's data with the item after it
let editing = null; // {say} while an edit is open
let isMarked = false; // whether differences are marked
let last = []; // the last words, the latest first
let flying = []; // words that are on their way, oldest first
let unsent = []; // words that did not arrive
let count = 0; // of words said here
let arrived = 0; // the last of them that arrived
let line = Promise.resolve(); // words are sent one after the other

const sameItem = (one, other) => one.item === other.item && one.round === other.round;

// Fetching and drawing

function next(...held) {
  const known = [...held, ...flying, ...unsent].filter(Boolean).map((one) => one.item);
  const query = new URLSearchParams([["show", show], ...[...new Set(known)].map((key) => ["held", key])]);
  const found = get(`/label.json?${query}`);
  found.catch(() => {}); // said where it is awaited
  return found;
}

async function advance() {
  const coming = ahead ?? next(now);
  ahead = null;
  now = null;
  try {
    take(await coming);
  } catch (error) {
    nothing(error.message, "Your votes are safe where they were acknowledged.");
  }
}

function take(data) {
  if (data.progress) progress(data.progress);
  draw(data.item);
  if (data.item) ahead = next(data.item);
  else if (data.progress?.reading) setTimeout(() => now === null && advance(), 700);
}

function draw(item, isReopened = false) {
  now = item;
  closeEdit();
  at("note-box").hidden = true;
  at("note-text").value = item?.said?.note ?? "";
  at("leave").hidden = !isReopened;
  stage.hidden = item === null;
  at("nothing").hidden = item !== null;
  if (item === null) return nothing();
  at("talk").replaceChildren(talk(item.turns));
  drawAnswers();
  for (const button of stage.querySelectorAll(".scale button, #both-bad")) {
    button.setAttribute("aria-pressed", String(button.id === item.said?.say));
  }
  at("undo").disabled = false;
  if (scrollY > stage.offsetTop) scrollTo({ top: stage.offsetTop - 8 });
  if (!isTypingNow()) stage.focus({ preventScroll: true });
}

function talk(turns) {
  const nodes = turns.map(({ role, content }, place) => {
    const words = el("div", { class: "text", tabindex: place === turns.length - 1 ? "0" : false }, content);
    return role === "system" || role === "developer"
      ? el("details", { class: `turn ${role}` }, el("summary", {}, role), words)
      : el("div", { class: `turn ${role}` }, el("h3", { class: "role" }, role), words);
  });
  const early = nodes.length > 5 ? nodes.splice(0, nodes.length - 3) : [];
  const folded = early.length
    ? el("details", {}, el("summary", {}, `${early.length} earlier turns`), el("div", { class: "talk" }, ...early))
    : null;
  return el("div", { class: "talk" }, folded, ...nodes);
}

function drawAnswers() {
  const texts = now.answers.map((answer) => answer.text);
  const parts = isMarked && texts.length === 2 ? difference(...texts) : texts.map((text) => [[text, false]]);
  const nodes = parts.map((runs, place) => {
    const name = texts.length === 1 ? "Answer" : "AB"[place];
    const words = runs.map(([text, isOnly]) => (isOnly ? el(place ? "ins" : "del", {}, text) : text));
    const text = el("div", { class: "text", tabindex: "0", role: "region", "aria-label": `Answer ${name}` }, ...words);
    return el("article", { class: "card answer", id: `answer-${place}` }, el("h3", {}, name), text);
  });
  at("answers").replaceChildren(...nodes);
  scrollTogether(nodes.map((node) => node.querySelector(".text")));
  at("difference")?.setAttribute("aria-pressed", String(isMarked));
}

function scrollTogether(panes) {
  let leader = null;
  let timer;
  for (const pane of panes) {
    pane.addEventListener("scroll", () => {
      if (leader !== null && leader !== pane) return;
      leader = pane;
      clearTimeout(timer);
      timer = setTimeout(() => (leader = null), 120);
      const room = pane.scrollHeight - pane.clientHeight;
      for (const other of panes) {
        if (other !== pane && room > 0) {
          other.scrollTop = (pane.scrollTop / room) * (other.scrollHeight - other.clientHeight);
        }
      }
    });
  }
}

function nothing(words, cure = "") {
  stage.hidden = true;
  at("nothing").hidden = false;
  const total = at("total").textContent;
  const isReading = !at("reading").hidden;
  const kind = show === "pairs" ? "pairs of answers" : "single answers";
  at("nothing-words").textContent = words ?? (isReading
    ? "The store is being read."
    : total === "0" ? `There are no ${kind} in the store.` : "Nothing is left for you here.");
  at("nothing-cure").textContent = cure || (words || isReading ? cure : total === "0"
    ? "Import conversations with palate import, or look at the other kind."
    : "What others have at hand comes free when they leave it.");
}

function progress({ mine, left, total, reading }) {
  for (const [id, count] of Object.entries({ mine, left, total })) at(id).textContent = count.toLocaleString("en");
  at("reading").hidden = !reading;
}

// Saying something

function tell(url, words) {
  const { item, round } = now;
  const note = at("note-text").value.trim();
  const asked = now.turns.findLast((turn) => turn.role === "user")?.content ?? "";
  const body = { item, round, ...words, ...(note ? { note } : {}) };
  const word = { item, round, url, body, was: now, number: (count += 1), about: asked.replace(/\s+/g, " ").slice(0, 90) };
  flying.push(word);
  state("Keeping …");
  line = line.then(() => send(word));
  advance();
}

const choose = (choice) => now && tell("/label/vote", { say: choice });

async function send(word) {
  try {
    const answer = await post(word.url, word.body);
    arrived = Math.max(arrived, word.number);
    progress(answer.progress);
    remember(answer.kept);
    state(`Saved: ${described(answer.kept)}`);
  } catch (error) {
    unsent = [...unsent.filter((one) => !sameItem(one, word)), word];
    const cure = error.status === 401 ? ", in another tab; then try again here, where your vote waits" : "";
    at("unsent-why").textContent = error.message + cure;
    state("Your last vote is not saved yet.");
  }
  flying = flying.filter((one) => one !== word);
  drawUnsent();
}

function drawUnsent() {
  at("unsent").hidden = unsent.length === 0;
  at("unsent-list").replaceChildren(
    ...unsent.map((one) => el("li", {}, `${WORDS[one.body.say] ?? one.url.split("/").pop()}: ${one.about}`)),
  );
}

function again() {
  const waiting = unsent;
  unsent = [];
  flying.push(...waiting);
  drawUnsent();
  for (const word of waiting) line = line.then(() => send(word));
  line.then(() => now ?? advance());
}

async function undo() {
  if (at("undo").disabled) return;
  at("undo").disabled = true;
  await line;
  // Of a word that did not arrive nobody knows whether it was kept: it is named, and the server asked.
  const lost = unsent.findLast((word) => word.number > arrived);
  try {
    const answer = await post("/label/undo", lost ? { item: lost.item, round: lost.round } : {});
    const undone = answer.undone ?? lost?.was ?? null;
    unsent = unsent.filter((word) => word !== lost);
    drawUnsent();
    progress(answer.progress);
    if (undone === null) return say("There is nothing to undo.");
    last = last.filter((one) => !sameItem(one, undone));
    drawLast();
    state("Taken back. Vote again, or go on with another.");
    reopen(undone);
  } catch (error) {
    say(error.message, true);
  } finally {
    at("undo").disabled = false;
  }
}

/** Show an item of before; the one that was in view comes after it. */
function reopen(item, isReopened = false) {
  if (item.kind !== (show === "pairs" ? "pair" : "single")) {
    location.href = `/label?show=${item.kind === "pair" ? "pairs" : "single"}`;
    return;
  }
  if (now && !sameItem(now, item)) ahead = Promise.resolve({ item: now });
  draw(item, isReopened);
}

async function leave() {
  at("leave").hidden = true;
  await advance();
}

// Notes and edits

function openNote() {
  at("note-box").hidden = false;
  at("note-text").focus();
}

function openEdit() {
  editing = { say: null };
  at("edit-box").hidden = false;
  at("edit-which").hidden = false;
  at("edit-words").hidden = true;
  at("edit-choices").querySelector("button").focus();
}

function edit(choice) {
  editing = { say: choice };
  const place = choice.endsWith("second") ? 1 : 0;
  const answer = now.answers[place];
  at("edit-which").hidden = true;
  at("edit-words").hidden = false;
  at("edit-label").textContent = show === "pairs"
    ? `Answer ${"AB"[place]} (${WORDS[choice].toLowerCase().slice(2)} better), as it should have been`
    : "The answer, as it should have been";
  const isSameSide = now.said?.say.endsWith("second") === choice.endsWith("second");
  at("edit-text").value = (isSameSide ? now.said?.edit : null) ?? answer.whole ?? answer.text;
  at(`answer-${place}`)?.classList.add("chosen");
  at("edit-text").focus();
}

function closeEdit() {
  editing = null;
  at("edit-box").hidden = true;
  for (const node of stage.querySelectorAll(".chosen")) node.classList.remove("chosen");
}

function saveEdit() {
  if (editing?.say) tell("/label/vote", { say: editing.say, edit: at("edit-text").value });
}

function leaveField() {
  if (editing) closeEdit();
  stage.focus({ preventScroll: true });
}

// The last votes

function described(word) {
  const [first, second] = word.models.map((name, place) => `${name ?? "no name"}, ${word.lengths[place]} words`);
  const said = `${WORDS[word.say]}${word.edit ? ", edited" : ""}${word.note ? ", with a note" : ""}`;
  return second === undefined ? `${said} (${first})` : `${said} (A: ${first}; B: ${second})`;
}

function remember(word) {
  last = [word, ...last.filter((one) => !sameItem(one, word))].slice(0, LAST);
  drawLast();
}

function drawLast() {
  at("last-section").hidden = last.length === 0;
  at("last").replaceChildren(
    ...last.map((one) =>
      el("li", {}, el("button", { type: "button", onclick: () => change(one) },
        el("span", { class: "about" }, one.about || "(no question)"),
        el("span", { class: "soft" }, described(one))))),
  );
}

async function change({ item, round }) {
  try {
    const query = new URLSearchParams({ show, item, round });
    const data = await get(`/label.json?${query}`);
    reopen(data.item, true);
  } catch (error) {
    say(error.message, true);
  }
}

function state(words) {
  at("state").textContent = words;
}

// Keys and buttons

const isTypingNow = () => /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");

function press(event) {
  if (event.repeat || isTyping(event) || at("help").open) return;
  const isOnButton = event.target.closest?.("button, a, summary");
  if (isOnButton && (event.key === " " || event.key === "Enter")) return;
  if (event.key === "Escape") {
    if (editing) leaveField();
    else if (!at("leave").hidden) leave();
    return;
  }
  if (editing && editing.say === null) {
    const found = IMPROVABLE.find(([, key]) => key === event.key);
    if (found) {
      event.preventDefault();
      edit(found[0]);
    }
    return;
  }
  const wanted = KEYS[event.key.toLowerCase()];
  if (wanted === undefined) return;
  event.preventDefault();
  act(wanted);
}

function act(wanted) {
  if (wanted === "help-button") at("help").showModal();
  else if (wanted === "undo") undo();
  else if (now === null) return;
  else if (wanted === "skip" || wanted === "flag") tell(`/label/${wanted}`, {});
  else if (wanted === "edit") openEdit();
  else if (wanted === "note") openNote();
  else if (wanted === "difference") {
    isMarked = !isMarked;
    drawAnswers();
  } else choose(wanted);
}

function listen() {
  addEventListener("keydown", press);
  for (const name of new Set(Object.values(KEYS))) {
    at(name)?.addEventListener("click", () => {
      act(name);
      if (name !== "note" && name !== "edit" && name !== "help-button") stage.focus({ preventScroll: true });
    });
  }
  for (const [name, key] of IMPROVABLE) {
    const hint = el("kbd", { class: "key", "aria-hidden": "true" }, key);
    at("edit-choices").append(el("button", { type: "button", onclick: () => edit(name) }, WORDS[name], hint));
  }
  for (const field of ["note-text", "edit-text"]) {
    at(field).addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") {
        event.preventDefault();
        leaveField();
      } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        if (field === "edit-text") saveEdit();
        leaveField();
      }
      event.stopPropagation();
    });
  }
  at("edit-save").addEventListener("click", saveEdit);
  at("edit-leave").addEventListener("click", leaveField);
  at("again").addEventListener("click", again);
  at("leave").addEventListener("click", leave);
  at("look-again").addEventListener("click", () => advance());
  addEventListener("beforeunload", (event) => {
    if (unsent.length || flying.length) event.preventDefault();
  });
  const guidelines = at("guidelines");
  if (guidelines) {
    guidelines.open = localStorage.getItem("guidelines") !== "folded";
    guidelines.addEventListener("toggle", () => localStorage.setItem("guidelines", guidelines.open ? "open" : "folded"));
  }
}

async function begin() {
  listen();
  try {
    const data = await next();
    last = data.last;
    drawLast();
    take(data);
  } catch (error) {
    nothing(error.message);
  }
}

begin();
