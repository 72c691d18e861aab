// The last word on what people do not agree about.
import { el, post, say } from "./site.js";

for (const dispute of document.querySelectorAll(".dispute")) {
  const verdict = dispute.querySelector(".verdict");
  const buttons = [...dispute.querySelectorAll("button[data-word]")];
  for (const button of buttons) button.addEventListener("click", () => settle(button));

  async function settle(button) {
    const told = await sent("/agreement/settle", { item: dispute.dataset.item, word: button.dataset.word });
    if (!told) return;
    const back = el("button", { type: "button", class: "quiet", onclick: undo }, "Take it back");
    verdict.replaceChildren(`Settled: ${button.textContent}.`, back);
    show(true);
    back.focus();
  }

  async function undo() {
    if (!(await sent("/agreement/unsettle", { item: dispute.dataset.item }))) return;
    show(false);
    buttons[0].focus();
  }

  function show(done) {
    dispute.classList.toggle("done", done);
    verdict.hidden = !done;
  }

  async function sent(url, object) {
    for (const button of buttons) button.disabled = true;
    try {
      const told = await post(url, object);
      document.getElementById("left").textContent = told.left.toLocaleString("en");
      return told;
    } catch (error) {
      say(error.message, true);
      return null;
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }
}
