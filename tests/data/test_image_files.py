from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainyard.data.image_files import ImageFileError, inspect, read_image, read_image_and_facts, read_mask

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def read(path: Path, **changes: Any) -> np.ndarray[Any, Any]:
    return read_image(path, **{"channels": None, "size": None, "resize": "stretch", **changes})


def save(image: Image.Image | np.ndarray[Any, Any], path: Path, **options: Any) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_pixels_come_as_they_were_saved(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    assert np.array_equal(read(save(PIXELS, tmp_path / f"a.{suffix}", **options)), PIXELS.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "bmp"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = save(PIXELS, tmp_path / f"whole.{suffix}").read_bytes()
    # A GIF whose first frame is whole may lack the byte that says that no frame follows.
    end = len(whole) - (2 if suffix == "gif" else 0)
    for length in sorted({0, 1, *(end * step // 20 for step in range(1, 20)), end - 1}):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(whole[:length])
        with pytest.raises(ImageFileError):
            read(path)


def test_a_png_without_its_end_is_refused_though_pillow_reads_it(tmp_path: Path) -> None:
    path = save(PIXELS, tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:-12])
    assert np.asarray(Image.open(path)).shape == PIXELS.shape
    with pytest.raises(ImageFileError, match="cut off"):
        read(path)


def test_a_flipped_bit_anywhere_in_a_png_is_found(tmp_path: Path) -> None:
    whole = save(PIXELS, tmp_path / "a.png").read_bytes()
    for step in range(64):
        broken = bytearray(whole)
        broken[len(whole) * step // 64] ^= 1 << step % 8
        (tmp_path / "b.png").write_bytes(broken)
        with pytest.raises(ImageFileError):
            read(tmp_path / "b.png")


def test_16_bits_keep_their_mean(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    for suffix in ("png", "tif"):
        image = read(save(deep, tmp_path / f"a.{suffix}"))
        assert image.shape == (1, 24, 32)
        assert np.array_equal(image[0], np.rint(deep / 257))


def test_each_kind_of_pixel_has_its_rule(tmp_path: Path) -> None:
    clear = Image.fromarray(np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], dtype=np.uint8))
    assert read(save(clear, tmp_path / "a.png"))[:, 0].T.tolist() == [[200, 100, 50], [0, 0, 0]]
    grey = Image.fromarray(np.array([[[200, 255], [200, 0]]], dtype=np.uint8), mode="LA")
    assert read(save(grey, tmp_path / "b.png")).tolist() == [[[200, 0]]]
    assert read(save(Image.new("1", (2, 1), 1), tmp_path / "c.png")).tolist() == [[[255, 255]]]
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert read(save(palette, tmp_path / "d.png"))[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]
    ink = read(save(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), tmp_path / "e.tif"))
    assert ink[:, 0, 0].tolist() == [255, 0, 0]
    floats = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert read(save(floats, tmp_path / "f.tif")).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (np.array([[0.0, np.nan, np.inf]], dtype=np.float32), "2 pixels that are NaN or infinite"),
        (np.array([[0.0, 300.0]], dtype=np.float32), "floats from 0 to 300"),
        (np.array([[0, 70000]], dtype=np.int32), "32-bit integers"),
    ],
)
def test_pixels_without_a_rule_are_refused(tmp_path: Path, pixels: Any, match: str) -> None:
    with pytest.raises(ImageFileError, match=match):
        read(save(pixels, tmp_path / "a.tif"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_camera_s_orientation_is_applied_once(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 16, 16))
    path = save(image, tmp_path / f"a.{suffix}", exif=exif)
    turned = read(path)
    assert turned.shape == (3, 32, 16)
    assert turned[:, :12].min() > 200 and turned[:, 20:].max() < 50
    assert (inspect(path).height, inspect(path).width) == (32, 16)


def test_an_orientation_behind_the_pixels_of_a_png_is_applied_to_them_and_to_what_is_said_of_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.new("RGB", (32, 16)), tmp_path / "a.png", exif=exif)
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[at : at + 4], "big")
    end = data.index(b"IEND") - 4
    path.write_bytes(data[:at] + data[at + length : end] + data[at : at + length] + data[end:])
    pixels, facts = read_image_and_facts(path, channels=None, size=None, resize="stretch")
    assert pixels.shape == (3, 32, 16)
    assert (facts.height, facts.width) == (32, 16)


def test_formats_go_by_content_and_others_are_named(tmp_path: Path) -> None:
    jpeg = save(PIXELS, tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert read(jpeg).shape == (3, 24, 32)
    for content, match in ((b"8BPS" + bytes(100), "PSD"), (b"SIMPLE  =  T", "FITS"), (b"", "empty"), (bytes(99), "zeros")):
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(ImageFileError, match=match):
            read(tmp_path / "b.png")
    os.mkfifo(tmp_path / "c.png")
    with pytest.raises(ImageFileError, match="no regular file"):
        read(tmp_path / "c.png")


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    for side in (10_000, 20_000):
        header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
        content = b"\x89PNG\r\n\x1a\n"
        for kind, data in chunks:
            content += len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ImageFileError, match="use images of at most 60,000,000 pixels") as caught:
            read(tmp_path / "a.png")
        assert caught.value.severity == "refused"


def test_a_resized_image_is_stretched_cropped_or_padded(tmp_path: Path) -> None:
    image = Image.new("L", (40, 20), 255)
    path = save(image, tmp_path / "a.png")
    assert read(path, size=(10, 10), resize="stretch").min() == 255
    assert read(path, size=(10, 10), resize="crop").min() == 255
    padded = read(path, size=(10, 10), resize="pad")[0]
    assert padded[:2].max() == padded[8:].max() == 0 and padded[3:7].min() == 255
    assert read(path, size=(7, 5), channels=3, resize="crop").shape == (3, 7, 5)


def test_a_mask_keeps_its_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2]], dtype=np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    for name, image in (("p", palette), ("l", ids), ("i", ids.astype(np.uint16)), ("c", np.stack([ids] * 3, axis=-1))):
        assert read_mask(save(image, tmp_path / f"{name}.png")).tolist() == [[0, 1, 2]]
    assert read_mask(save(Image.new("1", (2, 1), 1), tmp_path / "b.png")).tolist() == [[1, 1]]
    colours = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 2}
    assert read_mask(tmp_path / "p.png", colours=colours).tolist() == [[0, 1, 2]]
    with pytest.raises(ImageFileError, match=r"colours without a class: \[0, 128, 0\] \(1 pixels\)"):
        read_mask(tmp_path / "p.png", colours={(0, 0, 0): 0, (128, 0, 0): 1})
    with pytest.raises(ImageFileError, match="JPEG"):
        read_mask(save(ids, tmp_path / "a.jpg"))
