"""Tables that a model is asked about: written as those were that it learned from, or as any table says of itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from trainyard.data.problems import Problem
from trainyard.data.table_encoding import as_it_says
from trainyard.data.table_form import OpenTable, TableForm
from trainyard.data.tables import PARQUET, open_table


def open_asked(
    path: Path, trained: TableForm, wanted: Sequence[str], read: Collection[str], problems: list[Problem]
) -> OpenTable | None:
    """Return a table's columns, or None after adding why they cannot be told.

    A mark of UTF-16, or text in UTF-8, goes before the encoding of the training; a first row with the names of all columns is a
    header, also where the training had none; and another delimiter is found if that of the training does not lead to them.

    Args:
        path: of the file.
        trained: how the tables of the training were written.
        wanted: columns that it must have.
        read: columns that are read where it has them, those included.
        problems: what is wrong is added to it.
    """
    # The user named this very file: where its name is a link, what it leads to is meant.
    real = path.resolve()
    return open_table(real.parent, real.name, _form(real, trained, wanted, read), problems, wanted)


def _form(path: Path, trained: TableForm, wanted: Sequence[str], read: Collection[str]) -> TableForm:
    if trained == TableForm() or path.suffix.lower() in PARQUET:
        return TableForm()
    form = replace(trained, encoding=as_it_says(path, trained.encoding), columns=None)
    for other in dict.fromkeys((form, replace(form, delimiter="auto"))):
        if set(wanted) <= set(_columns(path, other, wanted)):
            return other
    if trained.columns is None:
        return form
    form = replace(form, columns=trained.columns)
    # What the model does not read, such as the classes, new rows may be without.
    alone = replace(form, columns=tuple(name for name in trained.columns if name in read))
    for other in dict.fromkeys((form, alone)):
        if other.columns is not None and len(_columns(path, replace(other, columns=None), ())) == len(other.columns):
            return other
    return form


def _columns(path: Path, form: TableForm, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return what stands in the first row."""
    table = open_table(path.parent, path.name, form, [], wanted)
    return () if table is None else table.columns
