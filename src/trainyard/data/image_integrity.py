"""Whether the bytes of an image file are whole: what decoders let pass, and a data set must not.

Pillow decodes a PNG without its end and a JPEG cut near its end without a word. What this cannot see is a bit that
flipped within the compressed data of a JPEG and still decodes: that format carries no checksum.
"""

from __future__ import annotations

import re
import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIGNATURES = {PNG_SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP"}
# Within a scan 0xff 0x00 is a byte of data and 0xff 0xd0 to 0xd7 are restarts; any other pair begins the next segment.
_NEXT_SEGMENT = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


def kind_of(start: bytes) -> str | None:
    """Return Pillow's name of the format that a file of at least 16 bytes begins like, or None for any other."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), None)


def damage(data: bytes, kind: str) -> str | None:
    """Return what is broken about a file of one of Pillow's formats, or None where nothing was found."""
    match kind:
        case "PNG":
            return _png_damage(data)
        case "JPEG" | "MPO":
            return _jpeg_damage(data)
        case "WEBP":
            stated = int.from_bytes(data[4:8], "little") + 8
            return None if len(data) >= stated else f"{len(data):,} bytes, of which the header promises {stated:,}"
    return None


def _png_damage(data: bytes) -> str | None:
    view = memoryview(data)
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return f"checksum of the chunk at byte {position:,} does not match"
        if kind == b"IEND":
            return None
        position = end
    return f"cut off at byte {len(data):,}, before its end chunk"


def _jpeg_damage(data: bytes) -> str | None:
    position = 2
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            return f"no marker at byte {position:,}, where one must stand"
        marker = data[position + 1]
        if marker == 0xFF:
            # Any number of fill bytes may come before a marker.
            position += 1
            continue
        if marker == _END_OF_IMAGE:
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _START_OF_SCAN:
            found = _NEXT_SEGMENT.search(data, position)
            if found is None:
                break
            position = found.start()
    return f"cut off at byte {len(data):,}, before its end marker"
