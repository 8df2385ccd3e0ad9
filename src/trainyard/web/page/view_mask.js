// Images and the class of each pixel: the mask lies over the image, as strong as the slider says.

import { element, percent } from "./dom.js";
import { fileButton, imagePayload, paint, sampleButtons, takeDrops } from "./picking.js";
import { count } from "./problem.js";

export async function view({ about, asking, say, fail, files }) {
  const base = element("canvas", { className: "base", role: "img", "aria-label": "The image" });
  const over = element("canvas", { className: "over", role: "img", "aria-label": "The mask over it" });
  const note = element("p", { className: "soft note" });
  const opacity = element("input", { type: "range", id: "opacity", min: "0", max: "100", value: "60" });
  const shown = about.classes.map((_, number) => number > 0);
  let answer = null;

  const legend = about.classes.map((name, number) => {
    const box = element("input", { type: "checkbox", checked: shown[number] });
    box.onchange = () => {
      shown[number] = box.checked;
      colourMask();
    };
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.background = `rgb(${about.colours[number].join(",")})`;
    const share = element("span", { className: "value" });
    return { share, row: element("li", {}, element("label", {}, box, swatch, element("span", { className: "name" }, name)), share) };
  });

  function colourMask() {
    over.style.opacity = String(opacity.value / 100);
    if (!answer) return;
    const { width, height, ids } = answer.own;
    over.width = width;
    over.height = height;
    const context = over.getContext("2d");
    const image = context.createImageData(width, height);
    ids.forEach((id, place) => {
      if (shown[id]) image.data.set([...about.colours[id], 255], 4 * place);
    });
    context.putImageData(image, 0, 0);
    over.classList.toggle("coarse", Math.max(width, height) <= 128);
  }

  function show(found, expected) {
    answer = found;
    paint(base, found.image);
    colourMask();
    found.shares.forEach((share, number) => {
      legend[number].share.textContent = percent(share);
      legend[number].row.classList.toggle("absent", share === 0);
    });
    const largest = found.shares.map((share, number) => [share, number]).filter(([share]) => share > 0).sort((one, other) => other[0] - one[0]);
    const parts = largest.slice(0, 4).map(([share, number]) => `${about.classes[number]}: ${percent(share)}`);
    note.textContent = [sizes(found), expected ? compared(expected, found) : null].filter(Boolean).join(" ");
    over.setAttribute("aria-label", `The mask: ${parts.join(", ")}`);
    say(`Found ${parts.join(", ")}`, found.milliseconds);
  }

  function sizes({ from: [width, height], image, confidence }) {
    const shrunk = image.width < width || image.height < height;
    const smaller = shrunk ? `, made ${image.width} × ${image.height} first, which a browser has the memory for` : "";
    return `${count(width)} × ${count(height)} pixels${smaller}; ${percent(confidence)} sure on the average.`;
  }

  function compared(expected, found) {
    const difference = Math.max(...expected.mean_logits.map((logit, place) => Math.abs(logit - found.mean[place])));
    return `${percent(expected.pixels_right)} of the pixels are right; the mean logits are those of the test within ${difference.toExponential(0)}.`;
  }

  async function take(file, expected) {
    fail(null);
    document.body.classList.add("working");
    try {
      const payload = await imagePayload(file);
      await asking.askNewest("image", { ...payload, layers: [] }, (found, error) => {
        if (error) fail(error);
        else show(found, expected);
      });
    } catch (error) {
      fail(error);
    } finally {
      document.body.classList.remove("working");
    }
  }

  async function sample(one) {
    await take(new Blob([await files(one)]), one);
  }

  opacity.oninput = colourMask;
  takeDrops((file) => take(file));
  const bring = fileButton("Choose an image", "image/*", (file) => take(file));
  await sample(about.samples[0]);
  return [
    element(
      "section",
      { className: "card picture", "aria-labelledby": "input-title" },
      element("h2", { id: "input-title" }, "The image, and its mask"),
      element("div", { className: "stack" }, base, over),
      note,
      element("label", { className: "slider" }, "Strength of the mask ", opacity),
    ),
    element(
      "section",
      { className: "card", "aria-labelledby": "legend-title" },
      element("h2", { id: "legend-title" }, "Classes"),
      element("ul", { className: "legend" }, ...legend.map(({ row }) => row)),
      element("h3", {}, "Another image"),
      element("div", { className: "row" }, bring, element("span", { className: "soft" }, "or drop one anywhere, or paste it; of any size")),
      element("h3", {}, "From the test data"),
      sampleButtons(about.samples, sample),
    ),
  ];
}
