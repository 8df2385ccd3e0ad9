"""One image file, decoded by stated rules; what no rule covers is refused, and nothing is ever clipped.

Formats go by content: PNG, JPEG, BMP, GIF, TIFF and WebP. The orientation that a camera notes is applied. Of several
frames the first is taken. To 8 bits:

- 1 bit: 0 and 255. A palette: its colours. CMYK and YCbCr: RGB, without colour profiles.
- 16 bits, grey: divided by 257 and rounded; where a TIFF says that 0 is white, it is.
- 16 bits, colour: the upper byte, as Pillow reads it.
- float: 0 to 1 become 0 to 255; anything else is refused. So are 32-bit integers, which have no stated range.
- alpha: composed over black.

To another size: bilinear with anti-aliasing.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from trainyard.data.image_integrity import damage, kind_of
from trainyard.data.image_kinds import GIT_LFS, foreign, foreign_pixels
from trainyard.data.problems import Problem, Severity
from trainyard.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
MAX_PIXELS = 60_000_000
"""Of one image; more is taken for an attack on the memory, and refused by the header."""
MAX_BYTES = 2**29
"""Of one file."""
_READ_AT_ONCE = 2**24
"""Bytes; of a larger file the header is looked at before the rest is in memory."""
Resize = Literal["stretch", "crop", "pad"]
Channels = Literal[1, 3]
Size = tuple[int, int]
"""Height and width in pixels."""
RULES = 3
"""Number of the rules above, and of what is noted of each image: what was decoded by others is decoded again."""

_PHOTOMETRIC = 262
"""Tag of a TIFF; 0 there: the value 0 is white."""
_ZERO_IS_WHITE = "zero is white"
_ONE_AT_A_TIME = threading.Lock()
"""What is warned of goes to whoever listens in the process: two threads that decode would hear each other's warnings."""
_GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[number] for number in (5, 6, 7, 8)}


class ImageFileError(InputError):
    """A file that cannot be an image of a data set."""

    def __init__(self, rule: str, found: str, expected: str, severity: Severity = "error") -> None:
        super().__init__(f"{found}; {expected}")
        self.rule, self.found, self.expected, self.severity = rule, found, expected, severity

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rule, self.found, self.expected, self.severity)

    def problem(self, where: str) -> Problem:
        """Return what is wrong as a problem of one sample."""
        return Problem(
            rule=self.rule,
            where=where,
            found=self.found,
            expected=self.expected,
            severity=self.severity,
            sample=self.severity == "error",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the header of an image file says."""

    width: int
    """In pixels, once turned upright."""
    height: int
    mode: str
    """Pillow's name of the kind of pixels, such as `RGB` or `I;16`."""
    frames: int
    format: str

    @property
    def channels(self) -> Channels:
        """1 for grey values, 3 for colours and palettes."""
        return 1 if self.mode in _GREY else 3


def inspect(path: Path) -> ImageFacts:
    """Return the facts in the header, without decoding a pixel.

    Raises:
        ImageFileError: it is no image of an allowed format, or too large.
        OSError: the system cannot open or read it.
    """
    with _regular(path) as file, _decoding(path), Image.open(file, formats=FORMATS) as image:
        return _facts(image)


def read_image(path: Path, *, channels: Channels | None, size: Size | None, resize: Resize) -> NDArray[np.uint8]:
    """Return the pixels (C, H, W), decoded to the last byte.

    Args:
        path: a regular file; links are the caller's business.
        channels: 1 for luma, 3 for RGB, None for what the file has.
        size: height and width, or None for what the file has.
        resize: stretch to the size, crop the middle that covers it, or pad with black what fits into it.

    Raises:
        ImageFileError: it is damaged, too large, of another format, or of pixels that no rule covers.
        OSError: the system cannot open or read it.
    """
    return read_image_and_facts(path, channels=channels, size=size, resize=resize)[0]


def read_image_and_facts(
    path: Path, *, channels: Channels | None, size: Size | None, resize: Resize
) -> tuple[NDArray[np.uint8], ImageFacts]:
    """Return what `read_image` does, and the facts of the header."""
    with _regular(path) as file, _decoding(path) as complaints:
        return _pixels(_whole(file), complaints, channels, size, resize, MAX_PIXELS)


def decode_image(
    data: bytes, *, channels: Channels | None, size: Size | None, resize: Resize, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], ImageFacts]:
    """Return what `read_image_and_facts` does of a file with these bytes; more than `max_pixels` are refused by the header.

    Raises:
        ImageFileError: as `read_image`.
    """
    with _decoding(data) as complaints:
        return _pixels(data, complaints, channels, size, resize, max_pixels)


def read_mask(path: Path, *, colours: Mapping[tuple[int, int, int], int] | None = None) -> NDArray[np.int64]:
    """Return the ids (H, W) of a mask as they stand in the file, without scaling.

    A palette gives its indices, 1 bit gives 0 and 1, 8 and 16 bits the values, colours their ids in `colours`; colours
    whose three values are equal everywhere count as grey. Alpha is left out.

    Raises:
        ImageFileError: as `read_image`, and for a JPEG, which changes values, or a colour without an id.
    """
    with _regular(path) as file, _decoding(path) as complaints:
        image, facts = _load(_whole(file), complaints, MAX_PIXELS)
    if facts.format in ("JPEG", "MPO"):
        raise ImageFileError("lossy-mask", "a JPEG, which changes the ids at every edge", "save masks as PNG")
    if facts.mode == "F":
        raise ImageFileError("mask-values", "floats", "save the ids as whole numbers of 8 or 16 bits")
    if colours is not None:
        return _by_colour(np.asarray(image.convert("RGB")), colours)
    if facts.mode in ("1", "L", "P") or facts.mode.startswith("I"):
        return np.asarray(image).astype(np.int64)
    if facts.mode in ("LA", "PA"):
        return np.asarray(image.getchannel(0)).astype(np.int64)
    pixels = np.asarray(image.convert("RGB"))
    if (pixels != pixels[..., :1]).any():
        raise ImageFileError(
            "mask-colours", f"colours: {_list_colours(pixels)}", "say which class each one is under data.mask_values"
        )
    return pixels[..., 0].astype(np.int64)


def resize_mask(mask: NDArray[np.uint8], size: Size, resize: Resize) -> NDArray[np.uint8]:
    """Return ids (H, W) of another size, each the nearest one's; padding is 0."""
    return np.asarray(_fit(Image.fromarray(mask), size, resize, Image.Resampling.NEAREST))


def _pixels(
    data: bytes,
    complaints: list[warnings.WarningMessage],
    channels: Channels | None,
    size: Size | None,
    resize: Resize,
    max_pixels: int,
) -> tuple[NDArray[np.uint8], ImageFacts]:
    image, facts = _load(data, complaints, max_pixels)
    image = _to_bytes(image)
    mode = "L" if (channels or facts.channels) == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if size is not None:
        image = _fit(image, size, resize, Image.Resampling.BILINEAR)
    pixels = np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), facts


def _whole(file: BinaryIO) -> bytes:
    """Return the bytes of a file, of a large one once its header was looked at."""
    if os.fstat(file.fileno()).st_size > _READ_AT_ONCE:
        with Image.open(file, formats=FORMATS) as image:
            _facts(image)
        file.seek(0)
    return file.read()


def _start(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:_READ_AT_ONCE]
    with source.open("rb") as file:
        return file.read(_READ_AT_ONCE)


def _opened(source: Path | bytes) -> BinaryIO | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _load(data: bytes, complaints: list[warnings.WarningMessage], max_pixels: int) -> tuple[Image.Image, ImageFacts]:
    """Return a decoded, upright image of which every byte was read."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    facts = _facts(image, max_pixels)
    broken = damage(data, facts.format)
    if not broken:
        image.load()
        # Of the other formats Pillow warns about metadata, which no pixel depends on.
        broken = str(complaints[0].message) if facts.format == "TIFF" and complaints else None
    if broken:
        raise ImageFileError("damaged-image", f"damaged {facts.format}: {broken}", "restore the file, or take it out")
    if facts.format == "TIFF" and facts.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        # Pillow itself turns round the greys of 8 bits alone.
        image.info[_ZERO_IS_WHITE] = True
    turn = _turn(image)
    upright = image if turn is None else image.transpose(turn)
    # A PNG may say behind its pixels that it lies on its side, which its header does not know.
    return upright, replace(facts, width=upright.width, height=upright.height)


def _regular(path: Path) -> BinaryIO:
    # Without waiting: the open of a pipe would not return. Without a buffer: all is read at once.
    file: BinaryIO = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)  # noqa: SIM115
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise ImageFileError("not-a-file", "no regular file", "take it out of the folder", "refused")
    if status.st_size > MAX_BYTES:
        file.close()
        raise ImageFileError("too-large", f"{status.st_size:,} bytes", f"use images of at most {MAX_BYTES:,} bytes", "refused")
    return file


@contextmanager
def _decoding(source: Path | bytes) -> Iterator[list[warnings.WarningMessage]]:
    """Say in our words what Pillow says of a file, or of the bytes of one, that it cannot decode."""
    try:
        # Large images are refused below, whatever Pillow warns of.
        with _ONE_AT_A_TIME, warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            yield complaints
    except UnidentifiedImageError:
        raise _unknown(source) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(str(error)) from None
    except OSError as error:
        if error.errno is not None:
            # Of the system, which could not read it, and not of Pillow.
            raise
        raise _undecodable(source, error) from None
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, struct.error) as error:
        raise _undecodable(source, error) from None


def _undecodable(source: Path | bytes, error: Exception) -> ImageFileError:
    reason = str(error) or type(error).__name__
    if isinstance(source, Path):
        reason = reason.replace(str(source), source.name)
    return ImageFileError("damaged-image", f"cannot be decoded: {reason}", "restore the file, or take it out")


def _unknown(source: Path | bytes) -> ImageFileError:
    data = _start(source)
    start = data[:16]
    kind = kind_of(start)
    if kind == "TIFF" and (pixels := _pixels_of_tiff(source)):
        return ImageFileError("pixel-type", f"a TIFF of {pixels}", "save it with 1 or 3 channels of 8 bits, or 1 of 16 bits")
    name = foreign(data)
    if name is None and (kind or not start.strip(b"\0")):
        found = f"damaged {kind}: {damage(data, kind) or 'its header cannot be read'}" if kind else "only zeros"
        return ImageFileError("damaged-image", found if start else "an empty file", "restore the file, or take it out")
    if name == GIT_LFS:
        return ImageFileError("unknown-format", name, "fetch the file itself: git lfs pull")
    expected = f"whole images of the formats {', '.join(FORMATS)} are read"
    return ImageFileError("unknown-format", name or f"begins with {start[:8]!r}", expected)


def _pixels_of_tiff(source: Path | bytes) -> str | None:
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings(), _opened(source) as file:
            warnings.simplefilter("ignore")
            return foreign_pixels(file)
    except OSError:
        return None


def _bomb(found: str, max_pixels: int = MAX_PIXELS) -> ImageFileError:
    return ImageFileError("too-many-pixels", found, f"use images of at most {max_pixels:,} pixels", "refused")


def _facts(image: Image.Image, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    width, height = image.size
    if width * height > max_pixels:
        raise _bomb(f"{width} x {height} = {width * height:,} pixels", max_pixels)
    if _turn(image) in _SIDEWAYS:
        width, height = height, width
    return ImageFacts(
        width=width, height=height, mode=image.mode, frames=getattr(image, "n_frames", 1), format=image.format or ""
    )


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn an image upright. Pillow itself turns a TIFF, and would decode a PNG to look for this."""
    if image.format == "TIFF" or not ("exif" in image.info or "xmp" in image.info):
        return None
    try:
        return _TURNS.get(image.getexif().get(0x0112, 1))
    except (SyntaxError, ValueError, struct.error):
        # Notes that cannot be read say nothing of it, as for every viewer; Pillow itself passes over those of a JPEG.
        return None


def _to_bytes(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits, without palette or alpha."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        if image.info.get(_ZERO_IS_WHITE):
            values = 65535 - values
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "I":
        raise ImageFileError(
            "pixel-type",
            "32-bit integers, or ones with a sign",
            "save it with 8 or 16 bits, so that black and white are stated",
        )
    if image.mode == "F":
        return _from_floats(np.asarray(image))
    if image.mode in _ALPHA or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB") if image.mode == "P" else image


def _from_floats(values: NDArray[np.float32]) -> Image.Image:
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ImageFileError("not-finite", f"{bad:,} pixels that are NaN or infinite", "mend them, or take the file out")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ImageFileError("pixel-range", f"floats from {low:g} to {high:g}", "scale floats to between 0 and 1")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _fit(image: Image.Image, size: Size, resize: Resize, resample: Image.Resampling) -> Image.Image:
    height, width = size
    if image.size == (width, height):
        return image
    if resize == "stretch":
        return image.resize((width, height), resample)
    ratios = (width / image.width, height / image.height)
    scale = max(ratios) if resize == "crop" else min(ratios)
    bound = max if resize == "crop" else min
    scaled = tuple(bound(wanted, max(1, round(side * scale))) for wanted, side in zip((width, height), image.size, strict=True))
    if scaled[0] * scaled[1] > MAX_PIXELS:
        # A strip of one pixel's height, say, of which the middle is to be cut.
        raise _bomb(f"{image.width} x {image.height} pixels become {scaled[0]} x {scaled[1]}, of which the middle is cut")
    image = image.resize((scaled[0], scaled[1]), resample)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    # Outside of the image, Pillow's crop is black.
    return image.crop((left, top, left + width, top + height))


def _by_colour(pixels: NDArray[np.uint8], colours: Mapping[tuple[int, int, int], int]) -> NDArray[np.int64]:
    packed = packed_colours(pixels)
    ids = np.full(packed.shape, -1, dtype=np.int64)
    for (red, green, blue), number in colours.items():
        ids[packed == (red << 16 | green << 8 | blue)] = number
    if (ids < 0).any():
        raise ImageFileError(
            "mask-colours",
            f"colours without a class: {_list_colours(pixels[ids < 0])}",
            "add them to data.mask_values, or mend the mask",
        )
    return ids


def packed_colours(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return red, green and blue (..., 3) as one number each (...)."""
    wide = pixels.astype(np.int64)
    packed: NDArray[np.int64] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


def _list_colours(pixels: NDArray[np.uint8]) -> str:
    values, counts = np.unique(packed_colours(pixels), return_counts=True)
    most = np.argsort(-counts, kind="stable")[:8]
    shown = [f"[{values[i] >> 16}, {values[i] >> 8 & 255}, {values[i] & 255}] ({counts[i]:,} pixels)" for i in most]
    return ", ".join(shown) + (f" and {len(values) - 8:,} more" if len(values) > 8 else "")
