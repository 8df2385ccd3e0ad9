// What is taken out of a docstring before it becomes tokens, so that no text says its answer: trainyard/data/docstrings.py.

const W = "[\\p{L}\\p{N}_]"; // a word's sign, as Python sees it
const S = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const NOT_S = `[^${S.slice(1)}`;
const ROLE = new RegExp(`:(?:${W}|[:+.\\-])+:\`[^\`]*\`|\`+[^\`]*\`+_*|:${W}(?:${W}| )*:|\\.\\. +(?:${W}|-)+::`, "gu");
const ADDRESS = new RegExp(`${W}+://${NOT_S}+|${NOT_S}+@${NOT_S}+|www\\.${NOT_S}+`, "gu");
const DOTTED = new RegExp(`(?<!${W})(?!(?:${W}\\.)+${W}(?!${W}))[A-Za-z_]${W}*(?:\\.[A-Za-z_]${W}*)+`, "gu");
const WORD = new RegExp(`${W}+`, "gu");
const SPACES = new RegExp(`${S}+`, "u");
const PARTS = /[A-Z]+(?![a-z])|[A-Z]?[a-z]+/g;
const CERTAIN_LENGTH = 5;

// Python's casefold: small letters, of which some are two.
function folded(word) {
  return Array.from(word, (letter) => (letter === "ı" ? letter : letter.toLowerCase().toUpperCase().toLowerCase())).join("");
}

function tells(word, names) {
  const whole = folded(word);
  if (names.includes(whole) || names.some((name) => name.length >= CERTAIN_LENGTH && whole.includes(name))) return true;
  return (word.match(PARTS) ?? []).some((part) => names.includes(folded(part)));
}

// Returns a text on one line, without code, paths, and words that hold one of the names.
export function stripNames(text, names) {
  const bare = [ROLE, ADDRESS, DOTTED].reduce((left, pattern) => left.replace(pattern, " "), text);
  const silent = bare.replace(WORD, (word) => (tells(word, names) ? "" : word));
  return silent.split(SPACES).filter(Boolean).join(" ");
}
