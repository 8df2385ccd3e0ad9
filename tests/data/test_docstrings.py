"""The docstrings of installed libraries as a data set."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pytest

from trainyard.data.docstrings import (
    DISTRIBUTIONS,
    NAMES,
    DocstringsConfig,
    group_near_duplicates,
    load,
    strip_names,
)
from trainyard.data.raw import RawDataset
from trainyard.errors import InputError

SMALL = DocstringsConfig(source="docstrings", libraries=("networkx", "numpy"), max_per_library=300)


@pytest.fixture(scope="module")
def raw() -> RawDataset:
    """300 texts of each of two small libraries."""
    return load(SMALL)


def _package(folder: Path, name: str, files: dict[str, str]) -> None:
    for path, docstring in files.items():
        file = folder / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'def f():\n    """{docstring}"""\n', encoding="utf-8")


def _load_two(folder: Path, monkeypatch: pytest.MonkeyPatch, *, most: int = 100) -> dict[str, int]:
    monkeypatch.syspath_prepend(folder)
    raw = load(DocstringsConfig(source="docstrings", libraries=("leftlib", "rightlib"), max_per_library=most))
    return dict(zip(raw.arrays["texts"], raw.arrays["labels"].tolist(), strict=True))


def test_classes_are_the_libraries_and_no_class_is_over_its_limit(raw: RawDataset) -> None:
    assert raw.kind == "text_classification"
    assert raw.classes == SMALL.libraries
    assert np.bincount(raw.arrays["labels"]).tolist() == [300, 300]
    assert raw.arrays["labels"].dtype == np.int64
    assert len(raw.arrays["texts"]) == 600


def test_versions_of_the_libraries_are_recorded(raw: RawDataset) -> None:
    assert raw.libraries == {"networkx": version("networkx"), "numpy": np.__version__}


def test_no_name_of_a_library_remains(raw: RawDataset) -> None:
    names = [name for library, others in NAMES.items() for name in (library, *others)]
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b", re.IGNORECASE)
    assert [text for text in raw.arrays["texts"] if pattern.search(text)] == []


def test_no_backtick_remains_and_every_text_has_eight_words(raw: RawDataset) -> None:
    for text in raw.arrays["texts"]:
        assert not re.search(r"`[^`]*`", text)
        assert len(re.findall(r"[^\W\d_]+", text)) >= 8
        assert text == " ".join(text.split())


def test_no_two_texts_are_equal_without_regard_to_case(raw: RawDataset) -> None:
    texts = [text.casefold() for text in raw.arrays["texts"]]
    assert len(set(texts)) == len(texts)


def test_texts_do_not_depend_on_the_hash_seed(raw: RawDataset) -> None:
    code = (
        "import hashlib; from trainyard.data.docstrings import DocstringsConfig, load; "
        "raw = load(DocstringsConfig(source='docstrings', libraries=('networkx', 'numpy'), max_per_library=300)); "
        "print(hashlib.sha256(repr((raw.arrays['texts'], raw.groups.tolist())).encode()).hexdigest())"
    )
    # Sets are in another order in a process with another hash seed than this one's, which is random.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert raw.groups is not None
    expected = hashlib.sha256(repr((raw.arrays["texts"], raw.groups.tolist())).encode()).hexdigest()
    assert run.stdout.strip() == expected


@pytest.mark.faults
def test_a_killed_reading_leaves_no_process(root: Path, tmp_path: Path) -> None:
    code = (
        "from trainyard.data.docstrings import DocstringsConfig, load; load(DocstringsConfig(source='docstrings', libraries=("
        "'networkx', 'torch', 'sympy'))); print('read')"
    )
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    reading = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    helpers: list[psutil.Process] = []
    while not helpers:
        assert reading.poll() is None, "it was over before it could be killed"
        helpers = psutil.Process(reading.pid).children()
        time.sleep(0.05)
    reading.kill()
    assert reading.communicate()[0] == ""
    assert not psutil.wait_procs(helpers, timeout=20)[1]


def test_texts_do_not_depend_on_the_seed_of_the_split(raw: RawDataset) -> None:
    other = load(DocstringsConfig(source="docstrings", libraries=SMALL.libraries, max_per_library=300, seed=7))
    assert other.arrays["texts"] == raw.arrays["texts"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Convert a NumPy array to np.float64 values.", "Convert a array to values."),
        ("The PyTorch way, or TorchScript; see torch_xla.", "The way, or ; see ."),
        ("Start RayActor on ray_start, not on an array.", "Start on , not on an array."),
        ("Wraps :class:`~pandas.DataFrame` and ``df.head()`` in `x`.", "Wraps and in ."),
        ("Draw with plt or\n   sklearn's own API.", "Draw with or 's own API."),
        ("See https://pandas.pydata.org/docs for e.g. this.", "See for e.g. this."),
        ("A tensor stays a tensor, spy stays spy.", "A tensor stays a tensor, spy stays spy."),
        (".. deprecated:: 1.2 Use another function.", "1.2 Use another function."),
    ],
)
def test_names_code_and_paths_are_taken_out(text: str, expected: str) -> None:
    assert strip_names(text) == expected


def test_a_chosen_library_that_is_not_well_known_loses_its_name_too() -> None:
    assert strip_names("Ask the LeftlibServer first.", ["leftlib"]) == "Ask the first."


def test_only_the_first_paragraph_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _package(tmp_path, "leftlib", {"__init__.py": "One two three four\n    five six seven eight.\n\n    Second paragraph."})
    _package(tmp_path, "rightlib", {"__init__.py": "Words of the right library stand here, eight of them."})
    assert _load_two(tmp_path, monkeypatch) == {
        "One two three four five six seven eight.": 0,
        "Words of the right library stand here, eight of them.": 1,
    }


def test_a_text_of_two_libraries_is_left_out_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _package(
        tmp_path,
        "leftlib",
        {
            "__init__.py": "Only the left one of them says this thing.",
            "a.py": "Both of them say it with the same words.",
        },
    )
    _package(
        tmp_path,
        "rightlib",
        {
            "__init__.py": "BOTH of them say it with the same words.",
            "b.py": "Only the right one of them says this thing.",
        },
    )
    assert sorted(_load_two(tmp_path, monkeypatch)) == [
        "Only the left one of them says this thing.",
        "Only the right one of them says this thing.",
    ]


def test_spellings_that_differ_in_case_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "The left library says this more than once."
    _package(tmp_path, "leftlib", {"__init__.py": text, "a.py": text.upper(), "b.py": text.lower()})
    _package(tmp_path, "rightlib", {"__init__.py": "Words of the right library stand here, eight of them."})
    assert list(_load_two(tmp_path, monkeypatch).values()) == [0, 1]


def test_tests_and_vendored_code_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = {"__init__.py": "Taken because it is the very own text of the library."}
    for number, path in enumerate(["tests/a.py", "_vendor/b.py", "externals/c.py", "test_d.py", "conftest.py"]):
        left[path] = f"Not taken as it is foreign to this library, number {number}."
    _package(tmp_path, "leftlib", left)
    _package(tmp_path, "rightlib", {"__init__.py": "Words of the right library stand here, eight of them."})
    assert len(_load_two(tmp_path, monkeypatch)) == 2


def test_files_that_are_not_python_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _package(tmp_path, "leftlib", {"__init__.py": "Words of the left library stand here, eight of them."})
    (tmp_path / "leftlib" / "template.py").write_text("{{ this is a template }} \\d")
    _package(tmp_path, "rightlib", {"__init__.py": "Words of the right library stand here, eight of them."})
    assert len(_load_two(tmp_path, monkeypatch)) == 2


def test_the_same_texts_stay_whatever_the_names_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"The left library describes its {word} thing in one sentence." for word in ("first", "second", "third", "fourth")]
    _package(tmp_path / "1", "leftlib", {"__init__.py": texts[0], **{f"{n}.py": texts[n] for n in (1, 2, 3)}})
    _package(tmp_path / "2", "leftlib2", {"__init__.py": texts[3], **{f"{n}.py": texts[n] for n in (2, 1, 0)}})
    _package(tmp_path / "1", "rightlib", {"__init__.py": "Words of the right library stand here, eight of them."})
    found = sorted(_load_two(tmp_path / "1", monkeypatch, most=2))
    monkeypatch.syspath_prepend(tmp_path / "2")
    config = DocstringsConfig(source="docstrings", libraries=("leftlib2", "rightlib"), max_per_library=2)
    assert sorted(load(config).arrays["texts"]) == found


def test_texts_that_differ_in_digits_signs_and_short_words_are_one_group() -> None:
    groups = group_near_duplicates(
        ["Return the value of layer 1.", "Return a value of layer 2!", "Return the width of layer 1.", "1 2", "1 3"]
    )
    assert groups.tolist() == [0, 0, 1, 2, 3]


def test_a_library_that_is_not_installed_is_refused_with_the_installed_ones() -> None:
    config = DocstringsConfig(source="docstrings", libraries=("numpy", "no_such_library"))
    with pytest.raises(InputError, match=r"libraries: no_such_library is not an installed .* choose of .*networkx"):
        load(config)


def test_a_dotted_name_is_refused_without_importing_its_parent() -> None:
    with pytest.raises(InputError, match=r"sympy\.core is not an installed"):
        load(DocstringsConfig(source="docstrings", libraries=("sympy.core", "numpy")))


def test_a_library_without_docstrings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _package(tmp_path, "leftlib", {"__init__.py": "Too short."})
    _package(tmp_path, "rightlib", {"__init__.py": "Words of the right library stand here, eight of them."})
    with pytest.raises(InputError, match="leftlib has no docstring"):
        _load_two(tmp_path, monkeypatch)


@pytest.mark.parametrize(("libraries", "message"), [(("numpy",), "at least two"), (("ray", "ray"), "more than once")])
def test_libraries_that_cannot_be_told_apart_are_refused(libraries: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DocstringsConfig(source="docstrings", libraries=libraries)


def test_every_library_published_under_another_name_is_known() -> None:
    assert set(DISTRIBUTIONS) <= set(NAMES)
