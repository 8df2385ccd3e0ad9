// The probability of each class as a bar, in the classes' own order; of many classes, the likeliest ones.

import { element, percent } from "./dom.js";

const MOST = 12;

export class Bars {
  constructor(classes) {
    this.classes = classes;
    this.list = element("ol", { className: "bars" });
    this.rows = Array.from({ length: Math.min(MOST, classes.length) }, () => {
      const fill = element("span", { className: "fill" });
      const name = element("span", { className: "name" });
      const value = element("span", { className: "value" });
      const row = element("li", {}, name, element("span", { className: "track", "aria-hidden": "true" }, fill), value);
      this.list.append(row);
      return { row, name, fill, value };
    });
    this.show(null);
  }

  show(answer) {
    const order = this.classes.map((_, number) => number);
    if (answer && this.classes.length > MOST) {
      order.sort((one, other) => answer.probabilities[other] - answer.probabilities[one]);
    }
    this.rows.forEach(({ row, name, fill, value }, place) => {
      const number = order[place];
      const share = answer ? answer.probabilities[number] : 0;
      name.textContent = this.classes[number];
      fill.style.width = `${100 * share}%`;
      value.textContent = answer ? percent(share) : "";
      row.classList.toggle("best", answer !== null && number === answer.number);
    });
  }
}
