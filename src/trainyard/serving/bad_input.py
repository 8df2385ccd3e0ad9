"""What is wrong with something that a model was asked about."""

from __future__ import annotations

from trainyard.data.problems import printable
from trainyard.errors import InputError


class BadInput(InputError):
    """An input that a model cannot answer: `<field>: <found>; <expected>`."""

    def __init__(self, field: str, found: str, expected: str, rule: str = "bad-input") -> None:
        """Keep which field it is, what was found there, what should stand there, and the short name of what was checked."""
        self.field, self.found, self.expected, self.rule = printable(field), printable(found), expected, rule
        super().__init__(f"{self.field}: {self.found}; {expected}")

    def __reduce__(self) -> tuple[type[BadInput], tuple[str, str, str, str]]:
        return type(self), (self.field, self.found, self.expected, self.rule)
