// A line of what was, and a line of what is said to come.

import { drawn, element } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 260, 64, 10, 12, 30];
const MOST_STEPS = 400;

export class Chart {
  constructor(name) {
    this.name = name;
    this.svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "chart" });
    this.key = element("span", { className: "key" });
    this.node = element("figure", { className: "plot" }, element("figcaption", {}, name, this.key), this.svg);
  }

  clear() {
    this.svg.replaceChildren();
    this.key.replaceChildren();
  }

  // `past` and `ahead` are numbers, the oldest first; `seen`: steps of the past that the network saw; `truth`: what came.
  show(past, ahead, { seen, truth }) {
    const shown = past.slice(-Math.min(MOST_STEPS, Math.max(seen, 4 * ahead.length)));
    const known = [...shown, ...ahead, ...(truth ?? [])].filter(Number.isFinite);
    const ticks = ticksOf(Math.min(...known), Math.max(...known));
    const [low, high] = [ticks[0], ticks.at(-1)];
    const x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * (step + shown.length - 1)) / (shown.length + ahead.length - 1);
    const y = (value) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - value)) / (high - low);
    const line = (values, first, kind) => drawn("path", { d: path(values, first), class: kind });
    const path = (values, first) => values.map((value, step) => (Number.isFinite(value) ? `${joins(values, step)}${x(first + step).toFixed(1)} ${y(value).toFixed(1)}` : "")).join("");
    const joins = (values, step) => (step && Number.isFinite(values[step - 1]) ? "L" : "M");
    const grid = ticks.flatMap((tick) => [
      drawn("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick), class: "grid" }),
      drawn("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, label(tick)),
    ]);
    const steps = [[1 - shown.length, "start", `${1 - shown.length}`], [0, "middle", "now"], [ahead.length, "end", `+${ahead.length}`]];
    const below = steps.map(([step, anchor, text]) => drawn("text", { x: x(step), y: HEIGHT - 8, "text-anchor": anchor }, text));
    const last = shown.at(-1);
    this.svg.replaceChildren(
      ...grid,
      drawn("rect", { x: x(0), width: x(ahead.length) - x(0), y: TOP, height: HEIGHT - TOP - BOTTOM, class: "ahead" }),
      ...below,
      line(shown, 1 - shown.length, "past"),
      truth ? line([last, ...truth], 0, "truth") : "",
      line([last, ...ahead], 0, "forecast"),
    );
    const peak = ahead.indexOf(Math.max(...ahead)) + 1;
    this.svg.setAttribute("aria-label", `${this.name}: ${label(last)} now, ${label(ahead.at(-1))} after ${ahead.length} steps, highest after ${peak}`);
    const keys = [["past", "so far"], ["forecast", "forecast"], ...(truth ? [["truth", "what came"]] : [])];
    this.key.replaceChildren(...keys.map(([kind, text]) => element("span", { className: `mark ${kind}` }, text)));
  }
}

// Round numbers around a range.
function ticksOf(low, high) {
  const spread = high - low || Math.abs(high) || 1;
  const rough = spread / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((times) => times * power >= rough) * power;
  const first = Math.floor(low / step);
  return Array.from({ length: Math.max(1, Math.ceil(high / step) - first) + 1 }, (_, number) => (first + number) * step);
}

function label(value) {
  return Number(value.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 6 });
}
