"""PNG files of every kind that the format knows, those that Pillow does not write included."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits, by the type of colour: grey, colours, palette, grey with alpha, colours with alpha."""


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_png(
    values: Any, depth: int, kind: int, *, interlaced: bool = False, before: bytes = b"", after: bytes = b""
) -> bytes:
    """Return a file of samples (H, W, S); each line has another filter."""
    height, width, _ = values.shape
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    lines = b"".join(_lines(values[top::down, left::across], depth) for left, top, across, down in passes)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    packed = zlib.compress(lines)
    half = len(packed) // 2
    data = chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + data + after + chunk(b"IEND", b"")


def _lines(values: Any, depth: int) -> bytes:
    if not values.size:
        return b""
    height, _, samples = values.shape
    if depth == 16:
        raw = values.astype(">u2").reshape(height, -1).view(np.uint8)
    elif depth == 8:
        raw = values.astype(np.uint8).reshape(height, -1)
    else:
        bits = ((values.reshape(height, -1, 1) >> np.arange(depth - 1, -1, -1)) & 1).reshape(height, -1)
        raw = np.packbits(bits.astype(np.uint8), axis=1)
    step = max(1, depth * samples // 8)
    found, above = b"", np.zeros(raw.shape[1], dtype=np.int64)
    for number, line in enumerate(raw.astype(np.int64)):
        found += bytes([number % 5]) + _filtered(line, above, step, number % 5)
        above = line
    return found


def _filtered(line: Any, above: Any, step: int, kind: int) -> bytes:
    left = np.concatenate([np.zeros(step, dtype=np.int64), line[:-step]]) if len(line) > step else np.zeros_like(line)
    corner = np.concatenate([np.zeros(step, dtype=np.int64), above[:-step]]) if len(line) > step else np.zeros_like(line)
    guess = left + above - corner
    near = [abs(guess - left), abs(guess - above), abs(guess - corner)]
    paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], above, corner))
    taken = (0, left, above, (left + above) // 2, paeth)[kind]
    return ((line - taken) % 256).astype(np.uint8).tobytes()


def all_pngs() -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of files."""
    rng = np.random.default_rng(0)
    for kind, depths in DEPTHS.items():
        for depth in depths:
            for interlaced in (False, True):
                for height, width in ((1, 1), (17, 23), (29, 13)):
                    values = rng.integers(0, 2**depth, (height, width, SAMPLES[kind]))
                    before = _palette(rng, depth) if kind == 3 else b""
                    name = f"type {kind}, {depth} bits, {height} x {width}{', interlaced' if interlaced else ''}"
                    yield name, write_png(values, depth, kind, interlaced=interlaced, before=before)
                    clear = _clear(rng, values, depth, kind)
                    if clear:
                        yield (
                            f"{name}, transparent",
                            write_png(values, depth, kind, interlaced=interlaced, before=before + chunk(b"tRNS", clear)),
                        )
    values = rng.integers(0, 256, (5, 9, 3))
    for orientation in range(1, 9):
        exif = b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, orientation, 0)
        yield f"turned {orientation}", write_png(values, 8, 2, before=chunk(b"eXIf", exif))
        little = b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, orientation, 0)
        yield f"turned {orientation}, noted behind", write_png(values, 8, 2, after=chunk(b"eXIf", little))
        xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + f'<x tiff:Orientation="{orientation}"/>'.encode()
        yield f"turned {orientation} by XMP", write_png(values, 8, 2, before=chunk(b"iTXt", xmp))
    yield "with a colour profile", write_png(values, 8, 2, before=chunk(b"gAMA", struct.pack(">I", 100000)))
    every = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1)
    yield "every grey under every alpha", write_png(every, 8, 4)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)).quantize(40).save(buffer, "PNG")
    yield "as Pillow writes palettes", buffer.getvalue()


def _palette(rng: np.random.Generator, depth: int) -> bytes:
    return chunk(b"PLTE", rng.integers(0, 256, 3 * 2**depth).astype(np.uint8).tobytes())


def _clear(rng: np.random.Generator, values: Any, depth: int, kind: int) -> bytes:
    """Return the content of a chunk that makes some pixels transparent."""
    if kind == 3:
        alphas = rng.integers(0, 256, max(1, 2**depth - 1)).astype(np.uint8)
        return alphas.tobytes() if values.size > 6 else b"\xff\0"
    if kind in (0, 2):
        return struct.pack(f">{SAMPLES[kind]}H", *(int(value) for value in values[0, 0]))
    return b""
