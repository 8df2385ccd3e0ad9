"""What a person sees while a stage works: one short line for each thing that happened."""

from __future__ import annotations

import io
import math
import sys
import time

from trainyard.masking import mask
from trainyard.tasks.primary import merit
from trainyard.training.spool import Record

SILENCE_SECONDS = 10.0
"""Within a long epoch, a line at least this often."""


def say(recipe: str, stage: str, text: str) -> None:
    """Write one line and show it at once; what the terminal's encoding does not have, as `?`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.stdout.write(mask(f"{recipe} · {stage} · {text}\n"))
    sys.stdout.flush()


class TrainProgress:
    """Turns the records of a training into lines, at most one a second."""

    def __init__(self, recipe: str, epochs: int, primary: str) -> None:
        self.recipe = recipe
        self.epochs = epochs
        self.primary = primary
        self.best = float("nan")
        self.shown = time.monotonic()

    def show(self, record: Record) -> None:
        """Show a record, unless the last line is too fresh."""
        if record.note:
            say(self.recipe, "train", record.note)
            return
        if record.resumed:
            say(self.recipe, "train", f"continues after epoch {record.epoch}")
        now, last = time.monotonic(), record.kind == "epoch" and record.epoch + 1 == self.epochs
        if record.kind == "epoch":
            score = record.values[f"val/{self.primary}"]
            if math.isnan(self.best) or merit(self.primary, score) > merit(self.primary, self.best):
                self.best = score
        wait = 1.0 if record.kind == "epoch" else SILENCE_SECONDS
        if last or now - self.shown >= wait:
            self.shown = now
            say(self.recipe, "train", self._line(record))

    def _line(self, record: Record) -> str:
        values = record.values
        parts = [f"epoch {record.epoch + 1}/{self.epochs}"]
        if record.kind == "epoch":
            score = values[f"val/{self.primary}"]
            parts += [
                f"loss {values['train/loss']:.4f}",
                f"val loss {values['val/loss']:.4f}",
                f"val {self.primary} {score:.4f} (best {self.best:.4f})",
                f"{values['throughput/samples_per_s']:,.0f} samples/s",
            ]
        else:
            parts += [f"step {record.step}", f"loss {values['train/step_loss']:.4f}"]
        left = round(record.left_seconds)
        return " · ".join([*parts, f"{left // 60}:{left % 60:02d} left"])
