from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.data.catalogue import names
from trainyard.data.descriptor import Descriptor, human_bytes, read_descriptor
from trainyard.params import ParamsError

TEXT = """\
name: toy
about: Toys
licence: {name: CC0, url: "https://example.org/cc0"}
citation: Nobody
source: image_folder
files:
  - name: toys.zip
    urls: ["https://example.org/toys.zip"]
    bytes: 10
    sha256: "%s"
    unpack: {}
"""
GOOD = TEXT % ("a" * 64)


def read(folder: Path, text: str) -> Descriptor:
    (folder / "toy.yaml").write_text(text)
    return read_descriptor(folder / "toy.yaml")


def test_a_good_descriptor_is_read(tmp_path: Path) -> None:
    descriptor = read(tmp_path, GOOD)
    assert (descriptor.name, descriptor.bytes, descriptor.unpacks, descriptor.reads) == ("toy", 10, True, ".")
    assert descriptor.origin()["licence"] == "CC0"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https://example.org/toys", "file:///etc/toys", "line 7: files.0: toys.zip: url file:///etc/toys.zip is neither"),
        (f'sha256: "{"a" * 64}"', "", "has neither sha256 nor md5"),
        ("a" * 64, "a" * 63, "files.0.sha256"),
        ("bytes: 10", "bytes: 0", "files.0.bytes: found 0"),
        ("name: toys.zip", "name: ../toys.zip", "files.0.name"),
        ("name: toys.zip", "name: toys.rar", "unpack is for .tar.gz"),
        ("name: toy\n", "name: ../toy\n", "name: found '../toy'"),
        ("unpack: {}", "unpack: {into: ../up}", "leads out of the data set"),
        ("source:", "reads: /etc/passwd\nsource:", "reads: '/etc/passwd' leads out"),
        ("about: Toys", "abuot: Toys", "did you mean 'about'"),
        ("    unpack: {}\n", "arrange: {lists: {train: a.txt}, files: {images: 'i/{name}.png'}}\n", "no file has unpack"),
        ("files:\n", "arrange: {lists: {train: a.txt}, files: {images: i.png}}\nfiles:\n", r"does not hold \{name\} once"),
        ("files:\n", "arrange: {lists: {train: ../a.txt}, files: {images: 'i/{name}'}}\nfiles:\n", "leads out"),
    ],
)
def test_what_cannot_be_verified_or_would_leave_the_folder_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ParamsError, match=said):
        read(tmp_path, GOOD.replace(old, new))


def test_the_key_changes_with_what_the_unpacked_files_depend_on_alone(tmp_path: Path) -> None:
    key = read(tmp_path, GOOD).key()
    assert read(tmp_path, GOOD.replace("Toys", "Playthings").replace("example.org", "example.com")).key() == key
    assert read(tmp_path, GOOD.replace("a" * 64, "b" * 64)).key() != key
    assert read(tmp_path, GOOD.replace("unpack: {}", "unpack: {into: deep}")).key() != key


def test_every_descriptor_of_the_catalogue_can_be_read_and_is_named_like_its_file(root: Path) -> None:
    found = names(root)
    assert set(found) >= {"mnist", "fashion_mnist", "cifar10", "oxford_pets", "ag_news", "etth1"}
    for name in found:
        descriptor = read_descriptor(root / "data" / "catalogue" / f"{name}.yaml")
        assert descriptor.name == name
        assert all(file.sha256 for file in descriptor.files)


def test_sizes_are_written_as_people_do() -> None:
    assert [human_bytes(count) for count in (9, 9_912_422, 811_092_049, 20e12)] == [
        "9 bytes",
        "9.9 MB",
        "811.1 MB",
        "20,000.0 GB",
    ]
