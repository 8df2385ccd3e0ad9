// Ways to bring an input: a button for a file, a drop anywhere on the page, the clipboard, and the bundle's own samples.

import { element } from "./dom.js";
import { isPng } from "./png.js";
import { Problem, count } from "./problem.js";

const MAX_BYTES = 2 ** 26;

export function fileButton(label, accept, onFile) {
  const input = element("input", { type: "file", accept, className: "hidden", tabIndex: -1, "aria-hidden": "true" });
  input.onchange = () => {
    if (input.files.length) onFile(input.files[0]);
    input.value = "";
  };
  return element("span", {}, element("button", { type: "button", onclick: () => input.click() }, label), input);
}

export function takeDrops(onFile) {
  const over = (on) => document.body.classList.toggle("dropping", on);
  // Texts are dragged into fields, as ever; a file that nobody takes would be opened instead of the page.
  const holdsFiles = (event) => event.dataTransfer.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over(false);
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over(false);
    if (event.dataTransfer.files.length) onFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    // Cells of a spreadsheet come with a picture of them; in a field of texts they are text.
    const isText = event.target instanceof HTMLTextAreaElement && event.clipboardData.types.includes("text/plain");
    if (event.clipboardData.files.length && !isText) onFile(event.clipboardData.files[0]);
  });
}

// Returns what a file of text holds.
export async function textOf(file, most) {
  if (file.size > most) throw new Problem(`${count(file.size)} bytes`, `this page takes files of at most ${count(most)}`);
  return file.text();
}

// Buttons for the samples; those of images show them.
export function sampleButtons(samples, onSample) {
  const buttons = samples.map((sample, number) => {
    const label = `Test sample ${number + 1}`;
    const picture = sample.file.endsWith(".png") ? element("img", { src: sample.file, alt: "" }) : null;
    const text = sample.text ?? (picture ? null : label);
    const properties = { type: "button", className: "sample", onclick: () => onSample(sample, number) };
    return element("button", { ...properties, "aria-label": sample.text ? `${label}: ${sample.text}` : label }, picture, text);
  });
  return element("div", { className: "samples", role: "group", "aria-label": "Samples from the test data" }, ...buttons);
}

// Returns what the worker is to be asked about an image file: the bytes of a PNG, or what the browser decoded of others.
export async function imagePayload(file) {
  if (file.size > MAX_BYTES) throw new Problem(`${count(file.size)} bytes`, `this page takes files of at most ${count(MAX_BYTES)}`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isPng(bytes)) return { png: bytes };
  const kinds = "expected an image that this browser can read: PNG, JPEG, WebP, GIF or BMP";
  if (!bytes.length) throw new Problem("an empty file", kinds);
  let bitmap;
  try {
    const options = { premultiplyAlpha: "none", colorSpaceConversion: "none", imageOrientation: "from-image" };
    bitmap = await createImageBitmap(new Blob([bytes], { type: file.type }), options);
  } catch {
    throw new Problem(`${file.name || "this"} is no image, or a damaged one`, kinds);
  }
  return { image: fromBitmap(bitmap) };
}

// The canvas composes alpha over the black that it begins with.
function fromBitmap(bitmap) {
  const { width, height } = bitmap;
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const data = context.getImageData(0, 0, width, height).data;
  const pixels = new Uint8Array(width * height * 3);
  for (let place = 0; place < width * height; place += 1) {
    pixels.set(data.subarray(4 * place, 4 * place + 3), 3 * place);
  }
  return { width, height, channels: 3, pixels };
}

// Paints an image {width, height, channels, pixels (H, W, C)} as large as it is.
export function paint(canvas, { width, height, channels, pixels }) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  for (let place = 0; place < width * height; place += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      data.data[4 * place + channel] = pixels[place * channels + (channels === 1 ? 0 : channel)];
    }
    data.data[4 * place + 3] = 255;
  }
  context.putImageData(data, 0, 0);
  // Small images in squares that can be counted, large ones smooth.
  canvas.classList.toggle("coarse", Math.max(width, height) <= 128);
}
