from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainyard.errors import IntegrityError
from trainyard.studies.sweeper import Spent
from trainyard.studies.trials import Book, Trial


def epoch(step: int, accuracy: float, loss: float = 1.0) -> dict[str, float]:
    return {"val/accuracy": accuracy, "val/loss": loss, "step": float(step), "seconds": step / 10}


def test_what_was_written_is_read_again_by_another_process(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.write(Trial(number=0, values={"model.widths": [8, 16], "train.learning_rate": 1e-3}, history=(epoch(19, 0.5),)))
    book.write(Trial(number=1, values={"model.widths": [8], "train.learning_rate": 0.1}, state="failed", reason="no number"))
    again = Book.read(tmp_path)
    assert again.trials == book.trials
    assert again.next_number() == 2
    assert [trial.number for trial in again.in_state("running")] == [0]


def test_trials_of_the_same_number_have_places_of_their_own_in_a_storage(tmp_path: Path) -> None:
    book = Book(tmp_path / "0a1b2c")
    first, other = Trial(number=3, values={"a.b": 1}, mark="11aa"), Trial(number=3, values={"a.b": 2}, mark="22bb")
    assert book.state("cnn", first) == "cnn-sweep-0a1b2c-0003-11aa" != book.state("cnn", other)
    # As it was called before trials had marks: what was under way then continues.
    assert book.state("cnn", Trial(number=3, values={})) == "cnn-sweep-0a1b2c-0003"


def test_what_a_killed_process_left_of_a_record_is_none(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.write(Trial(number=0, values={"a.b": 1}))
    torn = book.place(0) / ".trial.json.tmp"
    torn.write_text('{"number": 0, "va')
    book.place(1).mkdir()
    assert list(Book.read(tmp_path).trials) == [0]


@pytest.mark.parametrize("content", ["", "[]", '{"number": 3, "values": {}, "history": []}', '{"number": 0}'])
def test_a_record_that_was_changed_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    (tmp_path / "trials" / "0000" / "trial.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"0000/trial\.json: is no record of a trial"):
        Book.read(tmp_path)


def test_an_epoch_that_is_told_of_twice_counts_once() -> None:
    trial = Trial(number=0, values={}).with_epochs([epoch(19, 0.5), epoch(38, 0.6)])
    again = trial.with_epochs([epoch(19, 0.5), epoch(38, 0.6), epoch(57, 0.7)])
    assert [values["val/accuracy"] for values in again.history] == [0.5, 0.6, 0.7]
    assert again.seconds == 5.7


def test_a_trial_is_worth_what_the_weights_are_that_would_be_kept() -> None:
    history = (epoch(1, 0.5, 0.9), epoch(2, 0.8, 0.7), epoch(3, 0.7, 0.4))
    trial = Trial(number=0, values={}, history=history)
    assert trial.scores("accuracy", "accuracy", "best") == [0.5, 0.8, 0.8]
    # Those of the epoch with the best primary metric, whatever is compared.
    assert trial.scores("loss", "accuracy", "best") == [0.9, 0.7, 0.7]
    assert trial.scores("loss", "accuracy", "last") == [0.9, 0.7, 0.4]


def test_an_epoch_without_a_number_is_never_the_best() -> None:
    trial = Trial(number=0, values={}, history=(epoch(1, float("nan")), epoch(2, 0.3), epoch(3, float("nan"))))
    assert trial.scores("accuracy", "accuracy", "best")[1:] == [0.3, 0.3]


def test_the_seconds_of_all_attempts_add_up(tmp_path: Path) -> None:
    now = [100.0]
    spent = Spent(tmp_path / "seconds.json", lambda: now[0])
    now[0] = 130.0
    spent.keep()
    assert json.loads((tmp_path / "seconds.json").read_text()) == 30
    now[0] = 500.0
    later = Spent(tmp_path / "seconds.json", lambda: now[0])
    now[0] = 505.0
    assert later.total() == 35
