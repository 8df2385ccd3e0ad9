"""A recipe for a table of texts and labels that a user points at."""

from __future__ import annotations

import re
from collections import Counter
from shlex import quote

import numpy as np

from trainyard.data.problems import printable
from trainyard.data.text import encode_counted, train_tokenizer
from trainyard.data.text_table import SPLIT_NAMES
from trainyard.errors import InputError
from trainyard.intake.columns import NUMBER, Column, Look, Named, choose, no_header, quoted, words
from trainyard.intake.training import training_length

TEXT_NAMES = ("text", "sentence", "content", "body", "review", "comment", "message", "tweet", "question", "utterance")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "emotion", "rating")
GROUP_NAMES = {"author", "user", "speaker", "patient", "customer", "group", "session", "conversation", "thread", "writer"}
SPLIT_COLUMNS = {"split", "fold", "partition", "subset", "set", "part"}
MOST_CLASSES = 200
"""Values of a column that may be labels, unless its name says that they are."""
HEADLESS_WORDS = 3
"""Words in the name of a column of texts, from which on it may be a text itself."""
GROUPS = 20
"""Groups that a column must have at least to be used for them."""
LARGEST_GROUP = 0.1
VOCABULARIES = ((5000, 8000), (2000, 4000), (500, 2000), (0, 1000))
"""Texts from which on a vocabulary is of that size."""
LONGEST = 256
"""Tokens; a longer text takes long to train on, and its beginning mostly says enough."""
CHARACTERS = 10_000
"""Of a text that are looked at."""
STEPS = 1500
"""Optimizer steps that a suggested training has, as far as that makes a sensible number of epochs."""
CLASSES_NAMED = 8
WHOLE = re.compile(r"\s*[+-]?\d+([.,]0*)?\s*")
"""Whole numbers, also as programs write them of which one is missing: 1.0."""


def suggest_texts(table: Look, named: Named, shown_path: str) -> list[str]:
    """Return the lines of a recipe, without its `name:`, up to `evaluate:`.

    Raises:
        InputError: it is open which columns hold texts and labels.
    """
    texts, why_text = _texts(table, named)
    label, why_label = _label(table, named, texts)
    if label.name in label.filled and any(len(column.name.split()) >= HEADLESS_WORDS for column in texts):
        raise no_header(table, label.name)
    others = [column for column in table.columns.values() if column not in (*texts, label)]
    counts = Counter(label.filled)
    listed = [f"{printable(name)} {count:,}" for name, count in counts.most_common(CLASSES_NAMED)]
    classes = f"{len(counts)} classes ({', '.join(listed)}{', ...' if len(counts) > CLASSES_NAMED else ''})"
    first = "" if len(label.cells) == table.rows else f", counted in the first {len(label.cells):,}"
    place = f" in the training table of {len(table.files)}" if table.files else ""
    names = [quoted(column.name) for column in texts]
    named_texts = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
    vocabulary, tokens, note = _tokens(table, texts)
    return [
        "family: lstm",
        f"# {table.rows:,} texts{place}, {classes}{first}; {table.about}.",
        "data:",
        "  source: text_table",
        f"  path: {shown_path}",
        f"  text: {named_texts} # {why_text}",
        f"  label: {quoted(label.name)} # {why_label}",
        *_group_and_split(table, others),
        "  tokenizer: bpe # pieces of words, so that rare words are not lost",
        f"  vocabulary_size: {vocabulary} # pieces at most; more for more texts, so that each is seen often enough",
        f"  max_tokens: {tokens} # {note}",
        "  on_bad_sample: stop # or skip: leave out rows that cannot be used, and list them in the card",
        "  seed: 0",
        f"  val_fraction: 0.1 # {'for splits without a table or rows' if table.files else 'of the samples'}",
        "  test_fraction: 0.15",
        "model:",
        "  embedding_size: 192",
        "  hidden_size: 64 # each direction",
        "  bidirectional: true",
        "  dropout: 0.5 # words are many and texts are few, which over-fits soon",
        "  embedding_dropout: 0.5",
        "  pooling: mean_max # of the outputs at all tokens",
        *_training(table.rows, max(counts.values()) > 5 * min(counts.values())),
        "evaluate:",
    ]


def _texts(table: Look, named: Named) -> tuple[list[Column], str]:
    if named.text:
        return [table.columns[name] for name in named.text], "as asked"
    found = [column for column in table.columns.values() if column.is_text() and column.name != named.label]
    chosen = choose(found, TEXT_NAMES)
    if chosen is None:
        said = (
            f"columns {', '.join(column.name for column in found)} all look like texts"
            if found
            else "no column looks like texts"
        )
        option = "".join(f" --text {quote(column.name)}" for column in found[:2]) or " --text COLUMN"
        raise InputError(f"{table.path}: {said}; it has {table.listed()}: say which, such as{option} (several are joined)")
    others = ", ".join(printable(column.name) for column in found if column is not chosen)
    return [chosen], "words, and mostly others in each row" + (f"; so are {others}" if others else "")


def _label(table: Look, named: Named, texts: list[Column]) -> tuple[Column, str]:
    if named.label:
        label = table.columns[named.label]
        if label.classes() < 2:
            raise InputError(f"{table.path}: column {label.name} holds {label.classes()} class; two or more are needed")
        return label, f"as asked; {label.classes()} values"
    found = [column for column in table.columns.values() if column not in texts and _may_be_label(column)]
    chosen = choose(found, LABEL_NAMES)
    if chosen is None:
        said = (
            f"columns {', '.join(column.name for column in found)} may all be labels"
            if found
            else "no column looks like labels"
        )
        option = quote(found[0].name) if found else "COLUMN"
        raise InputError(f"{table.path}: {said}; it has {table.listed()}: say which, such as --label {option}")
    others = ", ".join(printable(column.name) for column in found if column is not chosen)
    return chosen, f"{chosen.classes()} values, each in many rows" + (f"; so are those of {others}" if others else "")


def _may_be_label(column: Column) -> bool:
    """Whether a column holds few values again and again, and these are no splits and no measured numbers."""
    values, classes = column.filled, column.classes()
    if classes < 2 or column.is_time() or _is_split(column):
        return False
    if column.is_number() and not all(WHOLE.fullmatch(cell) for cell in values if NUMBER.fullmatch(cell)):
        return False
    known = bool(words(column.name) & set(LABEL_NAMES))
    return classes <= len(values) / 2 and (known or (classes <= MOST_CLASSES and classes <= len(values) / 10))


def _group_and_split(table: Look, others: list[Column]) -> list[str]:
    """Return the lines for columns that say which rows belong together and which split they go to."""
    if table.files:
        return [f"  # The splits are those of the tables {', '.join(table.files)}."]
    lines = []
    split = next((column for column in others if _is_split(column)), None)
    groups = [column for column in others if words(column.name) & GROUP_NAMES and _may_be_groups(column)]
    if split is not None:
        lines.append(f"  split: {quoted(split.name)} # says {', '.join(sorted(set(split.filled)))}")
    elif len(groups) == 1:
        reason = f"its {groups[0].classes():,} values are each in one split only; remove it where rows of one may be in several"
        lines.append(f"  group: {quoted(groups[0].name)} # {reason}")
    return lines


def _is_split(column: Column) -> bool:
    values = {cell.strip().lower() for cell in column.filled}
    return bool(words(column.name) & SPLIT_COLUMNS) and len(values) > 1 and values <= SPLIT_NAMES.keys()


def _may_be_groups(column: Column) -> bool:
    rows, counts = len(column.cells), Counter(column.cells)
    return GROUPS <= len(counts) < rows and max(counts.values()) <= LARGEST_GROUP * rows


def _tokens(table: Look, texts: list[Column]) -> tuple[int, int, str]:
    """Return the size of the vocabulary, the most tokens of a text, and what to say of them."""
    joined = [" ".join(cells)[:CHARACTERS] for cells in zip(*(column.cells for column in texts), strict=True)]
    vocabulary = next(size for rows, size in VOCABULARIES if table.rows >= rows)
    tokenizer = train_tokenizer(joined, vocabulary, "bpe")
    lengths = np.diff(encode_counted(tokenizer, joined, 100 * LONGEST)[1])
    most = int(np.percentile(lengths, 95))
    tokens = min(LONGEST, max(8, -(-most // 8) * 8))
    note = f"95 % of the texts have {most:,} or fewer; what comes after is cut off"
    if most > LONGEST:
        note = f"5 % of the texts have more than {most:,}; what comes after is cut off, and more takes longer"
    return vocabulary, tokens, note


def _training(rows: int, unbalanced: bool) -> list[str]:
    return [
        *training_length(int(0.75 * rows), STEPS, (4, 30)),
        "  optimizer: adamw",
        "  learning_rate: 4e-3 # of the highest point",
        "  weight_decay: 0.05",
        "  schedule: one_cycle",
        "  warmup_fraction: 0.25",
        "  gradient_clip: 1.0",
        "  label_smoothing: 0.1",
        "  augment:",
        "    token_dropout: 0.2 # every fifth token is not seen, so that no single word decides",
        *(["  class_weights: balanced # one class has more than five times the samples of another"] if unbalanced else []),
        "  seed: 0",
    ]
