"""What a file is that is read as no image, from its first bytes, so that a message can call it by its name."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

GIT_LFS = "a pointer of Git LFS instead of the file"
_FOREIGN = {
    b"8BPS": "a PSD file",
    b"SIMPLE": "a FITS file",
    b"%PDF": "a PDF file",
    b"\x93NUMPY": "a NumPy file",
    b"PK\x03\x04": "a ZIP file",
    b"\x1f\x8b": "a gzip file",
    b"<svg": "an SVG file",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"\0\0\0\x0cjp  ": "a JPEG 2000 file",
    b"\0\0\0\x0cjxl ": "a JPEG XL file",
    b"version https://git-lfs": GIT_LFS,
}
"""By how files begin, whatever the case of letters."""
_BRANDS = {
    b"avif": "an AVIF file",
    b"avis": "an AVIF file",
    b"heic": "a HEIC file",
    b"heix": "a HEIC file",
    b"mif1": "a HEIC file",
}
"""By what stands behind `ftyp`."""
_CHANNELS, _BITS, _FORM = 277, 258, 339
"""Tags of a TIFF."""
_FLOATS = 3


def foreign(data: bytes) -> str | None:
    """Return what else a file is than an image that is read, or None where that is not known."""
    if data[128:132] == b"DICM":
        return "a DICOM file"
    if data[344:347] in (b"n+1", b"ni1"):
        return "a NIfTI file"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "a film, or an image in a film's container")
    start = data[:64].lstrip().lower()
    return next((name for magic, name in _FOREIGN.items() if start.startswith(magic.lower())), None)


def foreign_pixels(tiff: BinaryIO) -> str | None:
    """Return which pixels a TIFF says that it holds, or None where they are of a kind that is read, or nothing says so."""
    try:
        tags = ImageFileDirectory_v2(tiff.read(8))
        tiff.seek(tags.next)
        tags.load(tiff)
        channels, bits, form = tags.get(_CHANNELS, 1), tags.get(_BITS, (1,)), tags.get(_FORM, (1,))
        if channels <= 4 and (set(bits) <= {1, 2, 4, 8, 16} or (channels, *bits) == (1, 32)):
            return None
        return f"{channels} channels of {', '.join(map(str, sorted(set(bits))))} bits{' (floats)' if _FLOATS in form else ''}"
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, struct.error):
        return None
