"""Preprocessing gives the reference's pixels.

The references are the Pillow image processors of transformers. DINOv3 has only a torchvision one, which resizes in
floating point; it is compared with its documented steps (rescale, antialiased bilinear resize, normalise) in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.Image import Resampling
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from vsdk.preprocessing import MAX_ASPECT, Preprocessor
from vsdk_runtimes.errors import InputError
from vsdk_runtimes.manifest import Preprocessing, Resize

Picture = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.float32]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

# The processor configurations that the checkpoints ship, and some that force padding and odd offsets.
PROCESSORS: dict[str, Callable[[], Any]] = {
    "clip": CLIPImageProcessorPil,
    "clip, crop larger than the edge": lambda: CLIPImageProcessorPil(
        size={"shortest_edge": 63}, crop_size={"height": 96, "width": 81}
    ),
    "siglip": SiglipImageProcessorPil,
    "siglip2": lambda: SiglipImageProcessorPil(size={"height": 256, "width": 256}, resample=Resampling.BILINEAR),
    "siglip, not square": lambda: SiglipImageProcessorPil(size={"height": 97, "width": 160}),
    "dinov2": lambda: BitImageProcessorPil(
        size={"shortest_edge": 256}, image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD)
    ),
    "dinov2, odd": lambda: BitImageProcessorPil(
        size={"shortest_edge": 99}, crop_size={"height": 98, "width": 70}, resample=Resampling.LANCZOS
    ),
}

# height, width: odd, portrait, tiny, wide
SIZES = [(1, 1), (5, 7), (7, 5), (2, 3), (480, 640), (641, 359), (719, 1279), (224, 224), (223, 225), (40, 1000)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spec_of(processor: Any) -> Preprocessing:
    """The manifest entry for a processor of transformers."""
    size = processor.size
    name = Resampling(processor.resample).name.lower()
    if size.shortest_edge:
        resize = Resize(shortest_edge=size.shortest_edge, filter=name)
    else:
        resize = Resize(height=size.height, width=size.width, filter=name)
    crop = processor.crop_size if getattr(processor, "do_center_crop", False) else None
    return Preprocessing(
        resize=resize,
        crop=(crop.height, crop.width) if crop is not None else None,
        scale=processor.rescale_factor,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
    )


def reference(processor: Any, image: Picture) -> Pixels:
    output = processor(image, return_tensors="np", input_data_format="channels_last")
    return np.asarray(output["pixel_values"])


def natural(height: int, width: int, seed: int = 0) -> Picture:
    """Gradients, hard edges, full-range noise in one corner."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / (3 + 5 * c) + seed) * np.cos(y / (4 + 3 * c)) for c in range(3)]
    image = 128 + 100 * np.stack(waves, axis=-1)
    image[(x + y) % 37 < 9] = rng.uniform(0, 255, 3)
    image[: height // 3 + 1, : width // 3 + 1] = rng.uniform(0, 255, (height // 3 + 1, width // 3 + 1, 3))
    return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("family", PROCESSORS)
def test_pixels_are_those_of_the_reference(family: str, size: tuple[int, int]) -> None:
    processor = PROCESSORS[family]()
    image = natural(*size)
    np.testing.assert_array_equal(Preprocessor(spec_of(processor))([image]), reference(processor, image))


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2"])
@pytest.mark.parametrize("size", [(2160, 3840), (3840, 2160)], ids=str)
def test_pixels_are_those_of_the_reference_at_4k(family: str, size: tuple[int, int]) -> None:
    processor = PROCESSORS[family]()
    image = natural(*size)
    np.testing.assert_array_equal(Preprocessor(spec_of(processor))([image]), reference(processor, image))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    edge=st.integers(1, 120),
    crop=st.tuples(st.integers(1, 130), st.integers(1, 130)),
    filter_=st.sampled_from([Resampling.BICUBIC, Resampling.BILINEAR, Resampling.LANCZOS]),
    seed=st.integers(0, 1000),
)
def test_sizes_offsets_and_padding_follow_the_reference(
    height: int, width: int, edge: int, crop: tuple[int, int], filter_: Resampling, seed: int
) -> None:
    if max(height, width) > MAX_ASPECT * min(height, width):
        return
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": edge}, crop_size={"height": crop[0], "width": crop[1]}, resample=filter_
    )
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Preprocessor(spec_of(processor))([image]), reference(processor, image))


@pytest.mark.parametrize("size", [*SIZES, (2160, 3840)], ids=str)
def test_dinov3_stays_within_one_step_of_its_floating_point_resize(size: tuple[int, int]) -> None:
    image = natural(*size)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None],
        (224, 224),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    spec = Preprocessing(resize=Resize(height=224, width=224, filter="bilinear"), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    before_normalisation = Preprocessor(spec).resize(image).transpose(2, 0, 1) / 255
    difference = np.abs(before_normalisation - resized[0].numpy())
    assert (difference <= 1 / 255 + 1e-6).mean() >= 0.999
    assert difference.max() <= 2 / 255
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    np.testing.assert_allclose(Preprocessor(spec)([image]), (resized - mean) / std, atol=2 / 255 / min(IMAGENET_STD))


def test_any_strides_give_the_same_picture_and_are_left_alone() -> None:
    image = natural(90, 120)
    preprocessor = Preprocessor(Preprocessing(resize=Resize(shortest_edge=32), crop=(32, 32)))
    expected = preprocessor.resize(image)
    room = np.zeros((100, 140, 3), np.uint8)
    room[5:95, 10:130] = image
    bgr = np.ascontiguousarray(image[..., ::-1])
    planar = np.ascontiguousarray(image.transpose(2, 0, 1))
    four = np.dstack([image, image[..., :1]])
    room_bgr = np.ascontiguousarray(room[..., ::-1])
    upside_down = np.ascontiguousarray(image[::-1])
    views = {
        "window": room[5:95, 10:130],
        "flipped BGR": bgr[..., ::-1],
        "window of flipped BGR": room_bgr[..., ::-1][5:95, 10:130],
        "planar": planar.transpose(1, 2, 0),
        "three of four channels": four[..., :3],
        "upside down": upside_down[::-1],
    }
    for name, view in views.items():
        view.flags.writeable = False
        before = view.copy()
        np.testing.assert_array_equal(preprocessor.resize(view), expected, err_msg=name)
        np.testing.assert_array_equal(view, before, err_msg=name)


def test_the_resized_picture_belongs_to_the_caller() -> None:
    image = natural(32, 32)
    preprocessor = Preprocessor(Preprocessing(resize=Resize(height=32, width=32)))
    picture = preprocessor.resize(image)
    assert picture.flags.c_contiguous
    assert picture.flags.writeable
    picture[:] = 0
    assert image.any()


def test_normalise_is_the_formula_and_fills_the_buffer_it_is_given() -> None:
    spec = Preprocessing(resize=Resize(height=8, width=6), scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    preprocessor = Preprocessor(spec)
    pictures = [natural(8, 6, seed) for seed in range(3)]
    out = np.full((3, 3, 8, 6), np.nan, np.float32)
    assert preprocessor.normalise(pictures, out) is out
    formula = (np.stack(pictures) / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(out, formula.transpose(0, 3, 1, 2), atol=1e-6)
    np.testing.assert_array_equal(preprocessor.normalise(pictures), out)
    window = np.zeros((5, 3, 8, 6), np.float32)
    preprocessor.normalise(pictures, window[1:4])
    np.testing.assert_array_equal(window[1:4], out)
    assert not window[0].any()
    assert not window[4].any()


def test_the_batch_of_call_is_each_picture_alone() -> None:
    preprocessor = Preprocessor(Preprocessing(resize=Resize(height=16, width=16), mean=HALF, std=HALF))
    images = [natural(20, 30), natural(31, 17)]
    together = preprocessor(images)
    assert together.shape == (2, 3, 16, 16)
    assert together.dtype == np.float32
    for pixels, image in zip(together, images, strict=True):
        np.testing.assert_array_equal(pixels, preprocessor([image])[0])


def test_reducing_gap_stays_close_to_the_exact_way() -> None:
    image = natural(720, 1280)
    size = {"height": 128, "width": 128}
    exact = Preprocessor(Preprocessing(resize=Resize(**size, filter="bilinear"))).resize(image)
    reduced = Preprocessor(Preprocessing(resize=Resize(**size, filter="bilinear", reducing_gap=2.0))).resize(image)
    difference = np.abs(reduced.astype(int) - exact)
    assert 0 < difference.mean() < 2


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int16),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
        [[[0, 0, 0]]],
    ],
    ids=lambda image: f"{getattr(image, 'dtype', type(image).__name__)}{getattr(image, 'shape', '')}",
)
def test_what_is_not_an_rgb_picture_is_refused(image: Any) -> None:
    preprocessor = Preprocessor(Preprocessing(resize=Resize(height=8, width=8)))
    with pytest.raises(InputError, match="picture"):
        preprocessor.resize(image)
    with pytest.raises(InputError, match="picture"):
        preprocessor.normalise([image])


def test_other_bad_input_is_refused() -> None:
    keeps_aspect = Preprocessor(Preprocessing(resize=Resize(shortest_edge=8)))
    with pytest.raises(InputError, match="no pictures"):
        keeps_aspect.normalise([])
    with pytest.raises(InputError, match="differ in size"):
        keeps_aspect([natural(10, 20), natural(20, 10)])
    with pytest.raises(InputError, match="too narrow"):
        keeps_aspect.resize(np.zeros((2, 2 * MAX_ASPECT + 1, 3), np.uint8))
    for out in (np.empty((1, 3, 8, 8), np.float64), np.empty((2, 3, 8, 8), np.float32)):
        with pytest.raises(InputError, match="out is"):
            keeps_aspect.normalise([natural(8, 8)], out)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="std"):
        Preprocessor(Preprocessing(resize=Resize(shortest_edge=8), std=(1.0, 0.0, 1.0)))
