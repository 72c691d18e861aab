// Samples of a run: differing words on demand.
import { wordsButton } from "./words.js";

wordsButton(document);
document.getElementById("step")?.addEventListener("change", (event) => event.target.form.submit());
