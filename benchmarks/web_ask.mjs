// Asks the code of a page, in node and without a page:
//
//     node web_ask.mjs FOLDER QUESTIONS.json OUT.bin > ANSWERS.json
//
// FOLDER is one that `trainyard web` wrote (only its scripts, where no question is about an answer), with a package.json
// that says that they are modules. Answers stand in the order of the questions; logits go to OUT.bin, as float32.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, questions, out] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(join(folder, name)));
const [{ decodePng }, { asTaken, back }, { Tokenizer }, { stripNames }, { asContext, readTable }] = await Promise.all(
  ["png.js", "pixels.js", "tokenizer.js", "docstrings.js", "rows.js"].map(load),
);
const MOST = 60_000_000;
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const base64 = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
const parts = [];
let engine;
let about;

const ANSWERS = {
  // How an image file becomes what the graph takes.
  async pixels({ png, form }) {
    const image = await decodePng(bytes(png), MOST);
    const taken = asTaken(image, form);
    return { ...taken, pixels: base64(taken.pixels), size: [image.height, image.width] };
  },
  // A mask at the image's own size.
  back({ ids, width, height, own, resize }) {
    return { ids: base64(back({ ids: bytes(ids), width, height }, own[1], own[0], resize).ids) };
  },
  tokens({ tokenizer, texts }) {
    const made = new Tokenizer(JSON.parse(tokenizer));
    return { ids: texts.map((text) => made.encode(text)) };
  },
  stripped({ texts, names }) {
    return { texts: texts.map((text) => stripNames(text, names)) };
  },
  context({ table, columns, time, series, decimal, contextLength, missing }) {
    const { rows } = readTable(table, { columns, time, series, decimal });
    return { context: base64(asContext(rows, { columns, contextLength, missing })) };
  },
  // What the model says of a raw input: as the page does it.
  async answer({ png, text, table }) {
    engine ??= await opened();
    const began = performance.now();
    let made;
    if (png !== undefined) made = engine.ofImage(await decodePng(bytes(png), MOST));
    else if (text !== undefined) made = engine.ofText(text);
    else made = engine.ofSeries(readTable(table, { columns: about.columns, time: about.form.time, decimal: about.form.decimal }).rows);
    const [found] = Object.values(await engine.run(made.feeds, [about.kind === "forecasting" ? "forecast" : "logits"]));
    parts.push(Buffer.from(found.data.slice().buffer));
    return { dims: found.dims, milliseconds: performance.now() - began };
  },
};

async function opened() {
  about = JSON.parse(readFileSync(join(folder, "model.json"), "utf8"));
  const [{ Engine }, { openRuntime }] = await Promise.all([load("engine.js"), load("loading.js")]);
  const ort = await load(about.runtime.script);
  const file = (name) => new Uint8Array(readFileSync(join(folder, name)));
  await openRuntime(ort, file(about.runtime.wasm.file));
  const tokenizer = about.tokenizer && JSON.parse(readFileSync(join(folder, about.tokenizer.file), "utf8"));
  return Engine.open(ort, file(about.model.file), about, tokenizer);
}

const answers = [];
for (const question of JSON.parse(readFileSync(questions, "utf8"))) {
  try {
    answers.push(await ANSWERS[question.about](question));
  } catch (error) {
    if (error.name !== "Problem") throw error;
    answers.push({ problem: error.message });
  }
}
writeFileSync(out, Buffer.concat(parts));
process.stdout.write(JSON.stringify(answers));
