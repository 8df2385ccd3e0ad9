"""Raw data as users have them, on disk: what the tests prepare, and then ask a model about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainyard.data.packed import Split, open_split
from trainyard.data.prepare import prepare
from trainyard.data.raw_form import RawForm, SeriesForm, form_of, from_json, to_json
from trainyard.data.sources import DataConfig
from trainyard.serving.model_file import Signature

Pixels = NDArray[Any]


def _save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def _turned(pixels: Pixels, path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _save(Image.fromarray(pixels), path, exif=exif, quality=90)


def write_photographs(folder: Path) -> None:
    """Write two classes of images in every form that `image_files` reads, each of another size."""
    rng = np.random.default_rng(0)
    for label in ("day", "night"):
        place = folder / label
        for number in range(3):
            height, width = (int(side) for side in rng.integers(9, 40, 2))
            colours = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            grey, alpha = colours[..., 0], colours[..., 1:2]
            _turned(colours, place / f"turned-{number}.jpg", (3, 6, 8)[number])
            _save(Image.fromarray(colours).convert("CMYK"), place / f"print-{number}.jpg")
            _save(Image.fromarray(np.concatenate([colours, alpha], axis=2)), place / f"glass-{number}.png")
            _save(Image.fromarray(colours).quantize(20), place / f"few-{number}.gif")
            _save(Image.fromarray(grey.astype(np.uint16) * 251), place / f"deep-{number}.png")
            _save(Image.fromarray(grey).convert("1"), place / f"fax-{number}.png")
            _save(Image.fromarray((grey / 255).astype(np.float32)), place / f"float-{number}.tiff")
            _save(Image.fromarray(colours), place / f"web-{number}.webp", lossless=True)
            _save(Image.fromarray(255 - colours), place / f"plain-{number}.bmp")


def write_cells(folder: Path, sizes: tuple[tuple[int, int], ...] = ((20, 28),)) -> None:
    """Write grey images with a mask each: bright squares on noise."""
    rng = np.random.default_rng(1)
    for number in range(18):
        height, width = sizes[number % len(sizes)]
        mask = np.zeros((height, width), dtype=np.uint8)
        top, left = rng.integers(0, height - 6), rng.integers(0, width - 6)
        mask[top : top + 6, left : left + 6] = 1
        image = (rng.integers(0, 90, mask.shape) + 120 * mask).astype(np.uint8)
        _save(Image.fromarray(image), folder / "images" / f"{number:02}.png")
        _save(Image.fromarray(mask), folder / "masks" / f"{number:02}.png")


def write_reviews(path: Path) -> None:
    """Write texts in two columns, some of which are empty, quoted, or in capital letters."""
    rng = np.random.default_rng(2)
    words = {"good": ["fine", "lovely", "warm", "GREAT", "naïve"], "bad": ["cold", "dull", "broken", "LATE", "坏"]}
    rows = ["title,body,mood"]
    for number in range(40):
        mood = ("good", "bad")[number % 2]
        title = "" if number % 7 == 0 else f"{rng.choice(words[mood])} {number}"
        body = " ".join(rng.choice(words[mood], rng.integers(2, 30)))
        rows.append(f'{title},"{body}, and so on",{mood}')
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_load(path: Path, gaps: bool = False) -> None:
    """Write an hourly series of two columns that are forecast from three."""
    rng = np.random.default_rng(3)
    rows = ["hour,load,sun,wind"]
    for hour in range(240):
        load = f"{5000 + 800 * np.sin(hour / 4) + rng.normal(0, 9):.2f}"
        sun = "" if gaps and hour % 11 == 5 else f"{max(0.0, np.sin(hour / 4)) + rng.normal(0, 0.01):.4f}"
        rows.append(f"{1_700_000_000 + 3600 * hour},{load},{sun},{rng.normal(4, 1):.3f}")
    path.write_text("\n".join(rows) + "\n")


def prepared(config: DataConfig, root: Path) -> tuple[RawForm, list[Split]]:
    """Pack the data of a config, and return how they were read, as it comes out of a model's file, and the splits."""
    out = root / "packed"
    card = prepare("recipe", config, out, root=root)
    form = from_json(to_json(form_of(config, card)))
    return form, [open_split(out, name) for name in ("train", "val", "test") if card.samples[name]]


def load_signature(
    form: SeriesForm, targets: tuple[str, ...], columns: tuple[str, ...], context_length: int, horizon: int
) -> Signature:
    """Return what a forecaster of the file that `write_load` writes takes and gives."""
    return Signature(
        recipe="load",
        family="lstm",
        fingerprint="f",
        sha256="s",
        kind="forecasting",
        classes=targets,
        form=form,
        columns=columns,
        context_length=context_length,
        horizon=horizon,
    )
