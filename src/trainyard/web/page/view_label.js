// Images by class: draw one, or bring one, and see how likely each class is.

import { Bars } from "./bars.js";
import { element, percent } from "./dom.js";
import { Pad, frameOf } from "./drawing.js";
import { Maps } from "./maps.js";
import { fileButton, imagePayload, paint, sampleButtons, takeDrops } from "./picking.js";
import { decodePng } from "./png.js";

const PEN = 0.13; // of the image's side, as far as the width of a line in scans of handwriting goes

export async function view({ about, asking, say, fail, files }) {
  const bars = new Bars(about.classes);
  const maps = about.layers.length ? new Maps(about.layers) : null;
  const layers = about.layers.map(({ output }) => output);
  const seen = element("canvas", { className: "coarse seen", role: "img", "aria-label": "What the network sees" });
  const verdict = element("p", { className: "verdict" }, "…");
  const note = element("p", { className: "soft note" });
  const drawable = about.form.channels === 1;
  const pad = drawable ? await makePad() : null;

  function show(answer, expected) {
    paint(seen, interleaved(answer.seen));
    bars.show(answer);
    maps?.show(answer);
    const { number } = answer;
    verdict.textContent = about.classes[number];
    note.textContent = expected ? compared(expected, answer) : `${percent(answer.probabilities[number])} sure`;
    say(`Looks like ${about.classes[number]}, ${percent(answer.probabilities[number])} sure`, answer.milliseconds);
  }

  function compared(expected, answer) {
    const difference = Math.max(...expected.logits.map((logit, place) => Math.abs(logit - answer.logits[place])));
    const said = `expected ${expected.label} (${percent(expected.probability)}); it is ${expected.truth}`;
    return `${said}. The logits are those of the test within ${difference.toExponential(0)}.`;
  }

  function nothing() {
    bars.show(null);
    maps?.show(null);
    seen.width = seen.height = 1;
    verdict.textContent = "…";
    note.textContent = "";
  }

  function ask(payload, expected) {
    fail(null);
    asking.askNewest("image", { ...payload, layers }, (answer, error) => {
      if (error) {
        nothing();
        fail(error);
      } else if (payload.drawing && !pad.lines.length) nothing();
      else show(answer, expected);
    });
  }

  async function take(file, expected) {
    try {
      const payload = await imagePayload(file);
      if (pad) {
        pad.lines = [];
        pad.paint();
      }
      ask(payload, expected);
    } catch (error) {
      nothing();
      fail(error);
    }
  }

  async function makePad() {
    const samples = about.samples.filter(({ file }) => file.endsWith(".png"));
    const images = await Promise.all(samples.map(async (sample) => decodePng(await files(sample), about.max_pixels)));
    const changed = (some) => (some ? ask({ image: made.image(), drawing: true }) : nothing());
    const made = new Pad({ frame: frameOf(images), pen: PEN, onChange: changed });
    return made;
  }

  function padNode() {
    const fit = element("input", { type: "checkbox", checked: true });
    fit.onchange = () => {
      pad.fitted = fit.checked;
      pad.changed();
    };
    const pen = element("input", { type: "range", min: "0.05", max: "0.25", step: "0.01", value: String(PEN) });
    pen.oninput = () => {
      pad.pen = Number(pen.value);
      pad.changed();
    };
    const keys = "Arrow keys move the pen, Space puts it down and lifts it, Backspace takes a line back, Delete clears.";
    return element(
      "div",
      { className: "drawing" },
      pad.canvas,
      element(
        "div",
        { className: "row" },
        element("button", { type: "button", id: "clear", onclick: () => pad.clear() }, "Clear"),
        element("button", { type: "button", onclick: () => pad.undo() }, "Take back"),
        element("label", {}, fit, "Fit as the training images are"),
        element("label", {}, "Pen ", pen),
      ),
      element("p", { className: "soft keys", id: "pad-keys" }, keys),
    );
  }

  takeDrops((file) => take(file));
  nothing();
  const bring = fileButton("Choose an image", "image/*", (file) => take(file));
  const samples = sampleButtons(about.samples, async (sample) => take(new Blob([await files(sample)]), sample));
  return [
    element(
      "section",
      { className: "card", "aria-labelledby": "input-title" },
      element("h2", { id: "input-title" }, drawable ? "Draw, or bring an image" : "Bring an image"),
      pad ? padNode() : null,
      element("div", { className: "row" }, bring, element("span", { className: "soft" }, "or drop one anywhere, or paste it")),
      element("h3", {}, "From the test data"),
      samples,
    ),
    element(
      "section",
      { className: "card", "aria-labelledby": "answer-title" },
      element("h2", { id: "answer-title" }, "What the network says"),
      element("div", { className: "said" }, element("div", {}, verdict, note), element("figure", {}, seen, element("figcaption", {}, "what it sees"))),
      bars.list,
    ),
    maps?.node,
  ];
}

// Planes (C, H, W) to pixels (H, W, C).
export function interleaved({ pixels, channels, height, width }) {
  const total = width * height;
  const found = new Uint8Array(pixels.length);
  for (let place = 0; place < total; place += 1) {
    for (let channel = 0; channel < channels; channel += 1) found[place * channels + channel] = pixels[channel * total + place];
  }
  return { width, height, channels, pixels: found };
}
