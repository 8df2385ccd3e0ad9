// What a graph gives, as an answer: trainyard/serving/predictor.py.

import { Problem } from "./problem.js";

function checkFinite(numbers) {
  if (!numbers.every(Number.isFinite)) {
    const expected = "expected numbers nearer to those that it was trained on";
    throw new Problem("numbers that the network finds no answer to", expected);
  }
}

// Returns {logits, probabilities, number: of the class}.
export function readLabel(logits, { temperature, threshold }) {
  checkFinite(logits);
  const scaled = Array.from(logits, (logit) => Math.fround(logit / temperature));
  const largest = Math.max(...scaled);
  const powers = scaled.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((one, other) => one + other, 0);
  const probabilities = powers.map((power) => power / sum);
  return { logits, probabilities, number: chosen(probabilities, threshold) };
}

function chosen(probabilities, threshold) {
  if (threshold !== null) return Number(probabilities[1] >= threshold);
  return probabilities.indexOf(Math.max(...probabilities));
}

// Returns {ids (H, W), shares: of the pixels of each class, confidence: mean probability of the classes given}.
export function readMask(logits, [classes, height, width], { temperature, threshold }) {
  const total = height * width;
  const ids = new Uint8Array(total);
  const counts = new Float64Array(classes);
  let confidence = 0;
  for (let pixel = 0; pixel < total; pixel += 1) {
    let best = 0;
    for (let id = 1; id < classes; id += 1) {
      if (logits[id * total + pixel] > logits[best * total + pixel]) best = id;
    }
    const largest = logits[best * total + pixel];
    const power = (id) => Math.exp((logits[id * total + pixel] - largest) / temperature);
    let sum = 0;
    for (let id = 0; id < classes; id += 1) sum += power(id);
    if (threshold !== null) best = Number(power(1) / sum >= threshold);
    ids[pixel] = best;
    counts[best] += 1;
    confidence += power(best) / sum;
  }
  checkFinite([confidence]);
  return { ids, width, height, shares: Array.from(counts, (number) => number / total), confidence: confidence / total };
}

// Returns {values (horizon, targets)}.
export function readForecast(values, [horizon, targets]) {
  checkFinite(values);
  return { values: Array.from({ length: horizon }, (_, step) => Array.from(values.slice(step * targets, (step + 1) * targets))) };
}
