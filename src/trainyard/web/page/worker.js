// Asks the model beside the page, which so goes on moving meanwhile.

import { Engine } from "./engine.js";
import { bytesOf, openRuntime } from "./loading.js";
import { checkPixels, decodePng } from "./png.js";
import { Problem } from "./problem.js";
import { readTable } from "./rows.js";
import { shrunk } from "./shrink.js";

let engine;

const TASKS = {
  async open({ about, base }) {
    const [runtime, wasm, model, tokenizer] = await Promise.all([
      import(new URL(about.runtime.script, base)),
      bytesOf(about.runtime.wasm, base),
      bytesOf(about.model, base),
      about.tokenizer ? bytesOf(about.tokenizer, base) : null,
    ]);
    await openRuntime(runtime, wasm);
    engine = await Engine.open(runtime, model, about, tokenizer && JSON.parse(new TextDecoder().decode(tokenizer)));
  },

  // Of a PNG come the bytes of its file; of others, what the browser made of them.
  async image({ png, image, layers }) {
    const { max_pixels: most, shrink_pixels: enough } = engine.about;
    const whole = png ? await decodePng(png, most) : image;
    checkPixels(whole.width, whole.height, most);
    const taken = enough ? shrunk(whole, enough) : whole;
    return { ...(await engine.image(taken, layers)), image: taken, from: [whole.width, whole.height] };
  },

  text({ text }) {
    return engine.text(text);
  },

  async series({ text }) {
    const { columns, form } = engine.about;
    const table = readTable(text, { columns, time: form.time, series: form.series, decimal: form.decimal });
    return { ...(await engine.series(table.rows)), ...table };
  },
};

let last = Promise.resolve();

self.onmessage = ({ data: { id, task, payload } }) => {
  // One after the other, as the runtime wants it.
  last = last.then(async () => {
    const began = performance.now();
    try {
      const result = await TASKS[task](payload);
      self.postMessage({ id, result: { ...result, milliseconds: performance.now() - began } });
    } catch (error) {
      self.postMessage({ id, problem: error instanceof Problem, message: error.message });
    }
  });
};
