// A pad to draw on, with a pointer, a finger or the keyboard. Lines are kept as points, so that they can be brought to
// where, and to how large, the training images have theirs.

import { element } from "./dom.js";

const SIDE = 640; // of the pad's own pixels
const FINE = 384; // of the picture that is then resized as any image is
const STEP = 0.03;

export class Pad {
  // `frame`: {box: [left, top, right, bottom] as shares, dark: paper} of the training images' ink; `pen`: width as a share.
  constructor({ frame, pen, onChange }) {
    Object.assign(this, { frame, pen, onChange, lines: [], line: null, at: [0.5, 0.2], fitted: true });
    this.canvas = element("canvas", {
      width: SIDE,
      height: SIDE,
      className: "pad",
      tabIndex: 0,
      role: "application",
      "aria-label": "Drawing pad",
      "aria-describedby": "pad-keys",
    });
    this.canvas.onpointerdown = (event) => this.press(event);
    this.canvas.onpointermove = (event) => this.move(event);
    this.canvas.onpointerup = this.canvas.onpointercancel = () => this.lift();
    this.canvas.onkeydown = (event) => this.key(event);
    this.canvas.onfocus = this.canvas.onblur = () => this.paint();
    this.paint();
  }

  place(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  press(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.lower(this.place(event));
  }

  move(event) {
    if (!this.line || !this.canvas.hasPointerCapture(event.pointerId)) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) this.line.push(this.place(one));
    this.at = this.line.at(-1);
    this.changed();
  }

  lower(place) {
    this.line = [place];
    this.lines.push(this.line);
    this.at = place;
    this.changed();
  }

  lift() {
    this.line = null;
    this.paint();
  }

  key(event) {
    const far = event.shiftKey ? 3 * STEP : STEP;
    const [across, down] = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key] ?? [];
    if (across !== undefined) {
      this.at = [clamp(this.at[0] + across), clamp(this.at[1] + down)];
      if (this.line) this.line.push(this.at);
      this.changed();
    } else if (event.key === " " || event.key === "Enter") {
      if (this.line) this.lift();
      else this.lower(this.at);
    } else if (event.key === "Delete" || event.key === "Escape") {
      this.clear();
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
      this.undo();
    } else {
      return;
    }
    event.preventDefault();
  }

  clear() {
    this.lines = [];
    this.line = null;
    this.changed();
  }

  undo() {
    this.lines.pop();
    this.line = null;
    this.changed();
  }

  changed() {
    this.paint();
    this.onChange(this.lines.length > 0);
  }

  colours() {
    return this.frame.dark ? ["#000", "#fff"] : ["#fff", "#000"];
  }

  paint() {
    const context = this.canvas.getContext("2d");
    const [paper, ink] = this.colours();
    context.fillStyle = paper;
    context.fillRect(0, 0, SIDE, SIDE);
    stroke(context, this.lines, SIDE, this.pen * 0.8, ink);
    if (document.activeElement === this.canvas && this.canvas.matches(":focus-visible")) this.paintPen(context);
  }

  paintPen(context) {
    const [x, y] = [this.at[0] * SIDE, this.at[1] * SIDE];
    context.strokeStyle = this.line ? "#e69f00" : "#56b4e9";
    context.lineWidth = 4;
    context.beginPath();
    context.arc(x, y, 16, 0, 2 * Math.PI);
    context.moveTo(x - 28, y);
    context.lineTo(x + 28, y);
    context.moveTo(x, y - 28);
    context.lineTo(x, y + 28);
    context.stroke();
  }

  // Returns the drawing as a grey image.
  image() {
    const canvas = element("canvas", { width: FINE, height: FINE });
    const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    const [paper, ink] = this.colours();
    context.fillStyle = paper;
    context.fillRect(0, 0, FINE, FINE);
    stroke(context, this.fitted ? fitted(this.lines, this.frame.box, this.pen) : this.lines, FINE, this.pen, ink);
    const data = context.getImageData(0, 0, FINE, FINE).data;
    return { width: FINE, height: FINE, channels: 1, pixels: Uint8Array.from({ length: FINE * FINE }, (_, place) => data[4 * place]) };
  }
}

function clamp(share) {
  return Math.min(0.98, Math.max(0.02, share));
}

function stroke(context, lines, side, pen, ink) {
  context.strokeStyle = context.fillStyle = ink;
  context.lineWidth = pen * side;
  context.lineCap = context.lineJoin = "round";
  for (const line of lines) {
    const points = line.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let place = 1; place < points.length; place += 1) {
      const [from, to] = [points[place - 1], points[place]];
      context.quadraticCurveTo(...from, (from[0] + to[0]) / 2, (from[1] + to[1]) / 2);
    }
    context.lineTo(points.at(-1)[0] + 0.01, points.at(-1)[1]);
    context.stroke();
  }
}

// Moves and scales lines so that their ink fills the box as that of the training images does.
export function fitted(lines, [left, top, right, bottom], pen) {
  const points = lines.flat();
  if (!points.length) return lines;
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [least, most] = [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]];
  const room = [Math.max(0.1, right - left - pen), Math.max(0.1, bottom - top - pen)];
  const size = [most[0] - least[0], most[1] - least[1]];
  const scale = Math.min(room[0] / Math.max(size[0], 0.01), room[1] / Math.max(size[1], 0.01), 4);
  const middle = [(least[0] + most[0]) / 2, (least[1] + most[1]) / 2];
  const centre = [(left + right) / 2, (top + bottom) / 2];
  return lines.map((line) => line.map(([x, y]) => [centre[0] + (x - middle[0]) * scale, centre[1] + (y - middle[1]) * scale]));
}

// Looks at images {width, height, channels, pixels}: whether their paper is dark, and in which box their ink lies.
export function frameOf(images) {
  const grey = images.map((image) => ({ ...image, value: (x, y) => image.pixels[(y * image.width + x) * image.channels] }));
  const border = grey.flatMap(({ width, height, value }) => [value(0, 0), value(width - 1, 0), value(0, height - 1), value(width - 1, height - 1)]);
  const dark = border.reduce((sum, value) => sum + value, 0) <= 128 * border.length;
  const boxes = grey.map(({ width, height, value }) => {
    const box = [1, 1, 0, 0];
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        if ((dark ? value(x, y) : 255 - value(x, y)) < 96) continue;
        box[0] = Math.min(box[0], x / width);
        box[1] = Math.min(box[1], y / height);
        box[2] = Math.max(box[2], (x + 1) / width);
        box[3] = Math.max(box[3], (y + 1) / height);
      }
    }
    return box;
  }).filter(([left, , right]) => right > left);
  if (!boxes.length) return { dark, box: [0.15, 0.1, 0.85, 0.9] };
  const mean = (side) => boxes.reduce((sum, box) => sum + box[side], 0) / boxes.length;
  const widest = Math.max(...boxes.map((box) => box[2] - box[0]));
  const middle = (mean(0) + mean(2)) / 2;
  return { dark, box: [Math.max(0, middle - widest / 2), mean(1), Math.min(1, middle + widest / 2), mean(3)] };
}
