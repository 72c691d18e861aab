// What the pages' scripts share: requests, live events, nodes, words for whoever listens.

const held = (page) => page.querySelector('meta[name="form-token"]');
const name = (page) => page.querySelector(".me")?.textContent;

/** Send an object as JSON; gives the answer. Throws an Error with `.status` and perhaps `.fields`. */
export async function post(url, object = {}) {
  const send = () => fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": held(document).content },
    body: JSON.stringify(object),
  });
  let answer;
  try {
    answer = await send();
    if (answer.status === 403 && (await renewed())) answer = await send();
  } catch {
    throw new Error("the server does not answer: is palate ui running?");
  }
  return told(answer);
}

/** A page outlives the server: whether there is another form token by now, for the same person. */
async function renewed() {
  const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
  const [old, fresh] = [held(document), held(page)];
  if (!fresh?.content || fresh.content === old.content || name(page) !== name(document)) return false;
  old.content = fresh.content;
  return true;
}

/** Fetch a page's JSON twin, or any other JSON of ours. */
export async function get(url) {
  let answer;
  try {
    answer = await fetch(url, { headers: { accept: "application/json" } });
  } catch {
    throw new Error("the server does not answer: is palate ui running?");
  }
  return told(answer);
}

async function told(answer) {
  const body = await answer.json().catch(() => ({ error: `the server said ${answer.status}` }));
  if (!answer.ok) {
    throw Object.assign(new Error(body.error), { status: answer.status, fields: body.fields ?? {} });
  }
  return body;
}

/** Listen to server-sent events: `{name: function(data, id)}`; gives a function that ends it. */
export function live(url, handlers, onState = () => {}) {
  const source = new EventSource(url);
  for (const [name, handler] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => {
      if (event.data !== undefined) handler(JSON.parse(event.data), event.lastEventId);
    });
  }
  source.addEventListener("open", () => onState("open"));
  source.addEventListener("error", () => onState(source.readyState === 2 ? "closed" : "lost"));
  const end = () => source.close();
  addEventListener("pagehide", end, { once: true });
  return end;
}

/** A node: attributes as an object (`on…` are listeners), children as text or nodes, never markup. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((one) => one !== null && one !== undefined));
  return node;
}

/** Say something in the corner, and to a screen reader. */
export function say(words, isBad = false) {
  const place = document.getElementById("said");
  place.textContent = words;
  place.classList.toggle("bad", isBad);
  place.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => place.classList.remove("shown"), isBad ? 8000 : 3000);
}

/** Whether keys belong to what somebody writes in. */
export function isTyping(event) {
  const at = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return true;
  return at instanceof HTMLElement && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName));
}

/** A number for people. */
export const shown = (value, digits = 3) =>
  value === null || value === undefined || !Number.isFinite(value)
    ? "–"
    : value.toLocaleString("en", { maximumSignificantDigits: digits });
