// A pasted table to the numbers that a forecast goes on from: trainyard/serving/raw_inputs.py.

import { Problem, count } from "./problem.js";

const MISSING = new Set(["", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "missing", "-", "--", "?", ".", "\\n"]);
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const DATE = /^\d{4}-\d\d-\d\d/;
export const MAX_ROWS = 100000;

// Returns {rows: arrays of numbers (NaN where one is missing), times: the cells of the column of times, or null}.
export function readTable(text, { columns, time, series, decimal }) {
  const lines = text.split(/\r\n|\r|\n/).filter((line) => line.trim());
  if (!lines.length) throw new Problem("nothing", `paste rows with the columns ${columns.join(", ")}`);
  const separator = separatorOf(lines[0], decimal);
  const cells = lines.map((line) => split(line, separator));
  const names = cells[0];
  const hasNames = columns.some((name) => names.includes(name)) || names.some((name) => !isNumber(name, decimal));
  const places = hasNames ? columns.map((name) => names.indexOf(name)) : columns.map((_, place) => place);
  if (hasNames) {
    const absent = columns.filter((name) => !names.includes(name));
    if (absent.length) throw new Problem(`no column ${absent.join(", ")}`, `expected ${columns.join(", ")}`);
    cells.shift();
  }
  if (cells.length > MAX_ROWS) throw new Problem(`${count(cells.length)} rows`, `expected at most ${count(MAX_ROWS)}`);
  const width = hasNames ? names.length : columns.length;
  const rows = cells.map((row, number) => {
    const where = `line ${number + 1 + Number(hasNames)}`;
    if (row.length !== width) throw new Problem(`${where} has ${row.length} cells`, `expected ${width}`);
    return places.map((place, column) => numberOf(row[place], decimal, `${where}, ${columns[column]}`));
  });
  const cellsOf = (name) => (hasNames && names.includes(name) ? cells.map((row) => row[names.indexOf(name)]) : null);
  const times = cellsOf(time);
  checkOneSeries(cellsOf(series) ?? []);
  checkOldestFirst(times ?? []);
  return { rows, times };
}

function checkOneSeries(names) {
  const [one, other] = new Set(names);
  if (other !== undefined) throw new Problem(`rows of several series, such as ${one} and ${other}`, "expected those of one");
}

function checkOldestFirst(times) {
  const [first, last] = [times[0], times.at(-1)];
  if (times.length > 1 && isLater(first, last)) {
    throw new Problem(`the first row is of ${first}, the last of ${last}`, "expected the oldest first");
  }
}

function isLater(one, other) {
  if (NUMBER.test(one) && NUMBER.test(other)) return Number(one) > Number(other);
  return DATE.test(one) && DATE.test(other) && one > other;
}

function separatorOf(line, decimal) {
  const candidates = decimal === "," ? ["\t", ";"] : ["\t", ";", ","];
  return candidates.find((sign) => line.includes(sign)) ?? /\s+/;
}

function split(line, separator) {
  if (typeof separator !== "string") return line.trim().split(separator);
  const cells = [""];
  let quoted = false;
  for (let place = 0; place < line.length; place += 1) {
    const sign = line[place];
    if (sign === '"' && quoted && line[place + 1] === '"') {
      cells[cells.length - 1] += sign;
      place += 1;
    } else if (sign === '"') quoted = !quoted;
    else if (sign === separator && !quoted) cells.push("");
    else cells[cells.length - 1] += sign;
  }
  return cells.map((cell) => cell.trim());
}

function plain(cell, decimal) {
  return decimal === "," ? cell.replace(",", ".") : cell;
}

function isNumber(cell, decimal) {
  return NUMBER.test(plain(cell, decimal)) || MISSING.has(cell.toLowerCase());
}

function numberOf(cell, decimal, where) {
  if (MISSING.has(cell.toLowerCase())) return NaN;
  if (!NUMBER.test(plain(cell, decimal))) throw new Problem(`${where}: "${cell.slice(0, 40)}"`, "expected a number");
  const number = Number(plain(cell, decimal));
  if (!Number.isFinite(number)) throw new Problem(`${where}: a number without end`, "expected a finite number");
  return number;
}

// Returns the last steps (context, F) float32, with what is missing filled in as the recipe says.
export function asContext(rows, { columns, contextLength, missing }) {
  if (rows.length < contextLength) {
    const found = `${rows.length} row${rows.length === 1 ? "" : "s"}`;
    throw new Problem(found, `expected at least ${contextLength}, the steps that the model was trained to see`);
  }
  const values = rows.some((row) => row.some(Number.isNaN)) ? filled(rows, columns, missing) : rows;
  const context = new Float32Array(contextLength * columns.length);
  values.slice(-contextLength).forEach((row, step) => {
    row.forEach((number, column) => {
      context[step * columns.length + column] = number;
      if (!Number.isFinite(context[step * columns.length + column])) {
        const where = `row ${values.length - contextLength + step + 1}, ${columns[column]}`;
        throw new Problem(`${where}: ${number}`, "expected a number that 32 bits can hold");
      }
    });
  });
  return context;
}

// Straight lines where numbers are missing, and the first number before which there is none.
function filled(rows, columns, missing) {
  const where = (row) => `row ${row + 1}, ${columns[rows[row].findIndex(Number.isNaN)]}: no number`;
  if (missing === "refuse") {
    const first = rows.findIndex((row) => row.some(Number.isNaN));
    throw new Problem(where(first), "expected a number: the recipe says missing: refuse");
  }
  if (rows.at(-1).some(Number.isNaN)) {
    throw new Problem(where(rows.length - 1), "expected one in the last row, which the forecast goes on from");
  }
  const values = rows.map((row) => [...row]);
  columns.forEach((_, column) => {
    let before = -1;
    for (let row = 0; row < values.length; row += 1) {
      if (Number.isNaN(rows[row][column])) continue;
      const [start, end] = [before < 0 ? rows[row][column] : rows[before][column], rows[row][column]];
      const slope = (end - start) / (row - before);
      for (let gap = before + 1; gap < row; gap += 1) values[gap][column] = before < 0 ? end : slope * (gap - before) + start;
      before = row;
    }
  });
  return values;
}
