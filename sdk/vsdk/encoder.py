"""The encoders of a bundle as Python sees them: pictures or words in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Precision, Session, load
from vsdk_runtimes.errors import BundleSchemaError, EngineUnavailableError, InputError

from .frame import Image
from .preprocessing import Preprocessor

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """What the encoder says of n pictures, all float32.

    Attributes:
        cls: Class tokens `[n, width]`.
        embedding: Projected embeddings `[n, width]`, where the bundle has them.
        patches: Patch tokens `[n, patches, width]`, where they were asked for.
    """

    cls: Vectors
    embedding: Vectors | None
    patches: Vectors | None = None

    def row(self, index: int) -> FrameFeatures:
        """Those of one picture; its patch tokens are a copy, so that they do not keep the others in memory."""
        return FrameFeatures(
            self.cls[index],
            None if self.embedding is None else self.embedding[index],
            None if self.patches is None else self.patches[index].copy(),
        )


class FrameFeatures(NamedTuple):
    """What the encoder says of one picture: `cls [width]`, `embedding [width]`, `patches [patches, width]`."""

    cls: Vectors
    embedding: Vectors | None
    patches: Vectors | None


class Encoder:
    """The image encoder of a bundle on an engine.

    Args:
        bundle: Must have a component with the role `encoder` that takes single images.
        device, engine, precision, threads: As for `vsdk_runtimes.load`.
        patches: Also give patch tokens, where the bundle has them.

    Raises:
        BundleSchemaError: The bundle has no such component.
        EngineError: It cannot be run as asked.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
        patches: bool = False,
    ) -> None:
        component = bundle.component("encoder")
        if component.spec.preprocessing is None or component.spec.frames_per_call != 1:
            raise BundleSchemaError(f"the encoder of bundle {bundle.folder} does not take single images")
        self.bundle = bundle
        self.preprocessor = Preprocessor(component.spec.preprocessing)
        self.session: Session = load(component, precision=precision, device=device, engine=engine, threads=threads)
        wanted = ("cls", "embedding", "patches") if patches else ("cls", "embedding")
        self._outputs = [name for name in wanted if name in component.spec.outputs]
        self._pixels: Vectors | None = None

    def encode(self, pictures: Sequence[Image]) -> Features:
        """Encode pictures that `preprocessor.resize` made.

        Args:
            pictures: Each uint8 `[height, width, 3]` of the encoder's input size.
        """
        if self._pixels is None or len(self._pixels) != len(pictures):
            self._pixels = None
        self._pixels = self.preprocessor.normalise(pictures, out=self._pixels)
        return self._run(self._pixels)

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Resize and encode RGB images of any size, uint8 `[height, width, 3]`; from any thread."""
        return self._run(self.preprocessor.normalise([self.preprocessor.resize(image) for image in images]))

    def close(self) -> None:
        """Free the engine."""
        self.session.close()

    def _run(self, pixels: Vectors) -> Features:
        results = self.session.run({"pixels": pixels}, outputs=self._outputs)
        return Features(results["cls"], results.get("embedding"), results.get("patches"))


class TextEncoder:
    """The text tower of a bundle: words into the space of the image encoder's `embedding`.

    Raises:
        BundleSchemaError: The bundle has no text tower.
        EngineUnavailableError: The tokenizer library is not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        component = bundle.component("text")
        if component.spec.text is None or "tokenizer" not in component.spec.assets:
            raise BundleSchemaError(f"the text tower of bundle {bundle.folder} comes without its tokenizer")
        self._text = component.spec.text
        self._tokenizer = _load_tokenizer(str(component.path(component.spec.assets["tokenizer"])))
        self._tokenizer.enable_truncation(self._text.length)
        self._tokenizer.enable_padding(length=self._text.length, pad_id=self._text.pad_id)
        self.session = load(component, precision=precision, device=device, engine=engine, threads=threads)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embeddings of texts, float32 `[n, width]`, not normalised."""
        if not texts or any(not text.strip() for text in texts):
            raise InputError("a search needs at least one word", hint="Describe what to look for, such as 'a red car'.")
        wanted = [text.lower() if self._text.lower_case else text for text in texts]
        encodings = self._tokenizer.encode_batch(wanted)
        inputs = {"input_ids": np.array([item.ids for item in encodings], dtype=np.int64)}
        if "attention_mask" in self.session.inputs:
            inputs["attention_mask"] = np.array([item.attention_mask for item in encodings], dtype=np.int64)
        embedding: Vectors = self.session.run(inputs, outputs=["embedding"])["embedding"]
        return embedding


def _load_tokenizer(path: str) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EngineUnavailableError(
            f"searching by words needs the tokenizers library: {error}", hint="Install it: pip install 'vsdk[text]'"
        ) from error
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises plain Exception
        raise BundleSchemaError(
            f"cannot read the tokenizer {path}: {error}", hint="Export the bundle again."
        ) from error
