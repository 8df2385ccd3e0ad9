// The page: what the folder is about, the worker, and the view of its kind.

import { Asking } from "./asking.js";
import { bytesOf } from "./loading.js";
import { Problem } from "./problem.js";

const VIEWS = {
  image_classification: "./view_label.js",
  segmentation: "./view_mask.js",
  text_classification: "./view_text.js",
  forecasting: "./view_series.js",
};
const SPOKEN_AFTER = 400; // milliseconds without a newer answer, so that a screen reader is not flooded

const base = new URL(".", import.meta.url).href;
const state = document.getElementById("state");
const alarm = document.getElementById("problem");
const main = document.getElementById("view");
let spoken;

function say(text, milliseconds) {
  clearTimeout(spoken);
  spoken = setTimeout(() => {
    state.textContent = `${text}.`;
  }, SPOKEN_AFTER);
  if (milliseconds !== undefined) {
    document.getElementById("speed").textContent = `Answered in ${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms.`;
  }
}

function fail(error) {
  alarm.hidden = error === null;
  if (error === null) return;
  clearTimeout(spoken);
  state.textContent = "";
  alarm.textContent = error instanceof Problem ? `${error.message}.` : `This page has failed: ${error.message}`;
  if (!(error instanceof Problem)) throw error;
}

async function begin() {
  const response = await fetch(new URL("model.json", base), { cache: "no-cache" });
  if (!response.ok) throw new Error(`model.json is not there (${response.status}): write the folder again`);
  const about = await response.json();
  const asking = new Asking();
  const [{ view }] = await Promise.all([import(VIEWS[about.kind]), asking.ask("open", { about, base })]);
  const parts = await view({ about, asking, say, fail, files: (sample) => bytesOf(sample, base) });
  main.replaceChildren(...parts.filter(Boolean));
  main.removeAttribute("aria-busy");
  if (spoken === undefined) say("Ready");
  performance.mark("ready");
}

document.getElementById("needs-server")?.remove();
begin().catch((error) => {
  main.removeAttribute("aria-busy");
  fail(error);
});
