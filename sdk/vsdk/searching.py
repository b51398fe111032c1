"""Search: which scenes look like this picture, like this scene, or like these words?"""

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
    like: Scene | None = None,
    bundle: Bundle | str | os.PathLike[str] | None = None,
    top: int = 5,
    encoder: Encoder | None = None,
) -> list[Match]:
    """Rank scenes by their most similar frame.

    Args:
        scenes: Scene events of one stream or several, all made with the same bundle.
        image: An RGB picture, uint8 `[height, width, 3]`.
        text: Words; needs a bundle with a text tower.
        like: A scene; of both scenes the frames count that are most alike.
        bundle: The bundle that made the scenes; None is the model that ships with vsdk.
        top: How many to return at most.
        encoder: One of this bundle that is open already; None opens one, which serves later searches too.

    Returns:
        Matches, best first.

    Raises:
        InputError: Not exactly one of image, text and like, or scenes from another bundle or without features.
        BundleError: The bundle has no text tower.
    """
    if sum(given is not None for given in (image, text, like)) != 1:
        raise InputError("search needs either image=, text= or like=")
    opened = bundle if isinstance(bundle, Bundle) else load(bundle)
    by_embedding = True
    if like is not None:
        by_embedding = like.features is not None and like.features.embedding is not None
        queries = _vectors(like, by_embedding, opened.digest)
    elif image is not None:
        features = (encoder or _encoder(opened)).encode_images([image])
        by_embedding = features.embedding is not None
        queries = features.cls if features.embedding is None else features.embedding
    else:
        queries = _text_encoder(opened).encode([text or ""])
    queries = _unit(queries)
    matches = [_match(scene, queries, by_embedding, opened.digest) for scene in scenes]
    return sorted(matches, key=lambda match: -match.score)[:top]


def _match(scene: Scene, queries: Vectors, by_embedding: bool, digest: str) -> Match:
    vectors = _vectors(scene, by_embedding, digest)
    scores = (_unit(vectors) @ queries.T).max(axis=1)
    best = int(scores.argmax())
    assert scene.features is not None
    return Match(scene, float(scores[best]), scene.features.frames[best])


def _vectors(scene: Scene, by_embedding: bool, digest: str) -> Vectors:
    """What is compared of a scene, float32 `[n, width]`."""
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
    return vectors


def _unit(vectors: Vectors) -> Vectors:
    """The vectors at length 1; those of length 0 stay as they are."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


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
