"""A checkpoint's tokenizer as one `tokenizer.json`, which the run side reads with the `tokenizers` library alone."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from vsdk_runtimes.errors import CheckpointError
from vsdk_runtimes.manifest import TextInput

from .checkpoint import Checkpoint
from .quiet import quiet_transformers

_FILES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
# Ordinary queries, and whatever tokenizers are known to treat differently.
PROBES: tuple[str, ...] = (
    "a photo of a cat", "A red CAR, parked by the road.", "two people shaking hands!", "person's dog; it's running?",
    "  spaces   and\ttabs\nand lines  ", "número 42: café über straße 東京 😀", "e-mail: user@example.com (2024-05-17)",
    "semi-automatic door #3 [open] {now} <unknown> ~ 100% $5", "x",
    "ﬁne ½ ｗｉｄｅ… “quoted” №5 ＡＢＣ！", "the " * 120,
)  # fmt: skip


def has_tokenizer(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint brings a tokenizer at all."""
    return any((checkpoint.folder / name).is_file() for name in _FILES)


class TextTokenizer:
    """A checkpoint's tokenizer, at the fixed length of its text tower.

    Args:
        checkpoint: Where the tokenizer's files are.
        length: Number of token ids of a text; longer ones are cut, shorter ones padded on the right.
        lower_cased_training: The model was trained on lower-cased text only, so that a tokenizer which keeps capitals
            must be given lower-cased text.

    Raises:
        CheckpointError: transformers cannot load it, it pads on the left, or it cannot be written as one
            `tokenizer.json` that gives the same ids.
    """

    def __init__(self, checkpoint: Checkpoint, length: int, *, lower_cased_training: bool) -> None:
        self._name = checkpoint.name
        try:
            with quiet_transformers():
                from transformers import AutoTokenizer

                self._reference: Any = AutoTokenizer.from_pretrained(
                    checkpoint.folder, trust_remote_code=False, local_files_only=True
                )
        except Exception as error:  # a missing library, a damaged file, an unknown class: each raises its own
            raise self._failure(f"transformers cannot load it: {str(error).strip().splitlines()[0]}") from error
        if self._reference.pad_token_id is None or self._reference.padding_side != "right":
            raise self._failure("it does not pad on the right")
        self.tokenizer = self._converted()
        self.tokenizer.enable_truncation(length)
        pad_id = int(self._reference.pad_token_id)
        self.tokenizer.enable_padding(length=length, pad_id=pad_id, pad_token=str(self._reference.pad_token))
        lower_case = lower_cased_training and self.ids(["A CAT"]) != self.ids(["a cat"])
        self.text = TextInput(length=length, pad_id=pad_id, lower_case=lower_case)
        self._compare()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids as the run side will get them, before any lower-casing."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def sample_ids(self) -> list[list[int]]:
        """Token ids of `PROBES`, as the run side will feed them."""
        return self.ids([text.lower() if self.text.lower_case else text for text in PROBES])

    def to_json(self) -> bytes:
        """The content of `tokenizer.json`."""
        return self.tokenizer.to_str(pretty=False).encode()

    def _converted(self) -> Tokenizer:
        backend = getattr(self._reference, "backend_tokenizer", None)
        if backend is not None:
            return Tokenizer.from_str(backend.to_str())
        if hasattr(self._reference, "canonicalize_text"):
            return _from_sentencepiece(self._reference)
        raise self._failure(f"{type(self._reference).__name__} has no counterpart in the tokenizers library")

    def _compare(self) -> None:
        texts = [text.lower() if self.text.lower_case else text for text in PROBES]
        expected = self._reference(texts, padding="max_length", truncation=True, max_length=self.text.length)
        for text, want, found in zip(texts, expected["input_ids"], self.ids(texts), strict=True):
            if list(want) != found:
                raise self._failure(f"as tokenizer.json it gives other ids than transformers for {text[:40]!r}")

    def _failure(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"the tokenizer of {self._name} cannot go into a bundle: {reason}",
            hint="To export the image encoder alone, export a copy of the checkpoint without its tokenizer files.",
        )


def _from_sentencepiece(reference: Any) -> Tokenizer:
    """transformers' `SiglipTokenizer` (SentencePiece behind Python) in terms of the tokenizers library.

    Its steps: lower-case, drop ASCII punctuation, join white space, strip; SentencePiece's own normalisation; a unigram
    model with a space put in front; the end token.
    """
    from sentencepiece import sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2  # generated at run time, so its classes are unknown to type checkers
    model = messages.ModelProto()
    model.ParseFromString(Path(reference.vocab_file).read_bytes())
    vocabulary = [(piece.piece, piece.score) for piece in model.pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=model.trainer_spec.unk_id, byte_fallback=False))
    join_spaces = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    punctuation = Regex("[" + "".join(f"\\{mark}" for mark in string.punctuation) + "]")
    character_map = model.normalizer_spec.precompiled_charsmap
    tokenizer.normalizer = normalizers.Sequence(
        [
            *([normalizers.Lowercase()] if reference.do_lower_case else []),
            normalizers.Replace(punctuation, ""),
            *join_spaces,
            *([normalizers.Precompiled(character_map)] if character_map else []),
            *join_spaces,
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    end = str(reference.eos_token)
    tokenizer.add_special_tokens([AddedToken(end, lstrip=True, rstrip=True, normalized=False, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, int(reference.eos_token_id))]
    )
    return tokenizer
