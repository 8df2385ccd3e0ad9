from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.errors import Interrupted
from trainyard.recipe import Recipe
from trainyard.training.beat import Beat, Place, Progress
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.pulse import Pulse, Speaker

MakeRecipe = Callable[..., Recipe]
PLACE = Place(rank=0, workers=1, host="alpha", node="n", pid=1, actor="a")


class Heard:
    """What a worker said, and when it was to stop."""

    def __init__(self) -> None:
        self.beats: list[Beat] = []
        self.spares = 0
        self.stop_at: int | None = None

    def say(self, beat: Beat) -> None:
        self.beats.append(beat)

    def listen(self) -> bool:
        return self.stop_at is not None and any(beat.step >= self.stop_at for beat in self.beats)

    def spare(self) -> None:
        self.spares += 1


def make_job(recipe: Recipe, data_dir: Path, scratch: Path) -> FitJob:
    scratch.mkdir(exist_ok=True)
    return FitJob(recipe=recipe, data_dir=data_dir, scratch_dir=scratch, fingerprint="f")


def test_every_phase_of_a_training_is_noted(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    progress = Progress(PLACE)
    fit(make_job(make_recipe(epochs=2), packed_digits, tmp_path / "s"), callbacks=[Pulse(progress)])
    assert set(progress.longest) >= {
        "start",
        "between steps",
        "forward",
        "backward",
        "optimizer",
        "validation",
        "epoch end",
        "saving",
    }
    assert progress.beat().own_seconds is None or progress.beat().own_seconds > 0  # type: ignore[operator]


def test_a_worker_speaks_while_it_trains_and_once_more_when_it_is_over(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainyard.training.pulse.BEAT_SECONDS", 0.01)
    monkeypatch.setattr("trainyard.training.pulse.LISTEN_SECONDS", 0.01)
    heard, stop = Heard(), threading.Event()
    heard.stop_at = 10
    pulse = Pulse(Progress(PLACE))
    job = make_job(make_recipe(epochs=5000), packed_digits, tmp_path / "s")
    speaker = Speaker(pulse, say=heard.say, listen=heard.listen, spare=heard.spare, stop=stop)
    with pytest.raises(Interrupted), speaker:
        fit(job, stop=stop, callbacks=[pulse])
    assert heard.beats[-1].phase == "over"
    assert any(beat.step >= 10 for beat in heard.beats)


def test_a_worker_is_heard_before_anything_can_make_it_hang() -> None:
    heard = Heard()
    with Speaker(Pulse(Progress(PLACE)), say=heard.say, listen=heard.listen, spare=heard.spare, stop=threading.Event()):
        assert [beat.phase for beat in heard.beats] == ["start"]


def test_a_spare_is_asked_for_once_where_the_training_goes_on_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.training.pulse.LISTEN_SECONDS", 0.01)
    heard, pulse = Heard(), Pulse(Progress(PLACE))
    with Speaker(pulse, say=heard.say, listen=heard.listen, spare=heard.spare, stop=threading.Event()):
        time.sleep(0.1)
        assert heard.spares == 0
        pulse.left_seconds, pulse.began = 3600.0, time.monotonic() - 60
        deadline = time.monotonic() + 120
        while not heard.spares:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
    assert heard.spares == 1


def test_a_head_that_is_away_does_not_disturb_the_training(
    make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainyard.training.pulse.LISTEN_SECONDS", 0.01)

    def away(*_: object) -> bool:
        raise ConnectionError("no answer")

    pulse, stop = Pulse(Progress(PLACE)), threading.Event()
    with Speaker(pulse, say=away, listen=away, spare=away, stop=stop):
        result = fit(make_job(make_recipe(epochs=2), packed_digits, tmp_path / "s"), stop=stop, callbacks=[pulse])
    assert len(result.history) == 2
    assert not stop.is_set()


def test_what_is_noted_changes_no_result(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    plain = fit(make_job(make_recipe(epochs=2), packed_digits, tmp_path / "plain"))
    noted = fit(make_job(make_recipe(epochs=2), packed_digits, tmp_path / "noted"), callbacks=[Pulse(Progress(PLACE))])
    for key in ("train/loss", "val/loss", "val/accuracy", "gradient_norm"):
        assert [row[key] for row in plain.history] == [row[key] for row in noted.history]
