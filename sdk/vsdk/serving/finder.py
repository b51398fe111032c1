"""Which of the kept scenes are like a picture, like another scene, or like words?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import InputError

from ..encoder import Encoder
from ..events import Scene
from ..searching import Match, search
from .channel import KeptScene
from .hub import Hub
from .uploads import decode_picture

MOST_RESULTS = 50


@dataclass(frozen=True)
class Found:
    """A scene, its cosine similarity (-1..1), and the frame of it that is most alike."""

    kept: KeptScene
    score: float
    frame: int

    def to_dict(self) -> dict[str, Any]:
        """What the page gets to know of it."""
        return {**self.kept.to_dict(), "score": round(self.score, 4), "frame": self.frame}


class Finder:
    """Searches the scenes of a hub, one search at a time, with an encoder of its own that is opened when needed.

    Args:
        hub: Has the scenes.
        bundle: The one that the streams use.
        device, engine, precision, threads: On what pictures are encoded, as for `vsdk_runtimes.load`.

    Attributes:
        takes_words: Whether the bundle has a text tower.
    """

    def __init__(
        self,
        hub: Hub,
        bundle: Bundle,
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        self.takes_words = bundle.has("text")
        self._hub, self._bundle = hub, bundle
        self._lock = threading.Lock()
        self._encoder: Encoder | None = None
        self._open_encoder = partial(
            Encoder, bundle, device=device, engine=engine, precision=precision, threads=threads
        )

    def by_picture(self, data: bytes, top: int) -> list[Found]:
        """The scenes most like a picture, best first.

        Raises:
            InputError: See `decode_picture`; or the picture is too narrow for the encoder.
            EngineError: It could not be encoded.
        """
        with self._lock:
            picture = decode_picture(data)
            self._encoder = self._encoder or self._open_encoder()
            return self._rank(self._hub.scenes(), top, partial(search, image=picture, encoder=self._encoder))

    def by_scene(self, scene: KeptScene, top: int) -> list[Found]:
        """The other scenes most like this one, best first.

        Raises:
            InputError: The scene has no features.
        """
        others = [kept for kept in self._hub.scenes() if kept != scene]
        with self._lock:
            return self._rank(others, top, partial(search, like=scene.scene))

    def by_words(self, words: str, top: int) -> list[Found]:
        """The scenes most like what words say, best first.

        Raises:
            InputError: There are no words, or the bundle has no text tower.
            EngineUnavailableError: The library of its tokenizer is not installed.
        """
        if not self.takes_words:
            raise InputError(
                f"the bundle {self._bundle.manifest.name} has no text tower, so it cannot search by words",
                hint="Search by a picture, or serve with a bundle that has one.",
            )
        with self._lock:
            return self._rank(self._hub.scenes(), top, partial(search, text=words))

    def close(self, seconds: float) -> None:
        """Free the encoder, if the search that is going on ends within so many seconds."""
        if self._lock.acquire(timeout=seconds):
            if self._encoder is not None:
                self._encoder.close()
            self._encoder = None
            self._lock.release()

    def _rank(self, candidates: Sequence[KeptScene], top: int, ask: Callable[..., list[Match]]) -> list[Found]:
        kept_of: dict[int, KeptScene] = {id(kept.scene): kept for kept in candidates if kept.scene.features}
        scenes: list[Scene] = [kept.scene for kept in kept_of.values()]
        matches = ask(scenes, bundle=self._bundle, top=min(top, MOST_RESULTS))
        return [Found(kept_of[id(match.scene)], match.score, match.frame) for match in matches]
