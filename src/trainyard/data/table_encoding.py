"""Which encoding a file of text is in, and where it is not."""

from __future__ import annotations

import codecs
from pathlib import Path

from trainyard.data.table_form import Encoding, Findings

CHUNK_BYTES = 2**20
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, the longer ones first."""
FORMATS = (
    (b"PK\x03\x04", "a ZIP or Excel file"),
    (b"\x1f\x8b", "a gzipped file"),
    (b"PAR1", "a Parquet file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"%PDF", "a PDF file"),
)
"""First bytes of files that are taken for tables of text."""
SHOWN_NAMES = {"utf-8-sig": "UTF-8", "utf-8": "UTF-8", "utf-16": "UTF-16"}


def find_encoding(path: Path, encoding: Encoding, found: Findings) -> str | None:
    """Return the name that Python has for a file's encoding, or None after adding why there is none."""
    with path.open("rb") as file:
        start = file.read(4)
    for magic, kind in FORMATS:
        if start.startswith(magic):
            found.add("not-text", f"is {kind}", "save the table as CSV in UTF-8, or name a Parquet file .parquet")
            return None
    mark = next((name for bytes_, name in MARKS if start.startswith(bytes_)), None)
    if mark == "utf-32":
        found.add("encoding", "is UTF-32", "save the file as UTF-8")
        return None
    if encoding == "auto" or (mark is not None and mark.startswith(encoding)):
        return mark or "utf-8-sig"
    if mark is not None:
        expected = f"remove data.encoding: {encoding}"
        found.add("encoding", f"begins with the byte order mark of {SHOWN_NAMES[mark]}", expected)
        return None
    if encoding == "utf-16":
        found.add("encoding", "has no byte order mark", found.advice.unmarked)
        return None
    if (encoding in ("latin-1", "iso8859-15") or encoding.startswith("cp")) and is_utf8(path):
        # Text in such an encoding hardly ever reads as UTF-8 too.
        expected = f"it is read as {encoding}, as asked; for UTF-8, remove data.encoding"
        found.add("encoding-doubtful", "all of it is UTF-8", expected, severity="warning")
    return encoding


def add_bad_byte(path: Path, encoding: str, found: Findings) -> None:
    """Add where the first byte is that is no text in an encoding."""
    # utf-8-sig counts without the mark, which is three bytes of the file.
    decoder = codecs.getincrementaldecoder("utf-8" if encoding == "utf-8-sig" else encoding)()
    offset, line, last = 0, 1, ""
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line += _line_ends(codecs.decode(error.object[: error.start], error.encoding, "replace"), last)
                place = offset - waiting + error.start
                _report(error.object[error.start : error.end], place, line, encoding, found)
                return
            if not chunk:
                return
            line, last, offset = line + _line_ends(text, last), text[-1:] or last, offset + len(chunk)


def _report(bad: bytes, place: int, line: int, encoding: str, found: Findings) -> None:
    name = SHOWN_NAMES.get(encoding, encoding)
    size = f"byte 0x{bad[:1].hex()} at offset {place:,}" if bad else f"the end of the file at offset {place:,}"
    character = bad[:1].decode("cp1252", "replace")
    hint = f" ({character!r} in cp1252)" if encoding.startswith("utf-8") and character.isprintable() else ""
    found.add("encoding", f"{size}{hint} is not {name}", found.advice.encoding, at=line)


def _line_ends(text: str, before: str) -> int:
    """Return how often a text starts a new line, the way that editors count, after a text that ends with `before`."""
    inside = text.count("\r\n") + (before == "\r" and text.startswith("\n"))
    return text.count("\n") + text.count("\r") - inside


def is_utf8(path: Path) -> bool:
    """Whether a file holds other signs than those of ASCII, all of them in UTF-8."""
    decoder, ascii_only = codecs.getincrementaldecoder("utf-8")(), True
    with path.open("rb") as file:
        try:
            while chunk := file.read(CHUNK_BYTES):
                ascii_only = ascii_only and chunk.isascii()
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return not ascii_only


def as_it_says(path: Path, encoding: Encoding) -> Encoding:
    """Return the encoding of a file that is taken for one in `encoding`, unless its mark, or text in UTF-8, says otherwise."""
    with path.open("rb") as file:
        start = file.read(CHUNK_BYTES)
    if any(start.startswith(mark) for mark, _ in MARKS):
        return "auto"
    if encoding.startswith("utf-16"):
        # Every second byte of common signs is NUL there, and no byte of other texts.
        return encoding if b"\0" in start else "auto"
    return "auto" if is_utf8(path) else encoding
