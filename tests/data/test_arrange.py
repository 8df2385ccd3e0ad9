from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.data.arrange import arrange
from trainyard.data.descriptor import Arrangement
from trainyard.data.problems import DataError

RULE = Arrangement(
    lists={"train": "lists/trainval.txt", "test": "lists/test.txt"},
    files={"images": "images/{name}.jpg", "masks": "trimaps/{name}.png"},
)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Three pets with masks, and one that no list names."""
    for name in ("cat_1", "cat_2", "dog_1", "dog_2"):
        for folder, suffix in (("images", "jpg"), ("trimaps", "png")):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.{suffix}").write_text(f"{folder} {name}")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "trainval.txt").write_text("#Image CLASS-ID SPECIES\ncat_1 1 1 1\ndog_1 2 2 1\n\n")
    (tmp_path / "lists" / "test.txt").write_text("cat_2 1 1 1\r\n")
    return tmp_path


def test_files_go_into_the_folder_of_their_split_with_what_belongs_to_them(pets: Path) -> None:
    arrange("pets", pets, RULE)
    arranged = pets / "arranged"
    assert sorted(str(path.relative_to(arranged)) for path in arranged.rglob("*.*")) == [
        "test/images/cat_2.jpg",
        "test/masks/cat_2.png",
        "train/images/cat_1.jpg",
        "train/images/dog_1.jpg",
        "train/masks/cat_1.png",
        "train/masks/dog_1.png",
    ]
    assert (arranged / "train" / "masks" / "dog_1.png").read_text() == "trimaps dog_1"
    assert (pets / "images" / "dog_2.jpg").exists()


def test_all_that_is_wrong_with_the_lists_is_said_and_nothing_is_moved(pets: Path) -> None:
    (pets / "lists" / "test.txt").write_text("cat_1 1\ncow_7 1\n../../etc/passwd 1\n/etc/passwd\n")
    with pytest.raises(DataError) as caught:
        arrange("pets", pets, RULE)
    said = str(caught.value)
    assert "lists/test.txt:1: cat_1, which another line has" in said
    assert "lists/test.txt:2: cow_7, but there is no images/cow_7.jpg" in said
    assert "lists/test.txt:3: ../../etc/passwd; names below the folder" in said
    assert "lists/test.txt:4: /etc/passwd; names below the folder" in said
    assert caught.value.exit_code == 5
    assert not (pets / "arranged").exists()


def test_a_list_that_is_not_there_is_named(pets: Path) -> None:
    (pets / "lists" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"lists/test\.txt: no such list among the files"):
        arrange("pets", pets, RULE)
