// A duel: what is asked goes out, two answers stream in, a vote goes back.
import { el, get, isTyping, live, post } from "./site.js";

const SIDES = ["left", "right"];
const LETTER = { left: "A", right: "B" };
const at = (id) => document.getElementById(id);
const part = (side, name) => at(side).querySelector(`[data-${name}]`);
const composer = at("composer");
const field = (name) => composer.elements[name];
const choices = [...document.querySelectorAll("[data-choice]")];

let talk = null; // {id, turns, asked, duel} as the server has it
let busy = false;
let voting = false;

function state(words, isBad = false) {
  at("state").textContent = words;
  at("state").classList.toggle("bad", isBad);
}

function turn(role, content) {
  return el("div", { class: `turn ${role}` }, el("h3", { class: "role" }, role), el("div", { class: "text" }, content));
}

const settled = (duel) => duel && duel.choice !== null && duel.choice !== "bad";

function drawTurns() {
  const turns = talk ? [...talk.turns] : [];
  // After a vote the last two turns are the duel that still stands below.
  if (talk && settled(talk.duel)) turns.splice(-2);
  const nodes = turns.map((one) => turn(one.role, one.content));
  if (talk?.duel) nodes.push(turn("user", talk.asked));
  at("turns").replaceChildren(...nodes);
}

function ended(side, finish, why) {
  const words = {
    stop: part(side, "text").textContent.trim() ? "" : "The answer is empty.",
    length: "Cut off at the longest allowed length.",
    error: `No complete answer: ${why}`,
  }[finish];
  part(side, "end").textContent = words;
  part(side, "end").hidden = !words;
  part(side, "end").classList.toggle("problem", finish === "error");
  at(side).classList.remove("waiting");
}

function drawDuel() {
  const duel = talk?.duel;
  at("duel").hidden = !duel;
  if (!duel) return;
  at("outcome").hidden = true;
  for (const side of SIDES) {
    part(side, "text").textContent = duel[side].text;
    part(side, "name").hidden = duel[side].name === null;
    part(side, "name").textContent = duel[side].name ?? "";
    part(side, "end").hidden = true;
    at(side).classList.remove("better");
    at(side).classList.toggle("waiting", duel[side].finish === null);
    if (duel[side].finish !== null) ended(side, duel[side].finish, duel[side].why);
  }
  for (const side of SIDES) at(side).classList.toggle("better", betterOf(duel.choice) === side);
  drawButtons();
}

const betterOf = (choice) => ({ 1: "left", 2: "left", 4: "right", 5: "right" })[choice] ?? null;

function drawButtons() {
  const duel = talk?.duel;
  const votable = Boolean(duel?.votable) && duel.choice === null && !busy;
  for (const one of choices) {
    one.disabled = !votable;
    one.setAttribute("aria-pressed", String(duel?.choice === one.dataset.choice));
  }
  at("again").disabled = busy || !duel?.over || settled(duel);
  const waits = busy || votable;
  field("said").disabled = waits;
  at("send").disabled = waits;
}

function listen() {
  const { id, duel } = { id: talk.id, duel: talk.duel };
  busy = true;
  drawTurns();
  drawDuel();
  state("Asking both models …");
  const url = `/arena/talk/${id}/duel/${duel.id}`;
  const add = (side) => (piece) => {
    duel[side].text += piece.text;
    part(side, "text").append(piece.text);
    state("");
  };
  const end = live(
    url,
    {
      left: add("left"),
      right: add("right"),
      state: ({ words }) => state(`${words} …`),
      ended: ({ side, finish, why }) => {
        Object.assign(duel[side], { finish, why });
        ended(side, finish, why);
      },
      done: (whole) => {
        end();
        finish(whole);
      },
    },
    (how) => {
      if (how === "open") return;
      end(); // coming back would find the answers broken off: better to say so
      reload("The connection broke off.");
    },
  );
}

function finish(whole) {
  busy = false;
  talk.duel = whole;
  drawDuel();
  if (whole.votable) {
    const cut = SIDES.filter((side) => whole[side].finish === "length").map((side) => LETTER[side]);
    const said = cut.length ? ` (${cut.join(" and ")} cut off)` : "";
    state(`Both have ended${said}: which one is better?`);
    at("duel").focus({ preventScroll: true });
  } else {
    state("One of the answers is not complete, so there is nothing to vote on: ask again.", true);
    at("again").focus({ preventScroll: true });
  }
}

async function reload(words) {
  try {
    const found = await get(`/arena/talk/${talk.id}.json`);
    talk = found.talk;
    finish(talk.duel);
  } catch (error) {
    busy = false;
    drawButtons();
    state(`${words} ${error.message}`, true);
  }
}

function manner() {
  return { temperature: Number(field("temperature").value), max_tokens: Number(field("max_tokens").value) };
}

async function begin(url, more) {
  if (busy) return;
  busy = true;
  drawButtons();
  try {
    const { talk: id } = await post(url, { ...more, ...manner() });
    talk = (await get(`/arena/talk/${id}.json`)).talk;
    history.replaceState(null, "", `/arena/talk/${id}`);
    field("system").disabled = true;
    field("said").value = "";
    listen();
  } catch (error) {
    busy = false;
    drawButtons();
    const fields = Object.entries(error.fields ?? {}).map(([name, why]) => `${name.replace("_", " ")}: ${why}`);
    state([error.message, ...fields].join("; "), true);
  }
}

function send() {
  const said = field("said").value;
  if (!said.trim() || at("send").disabled) return;
  begin("/arena/ask", talk ? { said, talk: talk.id } : { said, system: field("system").value });
}

const percent = (share) => `${Math.round(share * 100)} %`;

function tallied({ name, other, wins, ties, losses, bad, rate, low, high }) {
  const counts = `${wins} won, ${ties} tied, ${losses} lost, ${bad} both bad`;
  if (rate === null) return `${name} against ${other} so far: ${counts}.`;
  return `${name} over ${other} so far: ${percent(rate)} (95 % interval ${percent(low)} to ${percent(high)}); ${counts}.`;
}

async function vote(choice) {
  const duel = talk?.duel;
  if (voting || busy || !duel?.votable || duel.choice !== null) return;
  voting = true;
  try {
    const told = await post(`/arena/talk/${talk.id}/vote`, { duel: duel.id, choice });
    talk = (await get(`/arena/talk/${talk.id}.json`)).talk;
    drawDuel();
    const box = at("outcome");
    box.hidden = false;
    box.querySelector("[data-names]").textContent = `A was ${told.names.left}, B was ${told.names.right}.`;
    box.querySelector("[data-tally]").textContent = tallied(told.tally);
    box.querySelector("[data-on]").textContent = onward(choice, told.goes_on);
    state("Your vote is saved.");
    if (told.goes_on === null) field("said").value = talk.asked;
    field("said").focus();
  } catch (error) {
    state(error.message, true);
  } finally {
    voting = false;
  }
}

function onward(choice, side) {
  if (side === null) return "Neither answer is kept in the conversation: ask again, or ask in another way.";
  const why = choice === "3" ? " (after a tie from the left one)" : "";
  return `The conversation goes on from ${LETTER[side]}${why}: write on below.`;
}

async function watchLoading() {
  const { serving } = await get("/arena.json");
  if (at("start")) at("start").hidden = serving?.state !== "failed";
  if (busy) return;
  if (serving?.state === "failed") state(`The models cannot be loaded: ${serving.why}`, true);
  if (serving?.state === "loading") {
    state(`The models are being loaded${serving.note ? `: ${serving.note}` : " …"}`);
    setTimeout(watchLoading, 1500);
  } else if (serving?.state === "ready" && !talk) state("The models are ready.");
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
field("said").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
for (const one of choices) one.addEventListener("click", () => vote(one.dataset.choice));
const again = () => at("again").disabled || begin(`/arena/talk/${talk.id}/again`, {});
at("again").addEventListener("click", again);
at("start")?.addEventListener("click", async () => {
  await post("/arena/start");
  watchLoading();
});
document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key === "r") again();
  else if (key === "b") vote("bad");
  else if ("12345".includes(key) && key.length === 1) vote(key);
});

const first = await get(`${location.pathname}.json`);
talk = first.talk;
drawTurns();
if (talk?.duel && !talk.duel.over) listen();
else {
  drawDuel();
  drawButtons();
  if (talk?.duel?.votable && talk.duel.choice === null) state("Both have ended: which one is better?");
  watchLoading();
}
if (!at("said-to").disabled) at("said-to").focus({ preventScroll: true });
