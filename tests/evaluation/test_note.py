from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from trainyard.data.packed import read_card
from trainyard.evaluation.note import note, preview
from trainyard.tracking.appearance import RENEWED

TRAIN = {"best/accuracy": 0.93, "best/epoch": 4, "epochs": 6, "seconds": 75.0, "samples_per_s": 1200.4, "parameters": 1442}
SCORES = {"test/accuracy": 0.91, "test/accuracy_low": 0.89, "test/accuracy_high": 0.93, "baseline/accuracy": 0.9}


def test_a_note_says_what_was_reached_on_which_data_and_shows_samples(tmp_path: Path, packed_digits: Path) -> None:
    for name, values in (("train", TRAIN), ("evaluate", SCORES), ("gate", {"passed": False})):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    (tmp_path / "export.json").write_text(json.dumps({"size_bytes": 13198, "latency_p50_ms": 0.0175}))
    (tmp_path / "figures").mkdir()
    Image.new("RGB", (1200, 600), "red").save(tmp_path / "figures" / "samples.png")
    text = note(tmp_path, read_card(packed_digits), ("train", "evaluate", "gate", "export"))
    assert text.startswith("**test accuracy 0.9100** (0.8900 to 0.9300) · baseline 0.9000 · **did not pass the gate**\n")
    assert "digits: 1,168 train, 270 val, 359 test" in text
    assert "| best val accuracy | 0.9300 in epoch 4 of 6 |" in text and "| training | 1:15 min, 1,200 samples/s |" in text
    assert "| export | 13 kB, 0.0175 ms a sample |" in text
    assert "![samples.png](get-artifact?path=note%2Fpreview.png&run_uuid={run_id})" in text
    with preview(tmp_path) as pictures, Image.open(pictures[0]) as picture:
        assert picture.size == (640, 320)
    assert text.endswith(RENEWED)


def test_what_later_stages_left_of_an_earlier_run_is_not_told(tmp_path: Path, packed_digits: Path) -> None:
    for name, values in (("train", TRAIN), ("evaluate", SCORES), ("gate", {"passed": True}), ("export", {"size_bytes": 1})):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    text = note(tmp_path, read_card(packed_digits), ("train", "evaluate"))
    assert "gate" not in text and "export" not in text and "![" not in text
    with preview(tmp_path) as pictures:
        assert pictures == []
