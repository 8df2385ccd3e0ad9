// Series: paste one, and see how it goes on.

import { Chart } from "./chart.js";
import { element } from "./dom.js";
import { fileButton, sampleButtons, takeDrops, textOf } from "./picking.js";
import { count } from "./problem.js";

const MAX_BYTES = 2 ** 24;
const SPOKEN = 3; // targets of the line above the page; all are in the charts and the table

export async function view({ about, asking, say, fail, files }) {
  const { columns, classes: targets, context_length: contextLength, horizon } = about;
  const charts = targets.map((target) => new Chart(target));
  const area = element("textarea", { id: "rows", rows: 10, spellcheck: false, className: "rows" });
  const note = element("p", { className: "soft note" });
  const table = element("table", {});
  let expected = null;

  function show({ rows, values, milliseconds }) {
    charts.forEach((chart, column) => {
      const past = rows.map((row) => row[column]);
      const ahead = values.map((step) => step[column]);
      chart.show(past, ahead, { seen: contextLength, truth: expected?.truth.map((step) => step[column]) });
    });
    fillTable(values);
    const first = targets.slice(0, SPOKEN).map((target, column) => `${target} ${short(values[0][column])} to ${short(values.at(-1)[column])}`);
    note.textContent = `${count(rows.length)} rows, of which the last ${contextLength} are seen. ${expected ? compared(values) : ""}`;
    say(`The next ${horizon} steps: ${first.join(", ")}`, milliseconds);
  }

  function compared(values) {
    const apart = expected.forecast.map((step, row) => Math.max(...step.map((value, column) => Math.abs(value - values[row][column]))));
    return `The forecast is that of the test within ${Math.max(...apart).toExponential(0)}.`;
  }

  function fillTable(values) {
    const head = element("tr", {}, element("th", { scope: "col" }, "Step"), ...targets.map((name) => element("th", { scope: "col" }, name)));
    const body = values.map((step, row) =>
      element("tr", {}, element("th", { scope: "row" }, `+${row + 1}`), ...step.map((value) => element("td", {}, short(value)))),
    );
    table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  }

  function ask() {
    fail(null);
    asking.askNewest("series", { text: area.value }, (answer, error) => {
      if (error) {
        charts.forEach((chart) => chart.clear());
        table.replaceChildren();
        note.textContent = "";
        fail(error);
      } else show(answer);
    });
  }

  async function take(file) {
    try {
      area.value = await textOf(file, MAX_BYTES);
      expected = null;
      ask();
    } catch (error) {
      fail(error);
    }
  }

  async function sample(one) {
    expected = one;
    area.value = new TextDecoder().decode(await files(one));
    ask();
  }

  area.oninput = () => {
    expected = null;
    ask();
  };
  takeDrops(take);
  await sample(about.samples[0]);
  const missing = about.form.missing === "refuse" ? "no number may be missing" : "missing numbers are filled with straight lines";
  const rules = `At least ${contextLength} rows, the oldest first, with the columns ${columns.join(", ")}; ${missing}.`;
  return [
    element(
      "section",
      { className: "card", "aria-labelledby": "input-title" },
      element("h2", { id: "input-title" }, "The series"),
      element("label", { htmlFor: "rows" }, "Rows, as a table"),
      area,
      element("p", { className: "soft" }, rules),
      element("div", { className: "row" }, fileButton("Choose a table", ".csv,.tsv,.txt,text/*", take), element("span", { className: "soft" }, "or drop one anywhere")),
      element("h3", {}, "From the test data"),
      sampleButtons(about.samples, sample),
    ),
    element(
      "section",
      { className: "card", "aria-labelledby": "answer-title" },
      element("h2", { id: "answer-title" }, `The next ${horizon} steps`),
      note,
      ...charts.map((chart) => chart.node),
      element("details", { "aria-label": "The forecast as a table" }, element("summary", {}, "As a table"), element("div", { className: "scroll" }, table)),
    ),
  ];
}

function short(value) {
  return Number(value.toPrecision(5)).toString();
}
