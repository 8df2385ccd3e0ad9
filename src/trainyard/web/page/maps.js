// What the first layers give: for each channel a map of where on the image it responds.

import { element } from "./dom.js";

const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const SHOWN = 64;

function colour(share) {
  const place = Math.min(share, 0.9999) * (VIRIDIS.length - 1);
  const [low, high] = [VIRIDIS[Math.floor(place)], VIRIDIS[Math.floor(place) + 1]];
  return low.map((value, channel) => value + (high[channel] - value) * (place % 1));
}

export class Maps {
  constructor(layers) {
    this.layers = layers;
    this.layer = 0;
    this.chosen = null; // a channel; null: the mean of all
    this.large = element("canvas", { className: "coarse large", role: "img", "aria-label": "Where the layer responds" });
    this.grid = element("div", { className: "maps", role: "group", "aria-label": "Maps of the layer" });
    this.caption = element("p", { className: "soft" });
    const choices = layers.map((layer, number) => this.choice(layer, number));
    this.node = element(
      "section",
      { className: "card wide layers", "aria-labelledby": "maps-title" },
      element("h2", { id: "maps-title" }, "What the first layers respond to"),
      element("fieldset", { className: "choices" }, element("legend", { className: "hidden" }, "Layer"), ...choices),
      element("div", { className: "layer" }, element("figure", {}, this.large, this.caption), this.grid),
    );
  }

  choice(layer, number) {
    const input = element("input", { type: "radio", name: "layer", checked: number === 0 });
    input.onchange = () => {
      this.layer = number;
      this.chosen = null;
      this.show(this.answer);
    };
    return element("label", {}, input, layer.label);
  }

  show(answer) {
    this.answer = answer;
    if (!answer) {
      this.grid.replaceChildren();
      this.large.width = this.large.height = 1;
      this.caption.textContent = "Draw or choose something to see it.";
      return;
    }
    const { dims: [channels, height, width], data } = answer.maps[this.layer];
    const total = height * width;
    const planes = Array.from({ length: channels }, (_, channel) => data.subarray(channel * total, (channel + 1) * total));
    const top = Math.max(...planes.map((plane) => largest(plane)), 1e-9);
    this.draw(planes.slice(0, SHOWN), width, height, top);
    const mean = Float32Array.from({ length: total }, (_, place) => planes.reduce((sum, plane) => sum + plane[place], 0) / channels);
    const plane = this.chosen === null ? mean : planes[this.chosen];
    paintMap(this.large, plane, width, height, this.chosen === null ? largest(mean) : top);
    const what = this.chosen === null ? `mean of ${channels} maps` : `map ${this.chosen + 1} of ${channels}`;
    this.caption.textContent = `${what}, ${width} × ${height}: ${where(plane, width, height)}`;
    this.large.setAttribute("aria-label", `${this.layers[this.layer].label}, ${this.caption.textContent}`);
  }

  draw(planes, width, height, top) {
    if (this.grid.childElementCount !== planes.length) {
      this.grid.replaceChildren(
        ...planes.map((_, channel) => {
          const choose = () => {
            this.chosen = this.chosen === channel ? null : channel;
            this.show(this.answer);
          };
          return element("button", { type: "button", onclick: choose }, element("canvas", { className: "coarse" }));
        }),
      );
    }
    this.grid.setAttribute("aria-label", `Maps of ${this.layers[this.layer].label}`);
    planes.forEach((plane, channel) => {
      const button = this.grid.children[channel];
      paintMap(button.firstChild, plane, width, height, top);
      button.setAttribute("aria-label", `Map ${channel + 1}: ${where(plane, width, height)}`);
      button.setAttribute("aria-pressed", String(this.chosen === channel));
    });
  }
}

function largest(values) {
  return values.reduce((most, value) => Math.max(most, value), 0);
}

function paintMap(canvas, plane, width, height, top) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  plane.forEach((value, place) => image.data.set([...colour(Math.max(0, value) / (top || 1)), 255], 4 * place));
  context.putImageData(image, 0, 0);
}

// Says in words where a map is strongest.
function where(plane, width, height) {
  const most = largest(plane);
  if (most <= 0) return "silent";
  const place = plane.indexOf(most);
  const third = (share) => Math.min(2, Math.floor(3 * share));
  const [column, row] = [third((place % width) / width), third(Math.floor(place / width) / height)];
  const spot = [["top left", "top", "top right"], ["left", "middle", "right"], ["bottom left", "bottom", "bottom right"]][row][column];
  return `strongest at the ${spot}`;
}
