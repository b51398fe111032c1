"""Pictures that strangers send: whatever the bytes are, a picture or an error that says what is wrong."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from serve_tools import picture

from vsdk.serving.uploads import EDGE, MOST_BYTES, decode_picture
from vsdk_runtimes.errors import InputError


def encoded(form: str, image: Image.Image | None = None, **how: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(picture(0, 120, 80))).save(buffer, form, **how)
    return buffer.getvalue()


VALID = [encoded("JPEG"), encoded("PNG"), encoded("WEBP"), encoded("JPEG", progressive=True)]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_usual_formats(form: str) -> None:
    image = decode_picture(encoded(form))
    assert image.dtype == np.uint8
    assert image.shape == (80, 120, 3)
    if form == "PNG":
        assert np.array_equal(image, picture(0, 120, 80))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_any_kind_of_pixels_becomes_rgb(mode: str) -> None:
    source = Image.new(mode, (20, 10))
    image = decode_picture(encoded("JPEG" if mode == "CMYK" else "PNG", source))
    assert image.shape == (10, 20, 3)


def test_large_pictures_are_shrunk_and_keep_their_shape() -> None:
    image = decode_picture(encoded("JPEG", Image.new("RGB", (4000, 1000))))
    assert image.shape == (EDGE // 4, EDGE, 3)


def test_a_telephone_held_upright() -> None:
    wide = Image.new("RGB", (60, 30))
    wide.paste((255, 255, 255), (0, 0, 30, 30))  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image = decode_picture(encoded("JPEG", wide, exif=exif))
    assert image.shape == (60, 30, 3)
    assert image[:20].min() > 200
    assert image[-20:].max() < 50


def test_other_formats_are_refused() -> None:
    for form in ("GIF", "BMP", "TIFF", "PPM"):
        with pytest.raises(InputError, match="known format"):
            decode_picture(encoded(form))
    for data in (b"", b"\x00" * 100, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0"):
        with pytest.raises(InputError, match="known format"):
            decode_picture(data)


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is this large, and has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(8000, 8000), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (1, 60_000_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"pixels|damaged"):
        decode_picture(png_of(*size))


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(InputError, match="16 MB"):
        decode_picture(VALID[0] + bytes(MOST_BYTES))


@given(which=st.integers(0, len(VALID) - 1), data=st.data())
def test_damage_gives_a_picture_or_an_error_of_ours(which: int, data: st.DataObject) -> None:
    damaged = bytearray(VALID[which])
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with contextlib.suppress(InputError):
        image = decode_picture(bytes(damaged[:cut]))
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert max(image.shape) <= EDGE


@given(data=st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(InputError):
        decode_picture(data)
