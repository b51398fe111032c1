"""Run-length encodings are those of pycocotools, character by character."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from vsdk.tracking.rle import decode_rle, encode_rle
from vsdk_runtimes.errors import InputError

Mask = npt.NDArray[np.bool_]

# pycocotools says it itself, of its own arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
noise = arrays(np.bool_, sizes)
edges = st.tuples(st.integers(0, 1300), st.integers(0, 1300), st.integers(0, 1300), st.integers(0, 1300))


def reference(mask: Mask) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


@given(noise)
def test_noise_is_encoded_as_pycocotools_does_and_comes_back(mask: Mask) -> None:
    rle = encode_rle(mask)
    assert rle == reference(mask)
    assert np.array_equal(decode_rle(rle), mask)
    assert np.array_equal(coco.decode(rle), mask)


@given(st.tuples(st.integers(1, 1300), st.integers(1, 1300)), edges)
def test_boxes_in_large_pictures_have_long_runs(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    mask = np.zeros(size, np.bool_)
    mask[min(box[0], box[1]) : max(box[0], box[1]), min(box[2], box[3]) : max(box[2], box[3])] = True
    rle = encode_rle(mask)
    assert rle == reference(mask)
    decoded = decode_rle(rle)
    assert np.array_equal(decoded, mask)
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (720, 1280), (2160, 3840)], ids=str)
def test_a_mask_of_nothing_or_of_everything(size: tuple[int, int], value: bool) -> None:
    mask = np.full(size, value)
    assert encode_rle(mask) == reference(mask)
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)


def test_views_are_encoded_as_they_look() -> None:
    mask = np.random.default_rng(0).random((60, 80)) > 0.5
    for view in (mask[::2, ::-1], mask.T, np.asfortranarray(mask)):
        assert encode_rle(view) == reference(view)


def test_bytes_of_pycocotools_are_read_as_they_are() -> None:
    mask = np.random.default_rng(1).random((33, 7)) > 0.3
    assert np.array_equal(decode_rle(coco.encode(np.asfortranarray(mask.astype(np.uint8)))), mask)


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"size": [4, 4]},
        {"size": [4], "counts": "`0"},
        {"size": "large", "counts": "`0"},
        {"size": [4, 4], "counts": ""},
        {"size": [4, 4], "counts": "å0"},
        {"size": [4, 4], "counts": "`"},  # more was to follow
        {"size": [4, 4], "counts": " 0"},
        {"size": [4, 4], "counts": "10"},  # runs of a single pixel
        {"size": [4, 4], "counts": "O`0"},  # a negative run
        {"size": [-4, -4], "counts": "`0"},
        {"size": [4, 4], "counts": "p" * 20},
        {"size": [4, 4], "counts": "o" * 20 + "0"},
    ],
    ids=str,
)
def test_what_is_no_encoding_is_refused(damaged: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"run-length encoding"):
        decode_rle(damaged)


@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=30))
def test_any_characters_give_a_mask_or_an_error(counts: str) -> None:
    try:
        mask = decode_rle({"size": [5, 3], "counts": counts})
    except InputError:
        return
    assert np.array_equal(coco.decode({"size": [5, 3], "counts": counts}), mask)
