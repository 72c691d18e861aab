import { el, post, say } from "./site.js";

const form = document.getElementById("invite");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const place = document.getElementById("invite-link");
  try {
    const { name, link } = await post("/invite", { name: form.elements.name.value });
    const copy = el("button", { type: "button", onclick: () => taken(link) }, "Copy");
    place.replaceChildren(`For ${name}: `, el("code", {}, link), " ", copy);
  } catch (error) {
    place.textContent = error.message;
  }
});

async function taken(link) {
  try {
    await navigator.clipboard.writeText(link);
    say("copied");
  } catch {
    say("the browser does not let me copy: select the link", true);
  }
}
