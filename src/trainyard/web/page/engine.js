// A model and raw inputs in, answers out. It knows no page, so that a test asks the same code without a browser.

import { stripNames } from "./docstrings.js";
import { asTaken, back } from "./pixels.js";
import { Problem, count } from "./problem.js";
import { readForecast, readLabel, readMask } from "./reading.js";
import { asContext } from "./rows.js";
import { Tokenizer } from "./tokenizer.js";

const MAX_CHARACTERS = 1000000;
const UNKNOWN = 1;

export class Engine {
  constructor(ort, session, about, tokenizer) {
    Object.assign(this, { ort, session, about, tokenizer });
  }

  // `ort` is onnxruntime-web, `model` the bytes of the ONNX file, `about` what model.json says, `tokenizer` its parsed file.
  static async open(ort, model, about, tokenizer) {
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    return new Engine(ort, session, about, tokenizer ? new Tokenizer(tokenizer) : null);
  }

  // Answers to an image {width, height, channels, pixels (H, W, C)}; `layers` are names of outputs to give beside the answer.
  async image(image, layers = []) {
    const { about } = this;
    const { feeds, seen } = this.ofImage(image);
    const found = await this.run(feeds, ["logits", ...layers]);
    const { data, dims } = found.logits;
    if (about.kind === "image_classification") {
      const maps = layers.map((name) => ({ name, dims: found[name].dims.slice(1), data: found[name].data }));
      return { ...readLabel(data, about), seen, maps };
    }
    const mask = readMask(data, dims.slice(1), about);
    return { ...mask, seen, mean: means(data, dims.slice(1)), own: back(mask, image.width, image.height, about.form.resize) };
  }

  // Answers to a text, or to the texts of columns that the recipe joins.
  async text(raw) {
    const { feeds, ids, all } = this.ofText(raw);
    const { logits } = await this.run(feeds, ["logits"]);
    const pieces = all.slice(0, this.about.max_length).map((id) => ({ id, name: this.tokenizer.names.get(id) ?? "" }));
    return { ...readLabel(logits.data, this.about), ids, pieces, tokens: all.length };
  }

  // Answers to rows of numbers in the order of the columns, the oldest first.
  async series(rows) {
    const { forecast } = await this.run(this.ofSeries(rows).feeds, ["forecast"]);
    return readForecast(forecast.data, forecast.dims.slice(1));
  }

  ofImage(image) {
    const seen = asTaken(image, this.about.form);
    const dims = [1, seen.channels, seen.height, seen.width];
    return { feeds: { images: new this.ort.Tensor("uint8", seen.pixels, dims) }, seen };
  }

  ofText(raw) {
    const { ids, all } = this.tokens(raw);
    const tokens = new this.ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    return { feeds: { tokens, lengths: this.length(ids.length) }, ids, all };
  }

  ofSeries(rows) {
    const { columns, context_length: contextLength, form } = this.about;
    const context = asContext(rows, { columns, contextLength, missing: form.missing });
    const values = new this.ort.Tensor("float32", context, [1, contextLength, columns.length]);
    return { feeds: { values, lengths: this.length(contextLength) }, context };
  }

  length(number) {
    return new this.ort.Tensor("int64", BigInt64Array.of(BigInt(number)), [1]);
  }

  // The ids that the graph takes, and all those of the text.
  tokens(raw) {
    const { form, max_length: most, removed_names: removed } = this.about;
    const parts = Array.isArray(raw) ? raw : [raw];
    const text = parts.length === 1 ? parts[0] : parts.filter((part) => part.trim()).join(" ");
    if (text.length > MAX_CHARACTERS) {
      throw new Problem(`${count(text.length)} characters`, `expected at most ${count(MAX_CHARACTERS)}`);
    }
    if (/\p{Surrogate}/u.test(text)) throw new Problem("half of a character", "expected text that can be written as UTF-8");
    if (!/[^\p{C}\p{Z}]/u.test(text)) throw new Problem("a text with nothing in it to read", "expected words");
    const all = this.tokenizer.encode(form.without_names.length ? stripNames(text, removed) : text);
    return { ids: all.length ? all.slice(0, most) : [UNKNOWN], all };
  }

  async run(feeds, outputs) {
    return this.session.run(feeds, outputs);
  }
}

function means(logits, [classes, height, width]) {
  const total = height * width;
  return Array.from({ length: classes }, (_, id) => {
    let sum = 0;
    for (let pixel = 0; pixel < total; pixel += 1) sum += logits[id * total + pixel];
    return sum / total;
  });
}
