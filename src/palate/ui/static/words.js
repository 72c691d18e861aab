// Which words of the answer after training are not in the one before: on demand, in place.

const MOST = 800; // words of an answer that are compared

/** Wire the buttons that mark differing words in every prompt of the page. */
export function wordsButton(root) {
  const button = root.querySelector('[data-do="words"]');
  if (!button) return;
  button.addEventListener("click", () => {
    const marked = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(marked));
    for (const one of document.querySelectorAll("[data-compare]")) mark(one, marked);
  });
}

function mark(prompt, marked) {
  const [before, after] = [...prompt.querySelectorAll(".side")].map((side) => [...side.querySelectorAll(".answer .text")]);
  after?.forEach((node, at) => {
    const other = before?.[at];
    if (!other) return;
    const texts = [other, node].map((one) => one.textContent);
    if (!marked) [other, node].forEach((one, which) => one.replaceChildren(texts[which]));
    else difference(...texts).forEach((parts, which) => [other, node][which].replaceChildren(...parts));
  });
}

/** Both texts as nodes: words that only one has are `del` in the first and `ins` in the second. */
export function difference(old, fresh) {
  const [a, b] = [old, fresh].map((text) => text.split(/(\s+)/).filter((part) => part !== ""));
  if (a.length > 2 * MOST || b.length > 2 * MOST) return [[old], [fresh]];
  const common = longest(a, b);
  return [wrapped(a, new Set(common.map(([i]) => i)), "del"), wrapped(b, new Set(common.map(([, j]) => j)), "ins")];
}

/** Pairs of places of a longest common subsequence. */
function longest(a, b) {
  const width = b.length + 1;
  const length = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      length[i * width + j] =
        a[i] === b[j]
          ? length[(i + 1) * width + j + 1] + 1
          : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  const pairs = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) pairs.push([i++, j++]);
    else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i++;
    else j++;
  }
  return pairs;
}

function wrapped(words, common, tag) {
  const parts = [];
  let open = null;
  words.forEach((word, at) => {
    if (common.has(at)) {
      open = null;
      parts.push(word);
      return;
    }
    if (!open) {
      open = document.createElement(tag);
      parts.push(open);
    }
    open.append(word);
  });
  return parts;
}
