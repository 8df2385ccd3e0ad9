// The worker as the page sees it: one question at a time, of which only the newest waits.

import { Problem } from "./problem.js";

const KEPT = 500; // measured answers

export class Asking {
  constructor() {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.open = new Map();
    this.number = 0;
    this.waiting = null;
    this.busy = false;
    this.worker.onmessage = ({ data }) => this.settle(data.id, data);
    this.worker.onerror = (event) => {
      for (const id of [...this.open.keys()]) this.settle(id, { message: event.message || "the worker cannot be started" });
    };
  }

  settle(id, { result, problem, message }) {
    const { resolve, reject } = this.open.get(id) ?? {};
    if (!this.open.delete(id)) return;
    if (message === undefined) resolve(result);
    else reject(problem ? new Problem(...message.split(/; (.*)/s)) : new Error(message));
  }

  ask(task, payload) {
    this.number += 1;
    const id = this.number;
    return new Promise((resolve, reject) => {
      this.open.set(id, { resolve, reject });
      this.worker.postMessage({ id, task, payload });
    });
  }

  // Asks as soon as what was asked before is answered, and passes over what was asked in between.
  async askNewest(task, payload, then) {
    this.waiting = { task, payload, then };
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.waiting) {
        const next = this.waiting;
        this.waiting = null;
        const outcome = await this.timed(next);
        next.then(...outcome);
      }
    } finally {
      this.busy = false;
    }
  }

  async timed({ task, payload }) {
    const start = performance.now();
    try {
      const answer = await this.ask(task, payload);
      if (this.number % KEPT === 0) performance.clearMeasures("answer");
      performance.measure("answer", { start, end: performance.now() });
      return [answer, null];
    } catch (error) {
      return [null, error];
    }
  }
}
