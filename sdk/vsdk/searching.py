"""Search: which scenes look like this picture, or like these words?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle
from vsdk_runtimes.errors import InputError

from .encoder import Encoder, TextEncoder
from .events import Scene
from .frame import Image
from .loading import load

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """A scene, its cosine similarity to what was asked (-1..1), and the frame of it that is most alike."""

    scene: Scene
    score: float
    frame: int


def search(
    scenes: Sequence[Scene],
    *,
    image: Image | None = None,
    text: str | None = None,
    bundle: Bundle | str | os.PathLike[str] | None = None,
    top: int = 5,
    encoder: Encoder | None = None,
) -> list[Match]:
    """Rank scenes by their most similar frame.

    Args:
        scenes: Scene events of one stream or several, all made with the same bundle.
        image: An RGB picture, uint8 `[height, width, 3]`.
        text: Words; needs a bundle with a text tower.
        bundle: The bundle that made the scenes; None is the model that ships with vsdk.
        top: How many to return at most.
        encoder: One of this bundle that is open already; None opens one, which serves later searches too.

    Returns:
        Matches, best first.

    Raises:
        InputError: Neither or both of image and text, or scenes from another bundle or without features.
        BundleError: The bundle has no text tower.
    """
    if (image is None) == (text is None):
        raise InputError("search needs either image= or text=")
    opened = bundle if isinstance(bundle, Bundle) else load(bundle)
    if image is not None:
        features = (encoder or _encoder(opened)).encode_images([image])
        by_embedding = features.embedding is not None
        query = features.cls[0] if features.embedding is None else features.embedding[0]
    else:
        by_embedding = True
        query = _text_encoder(opened).encode([text or ""])[0]
    matches = [_match(scene, query, by_embedding, opened.digest) for scene in scenes]
    return sorted(matches, key=lambda match: -match.score)[:top]


def _match(scene: Scene, query: Vectors, by_embedding: bool, digest: str) -> Match:
    features = scene.features
    if features is None:
        raise InputError(
            f"scene {scene.index} carries no features",
            hint="Search scenes that a stream gave, not ones read from JSON.",
        )
    vectors = features.embedding if by_embedding else features.cls
    if features.bundle != digest or vectors is None:
        raise InputError(
            f"scene {scene.index} was made with bundle {features.bundle[:12]}, but the search is to use {digest[:12]}",
            hint="Pass bundle= the one that the stream used.",
        )
    scores = vectors @ query / np.maximum(np.linalg.norm(vectors, axis=1) * np.linalg.norm(query), 1e-12)
    best = int(scores.argmax())
    return Match(scene, float(scores[best]), features.frames[best])


_encoders: dict[str, Encoder] = {}
_text_encoders: dict[str, TextEncoder] = {}


def _encoder(bundle: Bundle) -> Encoder:
    if bundle.digest not in _encoders:
        _encoders[bundle.digest] = Encoder(bundle)
    return _encoders[bundle.digest]


def _text_encoder(bundle: Bundle) -> TextEncoder:
    if bundle.digest not in _text_encoders:
        _text_encoders[bundle.digest] = TextEncoder(bundle)
    return _text_encoders[bundle.digest]
