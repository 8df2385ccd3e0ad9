// What is wrong with an input, in one plain sentence: `<what was found>; <what is expected>`.

export class Problem extends Error {
  constructor(found, expected) {
    super(`${found}; ${expected}`);
    this.name = "Problem";
  }
}

// 1234567 as 1,234,567.
export function count(number) {
  return number.toLocaleString("en-US");
}
