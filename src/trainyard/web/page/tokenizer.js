// The tokenizers that trainyard/data/text.py makes, from the file that the library tokenizers wrote: the same ids.

const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const PIECES = new RegExp(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`, "gu");

export class Tokenizer {
  // `file` is the parsed tokenizer.json; one with parts that this page does not know is refused.
  constructor(file) {
    const steps = file.normalizer?.normalizers?.map((step) => step.type) ?? [];
    const known = ["BPE", "WordLevel"].includes(file.model?.type) && file.pre_tokenizer?.type === "Whitespace";
    if (!known || !steps.every((step) => ["NFKC", "Lowercase"].includes(step)) || file.post_processor) {
      throw new Error("the tokenizer has parts that this page does not know");
    }
    this.steps = steps;
    this.vocabulary = new Map(Object.entries(file.model.vocab));
    this.unknown = this.vocabulary.get(file.model.unk_token);
    this.ranks = file.model.type === "BPE" ? ranksOf(file.model.merges, this.vocabulary) : null;
    this.added = new Map(file.added_tokens.map((token) => [token.content, token.id]));
    const longestFirst = [...this.added.keys()].sort((one, other) => other.length - one.length);
    this.marks = longestFirst.length ? new RegExp(`(${longestFirst.map(escaped).join("|")})`, "u") : null;
    this.names = new Map([...this.vocabulary].map(([name, id]) => [id, name]));
    this.words = new Map();
  }

  // Returns the ids of a text, without a limit.
  encode(text) {
    const ids = [];
    for (const part of this.marks ? text.split(this.marks) : [text]) {
      if (this.added.has(part)) ids.push(this.added.get(part));
      else for (const piece of this.normalised(part).match(PIECES) ?? []) ids.push(...this.word(piece));
    }
    return ids;
  }

  normalised(text) {
    let found = text;
    for (const step of this.steps) {
      // Letter by letter: a whole text would have a sigma at the end of a word become another one.
      found = step === "NFKC" ? found.normalize("NFKC") : Array.from(found, (letter) => letter.toLowerCase()).join("");
    }
    return found;
  }

  word(piece) {
    if (!this.ranks) return [this.vocabulary.get(piece) ?? this.unknown];
    let ids = this.words.get(piece);
    if (!ids) {
      ids = this.merged(Array.from(piece, (letter) => this.vocabulary.get(letter) ?? this.unknown));
      if (this.words.size < 10000) this.words.set(piece, ids);
    }
    return ids;
  }

  // Byte pair encoding: again and again, the pair that was merged first in training, and of equal ones the leftmost.
  merged(ids) {
    const next = ids.map((_, place) => place + 1);
    const before = ids.map((_, place) => place - 1);
    const queue = new Queue();
    const offer = (place) => {
      const merge = place >= 0 && next[place] < ids.length ? this.ranks.get(pair(ids[place], ids[next[place]])) : undefined;
      if (merge) queue.push({ rank: merge.rank, place, made: merge.made, left: ids[place], right: ids[next[place]] });
    };
    for (let place = 0; place < ids.length; place += 1) offer(place);
    for (let best = queue.pop(); best; best = queue.pop()) {
      const { place, made, left, right } = best;
      const other = next[place];
      if (ids[place] !== left || other >= ids.length || ids[other] !== right) continue;
      ids[place] = made;
      ids[other] = -1;
      next[place] = next[other];
      if (next[place] < ids.length) before[next[place]] = place;
      offer(before[place]);
      offer(place);
    }
    return ids.filter((id) => id >= 0);
  }
}

function ranksOf(merges, vocabulary) {
  return new Map(
    merges.map((merge, rank) => {
      const [left, right] = Array.isArray(merge) ? merge : merge.split(" ");
      return [pair(vocabulary.get(left), vocabulary.get(right)), { rank, made: vocabulary.get(left + right) }];
    }),
  );
}

function pair(left, right) {
  return left * 2 ** 24 + right;
}

function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
}

// The smallest first: by rank, then by place.
class Queue {
  constructor() {
    this.heap = [];
  }

  push(entry) {
    const { heap } = this;
    let place = heap.push(entry) - 1;
    while (place && before(entry, heap[(place - 1) >> 1])) {
      heap[place] = heap[(place - 1) >> 1];
      place = (place - 1) >> 1;
    }
    heap[place] = entry;
  }

  pop() {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop();
    if (!heap.length) return first;
    let place = 0;
    for (let child = 1; child < heap.length; child = 2 * place + 1) {
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child += 1;
      if (!before(heap[child], last)) break;
      heap[place] = heap[child];
      place = child;
    }
    heap[place] = last;
    return first;
  }
}

function before(one, other) {
  return one.rank !== other.rank ? one.rank < other.rank : one.place < other.place;
}
