// Texts by class: the answer changes while one types.

import { Bars } from "./bars.js";
import { element, percent } from "./dom.js";
import { sampleButtons, takeDrops, textOf } from "./picking.js";

const MAX_BYTES = 2 ** 20;

export async function view({ about, asking, say, fail }) {
  const { columns } = about.form;
  const bars = new Bars(about.classes);
  const verdict = element("p", { className: "verdict" }, "…");
  const note = element("p", { className: "soft note" });
  const pieces = element("p", { className: "pieces", "aria-hidden": "true" });
  const read = element("p", { className: "soft" });
  let expected = null;

  const fields = columns.map((column, place) => {
    const area = element("textarea", { id: `text-${place}`, rows: columns.length > 1 ? 3 : 6, spellcheck: false });
    area.oninput = () => {
      expected = null;
      ask();
    };
    const label = columns.length > 1 ? column : "Text";
    return { area, node: element("div", {}, element("label", { htmlFor: area.id }, label), area) };
  });

  function nothing() {
    bars.show(null);
    verdict.textContent = "…";
    note.textContent = read.textContent = "";
    pieces.replaceChildren();
  }

  function show(answer) {
    const { number, probabilities } = answer;
    bars.show(answer);
    verdict.textContent = about.classes[number];
    note.textContent = expected ? compared(answer) : `${percent(probabilities[number])} sure`;
    pieces.replaceChildren(
      ...answer.pieces.map(({ id, name }) => element("span", { className: id === 1 ? "piece unknown" : "piece" }, id === 1 ? "?" : name)),
    );
    const cut = answer.tokens > about.max_length ? `; it reads the first ${about.max_length}, as in training` : "";
    const unknown = answer.pieces.filter(({ id }) => id === 1).length;
    const strange = unknown ? `; ${unknown} that it does not know` : "";
    read.textContent = `${answer.tokens} token${answer.tokens === 1 ? "" : "s"}${cut}${strange}.`;
    say(`Looks like ${about.classes[number]}, ${percent(probabilities[number])} sure`, answer.milliseconds);
  }

  function compared(answer) {
    const difference = Math.max(...expected.logits.map((logit, place) => Math.abs(logit - answer.logits[place])));
    const said = `expected ${expected.label} (${percent(expected.probability)}); it is ${expected.truth}`;
    return `${said}. The logits are those of the test within ${difference.toExponential(0)}.`;
  }

  function ask() {
    fail(null);
    const text = fields.map(({ area }) => area.value);
    if (!text.some((part) => part.trim())) {
      nothing();
      return;
    }
    asking.askNewest("text", { text }, (answer, error) => {
      if (error) {
        nothing();
        fail(error);
      } else if (fields.some(({ area }) => area.value.trim())) show(answer);
    });
  }

  function fill(text, answer) {
    fields.forEach(({ area }, place) => {
      area.value = place === 0 ? text : "";
    });
    expected = answer;
    ask();
  }

  const sample = (one) => fill(one.text, one);

  async function take(file) {
    try {
      fill(await textOf(file, MAX_BYTES), null);
    } catch (error) {
      fail(error);
    }
  }

  takeDrops(take);
  nothing();
  sample(about.samples[0]);
  return [
    element(
      "section",
      { className: "card", "aria-labelledby": "input-title" },
      element("h2", { id: "input-title" }, "Write, and watch"),
      ...fields.map(({ node }) => node),
      element("h3", {}, "From the test data"),
      sampleButtons(about.samples, sample),
    ),
    element(
      "section",
      { className: "card", "aria-labelledby": "answer-title" },
      element("h2", { id: "answer-title" }, "What the network says"),
      element("div", { className: "said" }, element("div", {}, verdict, note)),
      bars.list,
      element("h3", {}, "What it reads"),
      pieces,
      read,
    ),
  ];
}
