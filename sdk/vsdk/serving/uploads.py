"""Pictures that strangers send: decoded with limits on bytes, pixels and formats."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image as pillow
from PIL import ImageOps, UnidentifiedImageError

from vsdk_runtimes.errors import InputError

from ..frame import Image

MOST_BYTES = 16_000_000
"""Photographs of telephones have 3 to 8 MB."""
MOST_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP")
EDGE = 1024
"""Pixels of the longer side that are enough for any encoder."""

HINT = "Send a JPEG, PNG or WebP picture."


def decode_picture(data: bytes) -> Image:
    """The picture, the right way up, RGB uint8 `[height, width, 3]`, shrunk to at most 1024 pixels.

    Raises:
        InputError: Not a picture of a known format, damaged, or larger than the limits.
    """
    if len(data) > MOST_BYTES:
        raise InputError(f"the picture has more than {MOST_BYTES // 1_000_000} MB", hint="Send a smaller one.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # the limit here is a lower one
            with pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise InputError(
                        f"the picture has {picture.width}x{picture.height} pixels", hint="Send a smaller one."
                    )
                picture.draft("RGB", (EDGE, EDGE))  # JPEG is decoded no larger than needed
                upright = ImageOps.exif_transpose(picture).convert("RGB")
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError("the file is not a picture of a known format", hint=HINT) from error
    except pillow.DecompressionBombError as error:
        raise InputError("the picture has too many pixels", hint="Send a smaller one.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged files
        raise InputError("the picture is damaged", hint=HINT) from error
    upright.thumbnail((EDGE, EDGE), pillow.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(upright)
