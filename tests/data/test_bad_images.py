"""What can be wrong with a folder of images, one fault a case: which rule finds it, where, and how hard it is refused."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.pets import config, make_pets, paint, read, refused

from trainyard.data import image_files, image_pieces
from trainyard.data.check import check
from trainyard.data.image_integrity import damage
from trainyard.data.problems import DataError

# Soft, as photographs are, so that a JPEG of them is mostly one scan.
SOFT = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(
        (96, 72), Image.Resampling.BICUBIC
    )
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_pets(tmp_path)


def warned(folder: Path, **changes: Any) -> set[tuple[str, str]]:
    return {(warning.rule, warning.where) for warning in read(folder, **changes).warnings}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """Return a PNG whose header says what it is told to."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- Damaged files


@pytest.mark.parametrize("part", range(16))
def test_a_bit_flipped_in_any_sixteenth_of_a_png_is_found(folder: Path, part: int) -> None:
    path = folder / "cat" / "soft.png"
    Image.fromarray(SOFT).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) * (2 * part + 1) // 32] ^= 1 << part % 8
    path.write_bytes(content)
    assert refused(folder) == {("damaged-image", "cat/soft.png")}
    assert len(read(folder, on_bad_sample="skip")) == 8


def test_a_damaged_chunk_that_holds_no_pixels_is_found_at_its_byte(folder: Path) -> None:
    whole = png(8, 6, 8, 0, bytes(9 * 6), extra=chunk(b"tEXt", b"Comment\0all is well"))
    (folder / "cat" / "text.png").write_bytes(whole)
    assert len(read(folder)) == 9
    (folder / "cat" / "text.png").write_bytes(whole.replace(b"well", b"tell"))
    with pytest.raises(DataError, match=r"cat/text\.png: damaged PNG: checksum of the chunk at byte 33 does not match"):
        read(folder)


def test_a_file_that_begins_like_no_image_is_named_with_its_first_bytes(folder: Path) -> None:
    path = paint(folder / "cat" / "new.png")
    path.write_bytes(b"\x88" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"cat/new\.png: begins with b'\\x88PNG"):
        read(folder)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}], ids=str)
def test_a_jpeg_cut_at_any_of_20_places_is_refused(folder: Path, options: dict[str, Any]) -> None:
    path = folder / "cat" / "soft.jpg"
    Image.fromarray(SOFT).save(path, quality=90, **options)
    whole = path.read_bytes()
    assert len(read(folder)) == 9
    for place in [len(whole) * part // 20 for part in range(1, 20)] + [len(whole) - 1]:
        path.write_bytes(whole[:place])
        assert refused(folder) == {("damaged-image", "cat/soft.jpg")}
        # Seen in its marks too, whatever the decoder says.
        assert damage(whole[:place], "JPEG")


def test_a_png_cut_at_any_of_20_places_or_without_its_end_is_refused(folder: Path) -> None:
    path = folder / "cat" / "soft.png"
    Image.fromarray(SOFT).save(path)
    whole = path.read_bytes()
    for place in [len(whole) * part // 20 for part in range(1, 20)] + [len(whole) - 12, len(whole) - 1]:
        path.write_bytes(whole[:place])
        assert refused(folder) == {("damaged-image", "cat/soft.png")}


def test_a_jpeg_is_told_by_its_marks_and_no_checksum_so_some_flipped_bits_decode(folder: Path) -> None:
    path = folder / "cat" / "soft.jpg"
    Image.fromarray(SOFT).save(path, quality=90)
    whole = path.read_bytes()
    found = 0
    for part in range(16):
        content = bytearray(whole)
        content[len(content) * part // 16] ^= 1 << part % 8
        path.write_bytes(content)
        try:
            # Decoded or named, and never a crash.
            assert len(read(folder)) == 9
        except DataError as error:
            found += 1
            assert {problem.where for problem in error.problems} == {"cat/soft.jpg"}
    assert 0 < found < 16


# --- Kinds of pixels: each by its stated rule, none clipped


def pixels(folder: Path, name: str = "new") -> np.ndarray[Any, Any]:
    """Return the pixels (H, W, C) of one image of a folder, in its own size."""
    raw = read(folder, size=(6, 8), on_bad_sample="stop")
    row = next(number for number, found in enumerate(raw.names) if f"/{name}." in found)
    return np.moveaxis(np.asarray(raw.arrays["images"][row]), 0, -1).astype(int)


DEEP = np.linspace(0, 65535, 48).reshape(6, 8)
COLOUR = SOFT[:6, :8]


def deep_rows(channels: int) -> bytes:
    values = np.repeat(DEEP.astype(">u2")[..., None], channels, axis=-1)
    if channels in (2, 4):
        values[..., -1] = 65535
    return b"".join(b"\0" + row.tobytes() for row in values)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("16 bits, grey", png(8, 6, 16, 0, deep_rows(1)), np.rint(DEEP / 257)),
        ("16 bits, grey and alpha", png(8, 6, 16, 4, deep_rows(2)), DEEP // 256),
        ("16 bits, colours", png(8, 6, 16, 2, deep_rows(3)), DEEP // 256),
        ("16 bits, colours and alpha", png(8, 6, 16, 6, deep_rows(4)), DEEP // 256),
        ("1 bit", png(8, 6, 1, 0, b"\0\x0f" * 6), np.tile([0] * 4 + [255] * 4, (6, 1))),
        ("2 bits", png(8, 6, 2, 0, b"\0\x1b\x1b" * 6), np.tile([0, 85, 170, 255] * 2, (6, 1))),
        ("4 bits", png(8, 6, 4, 0, b"\0\x0f\x0f\x0f\x0f" * 6), np.tile([0, 255] * 4, (6, 1))),
    ],
)
def test_a_png_of_any_depth_becomes_8_bits_by_its_rule(folder: Path, name: str, content: bytes, expected: Any) -> None:
    (folder / "cat" / "new.png").write_bytes(content)
    found = pixels(folder)
    assert np.array_equal(found, np.repeat(expected[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("suffix", "image", "expected"),
    [
        ("png", Image.fromarray(np.dstack([COLOUR, np.full((6, 8), 255, np.uint8)])), COLOUR),
        ("png", Image.fromarray(np.dstack([COLOUR, np.zeros((6, 8), np.uint8)])), COLOUR * 0),
        ("png", Image.fromarray(COLOUR).quantize(200), np.asarray(Image.fromarray(COLOUR).quantize(200).convert("RGB"))),
        ("tif", Image.fromarray(COLOUR).convert("CMYK"), COLOUR),
        ("tif", Image.fromarray((DEEP / 65535).astype(np.float32)), np.rint(DEEP / 257)[..., None].repeat(3, axis=-1)),
        ("tif", Image.fromarray(DEEP.astype(">u2")), np.rint(DEEP.astype(int) / 257)[..., None].repeat(3, axis=-1)),
        ("gif", Image.fromarray(COLOUR).quantize(200), np.asarray(Image.fromarray(COLOUR).quantize(200).convert("RGB"))),
    ],
    ids=["opaque", "clear", "palette", "ink", "floats", "16 bits, the other way round", "gif"],
)
def test_each_kind_of_pixel_keeps_its_values(folder: Path, suffix: str, image: Image.Image, expected: Any) -> None:
    image.save(folder / "cat" / f"new.{suffix}")
    # Ink has no more than 8 bits a colour, so it comes back to within one.
    assert np.abs(pixels(folder) - expected).max() <= (1 if image.mode == "CMYK" else 0)


@pytest.mark.parametrize(
    ("values", "rule", "said"),
    [
        (np.full((6, 8), np.nan, np.float32), "not-finite", "48 pixels that are NaN or infinite"),
        (np.where(np.arange(48).reshape(6, 8) < 3, np.inf, 0.5).astype(np.float32), "not-finite", "3 pixels"),
        (np.full((6, 8), 200, np.float32), "pixel-range", "floats from 200 to 200; scale floats to between 0 and 1"),
        (np.full((6, 8), -1, np.int32), "pixel-type", "32-bit integers"),
    ],
    ids=["NaN", "infinite", "floats to 255", "integers"],
)
def test_pixels_without_a_stated_range_are_refused_with_their_count(folder: Path, values: Any, rule: str, said: str) -> None:
    Image.fromarray(values).save(folder / "dog" / "new.tif")
    with pytest.raises(DataError, match=said) as caught:
        read(folder)
    assert [(problem.rule, problem.where) for problem in caught.value.problems] == [(rule, "dog/new.tif")]


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_of_several_frames_the_first_is_taken_with_a_warning(folder: Path, suffix: str) -> None:
    frames = [Image.new("L", (8, 6), value) for value in (50, 150, 250)]
    frames[0].save(folder / "cat" / f"new.{suffix}", save_all=True, append_images=frames[1:])
    assert warned(folder) == {("several-frames", f"cat/new.{suffix}")}
    assert np.abs(pixels(folder) - 50).max() <= (2 if suffix == "webp" else 0)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photograph_stands_upright_however_the_camera_was_held(folder: Path, turn: int) -> None:
    upright = Image.fromarray(SOFT)
    # Of the eight ways in the standard: what the camera stored, to be turned by what it noted.
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(folder / "cat" / "new.png", exif=exif)
    raw = read(folder, size=(72, 96))
    assert np.array_equal(np.moveaxis(raw.arrays["images"][raw.names.index("cat/new.png")], 0, -1), SOFT)


# --- Sizes


def tiff(width: int, height: int) -> bytes:
    """Return the header of a TIFF of 1 bit, and a few of its pixels."""
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 1),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 122),
        (278, 4, height),
        (279, 4, 8),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 16 + 8)


BOMBS = {
    "100 million pixels.png": png(10_000, 10_000, 1, 0, bytes(1251 * 10_000)),
    "400 million pixels.png": png(20_000, 20_000, 1, 0, bytes(2501 * 20_000)),
    "a broad line.png": png(2**30, 1, 8, 0, bytes(100)),
    "a long text.png": png(8, 6, 8, 0, bytes(54), extra=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 * 10**8)))),
    "a profile.png": png(8, 6, 8, 0, bytes(54), extra=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2 * 10**8)))),
    "a frame.gif": b"GIF89a\x08\0\x08\0\x80\0\0" + bytes(6) + b"\x2c" + struct.pack("<4H", 0, 0, 60_000, 60_000) + b"\0\x02\0;",
    "a bitmap.bmp": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 62, 0, 0, 62, 40, 50_000, 50_000, 1, 1, 0, 0, 0, 0, 2, 2)
    + bytes(8),
    "a scan.tif": tiff(30_000, 30_000),
}
BOMB_READER = """\
import re
from pathlib import Path
from trainyard.data.image_folder import ImageFolderConfig, load
from trainyard.data.problems import DataError
try:
    load(ImageFolderConfig(source="image_folder", path="pets", size=8, channels=3), Path(), Path("scratch"), workers=1)
except DataError as error:
    for problem in error.problems:
        print(problem.severity, problem.rule, problem.where, sep="|")
# Of this program alone: getrusage also counts the one that started it.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def read_elsewhere(folder: Path) -> list[str]:
    """Read the folder in a process of its own, and return what it says, with the most memory that it held as the last line."""
    source = Path(image_pieces.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BOMB_READER]
    return subprocess.run(
        command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_files_that_would_fill_the_memory_are_refused_by_their_headers(folder: Path) -> None:
    for name, content in BOMBS.items():
        (folder / "cat" / name).write_bytes(content)
    *lines, most = read_elsewhere(folder)
    harmless = {"a long text.png", "a profile.png"}
    assert sorted(lines) == sorted(
        f"error|damaged-image|cat/{name}" if name in harmless else f"refused|too-many-pixels|cat/{name}" for name in BOMBS
    )
    assert int(most) < 300e6


def test_a_photograph_of_40_million_pixels_is_read_as_it_is(folder: Path) -> None:
    image = Image.new("RGB", (8000, 5000), (10, 20, 30))
    image.save(folder / "cat" / "large.jpg")
    *lines, most = read_elsewhere(folder)
    assert lines == [] and int(most) < 700e6
    raw = read(folder)
    assert np.abs(raw.arrays["images"][raw.names.index("cat/large.jpg"), :, 4, 4] - np.array([10, 20, 30])).max() <= 2


# --- Values that are lost


@pytest.mark.parametrize(("highest", "shades"), [(4095, 17), (1, None), (65535, None)])
def test_images_of_12_bits_in_files_of_16_are_told_of(tmp_path: Path, highest: int, shades: int | None) -> None:
    chance = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            pixels = chance.integers(0, highest, (8, 6), dtype=np.uint16, endpoint=True)
            pixels[0, 0] = highest
            kind = np.uint8 if highest == 1 else np.uint16
            Image.fromarray(pixels.astype(kind)).save(tmp_path / "pets" / name / f"{number}.png")
    warnings = check(config(tmp_path / "pets"), tmp_path).warnings
    said = [str(problem) for problem in warnings if problem.rule == "dark-images"]
    assert len(said) == (highest < 65535)
    assert shades is None or f"no pixel above {shades - 1} of 255 in 20 images that were looked at" in said[0]


# --- Other formats under an image's name

FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "a phone's photograph": (b"\0\0\0$ftypheic", "unknown-format", "a HEIC file; whole images of the formats"),
    "a browser's picture": (b"\0\0\0 ftypavif", "unknown-format", "an AVIF file; "),
    "a film": (b"\0\0\0 ftypisom", "unknown-format", "a film, or an image in a film's container; "),
    "a scan of a clinic": (bytes(128) + b"DICM", "unknown-format", "a DICOM file; "),
    "a volume": (b"\x5c\x01" + bytes(342) + b"n+1", "unknown-format", "a NIfTI file; "),
    "an error of a server": (b"<!DOCTYPE html><html>", "unknown-format", "a web page; "),
    "what git keeps": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "unknown-format",
        "fetch the file itself: git lfs pull",
    ),
    "zeros": (b"", "damaged-image", "only zeros; restore the file"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_format_under_the_name_of_an_image_is_called_what_it_is(folder: Path, name: str) -> None:
    start, rule, said = FOREIGN[name]
    (folder / "cat" / "0.jpg").write_bytes(start + bytes(500))
    with pytest.raises(DataError, match=said) as caught:
        read(folder)
    assert {(problem.rule, problem.where) for problem in caught.value.problems} == {(rule, "cat/0.jpg")}


@pytest.mark.parametrize(("photometric", "expected"), [(0, 255 - 16), (1, 16)], ids=["0 is white", "0 is black"])
@pytest.mark.parametrize("bits", [8, 16])
def test_negatives_in_a_tiff_become_positives_whatever_their_bits(
    folder: Path, bits: int, photometric: int, expected: int
) -> None:
    pixels = np.full(64, 16 if bits == 8 else 16 * 257, dtype="<u1" if bits == 8 else "<u2").tobytes()
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, len(pixels))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path = folder / "cat" / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory)
    assert np.unique(image_files.read_image(path, channels=1, size=None, resize="stretch")).tolist() == [expected]


def test_a_tiff_of_many_channels_is_not_said_to_be_damaged(folder: Path) -> None:
    pixels, bits = bytes(8 * 8 * 5 * 2), struct.pack("<5H", *[16] * 5)
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 5, 8 + len(pixels)), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 5), (278, 3, 1, 8), (279, 4, 1, len(pixels))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    header = b"II*\0" + struct.pack("<I", 8 + len(pixels) + len(bits))
    (folder / "cat" / "0.tif").write_bytes(header + pixels + bits + directory)
    with pytest.raises(DataError, match="a TIFF of 5 channels of 16 bits; save it with 1 or 3 channels of 8 bits"):
        read(folder)


@pytest.mark.parametrize("end", ["png", "webp", "jpg"])
def test_notes_of_a_camera_that_cannot_be_read_turn_nothing_and_damage_nothing(folder: Path, end: str) -> None:
    upright = Image.fromarray(SOFT)
    upright.save(folder / "cat" / f"a.{end}")
    upright.save(folder / "dog" / f"b.{end}", exif=b"Exif\0\0MM\0\xee\0\0\0\x16")
    first, second = (
        image_files.read_image(path, channels=3, size=None, resize="stretch")
        for path in (folder / "cat" / f"a.{end}", folder / "dog" / f"b.{end}")
    )
    assert np.array_equal(first, second) and len(read(folder)) == 10
