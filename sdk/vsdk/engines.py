"""The networks of a bundle, loaded once for several streams; what each stream knows stays its own."""

from __future__ import annotations

import os

from vsdk_runtimes import Bundle, Precision, Session
from vsdk_runtimes import load as load_session

from .loading import load
from .memory.memory import MemorySettings, is_wanted
from .shared_encoder import SharedEncoder

MOST_TOGETHER = 8
"""Pictures of all streams in one run of the encoder."""


class Engines:
    """What several pipelines run on: `Pipeline(engines=...)`, `Stream(engines=...)`.

    Args:
        bundle: A loaded bundle or its folder; None is the model that ships with vsdk.
        device, engine, precision, threads: As for `vsdk_runtimes.load`.
        batch: Most pictures in one run of the encoder, of whichever streams.
        memory: As for `Pipeline`.

    Attributes:
        bundle: The loaded bundle.
        memory: As given.
        encoder: Its encoder.
        bridge: Its memory bridge; None without a memory.

    Raises:
        BundleError, EngineError: The bundle cannot be used, or not as asked.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
        batch: int = MOST_TOGETHER,
        memory: bool | MemorySettings = True,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else load(bundle)
        self.memory = memory
        remembers = is_wanted(memory, self.bundle)
        self.encoder = SharedEncoder(
            self.bundle,
            device=device,
            engine=engine,
            precision=precision,
            threads=threads,
            patches=remembers,
            batch=batch,
        )
        self.bridge: Session | None = None
        if remembers:
            self.bridge = load_session(
                self.bundle.component("bridge"),
                precision=(memory.precision if isinstance(memory, MemorySettings) else None) or precision,
                device=device,
                engine=engine,
                threads=threads,
            )

    def close(self) -> None:
        """Free the engines. Idempotent; only when no pipeline runs on them any more."""
        self.encoder.close()
        if self.bridge is not None:
            self.bridge.close()
