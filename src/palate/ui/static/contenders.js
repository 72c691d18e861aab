// The choice of two models, and how they load.
import { get, post, say } from "./site.js";

const at = (id) => document.getElementById(id);
const NAMES = ["first", "second"];
const known = (name) => document.querySelector(`[data-known="${name}"]`);
const other = (name) => document.querySelector(`[data-other="${name}"]`);

for (const name of NAMES) {
  known(name).addEventListener("change", () => {
    other(name).hidden = known(name).value !== "";
    if (!other(name).hidden) at(name).focus();
  });
}

function problem(name, words) {
  at(`${name}-problem`).textContent = words;
  at(name).toggleAttribute("aria-invalid", Boolean(words));
  if (words) at(name).setAttribute("aria-invalid", "true");
}

function state(words, isBad = false) {
  at("state").textContent = words;
  at("state").classList.toggle("bad", isBad);
}

function draw(serving) {
  at("start").hidden = serving?.state !== "failed";
  if (serving?.state === "failed") state(`The models cannot be loaded: ${serving.why}`, true);
  else if (serving?.state === "loading") {
    state(`The models are being loaded${serving.note ? `: ${serving.note}` : " …"}`);
    setTimeout(async () => draw((await get("/arena/contenders.json")).serving), 1500);
  } else if (serving?.state === "ready") state("The models are ready.");
  else state("");
}

at("contenders").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = {};
  for (const name of NAMES) {
    problem(name, "");
    given[name] = known(name).value || at(name).value;
  }
  try {
    const { serving } = await post("/arena/contenders", given);
    say("these two are in the arena now");
    draw(serving);
  } catch (error) {
    for (const [name, words] of Object.entries(error.fields ?? {})) problem(name, words);
    state(error.message, true);
  }
});
at("start").addEventListener("click", async () => draw((await post("/arena/start")).serving));

draw((await get("/arena/contenders.json")).serving);
