"""Small random checkpoints in their original format: configuration, safetensors, processor and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentencepiece import SentencePieceTrainer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vsdk_export import ExportReport

IMAGE, PATCH, WIDTH, BLOCKS, PROJECTION = 32, 8, 48, 2, 24
_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH, "num_hidden_layers": BLOCKS, "num_attention_heads": 4, "image_size": IMAGE,
    "patch_size": PATCH,
}  # fmt: skip
_VISION = {**_SIZES, "intermediate_size": 96}
_TEXT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 700,
}  # fmt: skip
_CORPUS = [
    "a photo of a cat and a dog on the road by the house", "two people shaking hands in front of a red car",
    "it's a person's dog; it isn't running!", "an aerial view of the city at night, 42 lights (or 100%)",
    "semi automatic door number three is open", "spaces and tabs and lines", "e-mail: user@example.com 2024",
] * 40  # fmt: skip


MakeCheckpoint = Callable[[str], Path]


@dataclass(frozen=True)
class Exported:
    """A checkpoint with the bundle that was exported from it at both precisions."""

    checkpoint: Path
    bundle: Path
    report: ExportReport
    progress: tuple[tuple[str, float], ...]


def _save(model: Any, folder: Path, **options: Any) -> None:
    """Every parameter gets values that matter: registers, class tokens and biases start as zeros otherwise."""
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.15 if parameter.ndim > 1 else 0.05
            parameter.add_(torch.randn_like(parameter) * scale)
    model.save_pretrained(folder, **options)


def _settings(folder: Path, **settings: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _clip(folder: Path) -> None:
    tokenizer = _clip_tokenizer()
    special = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    config = CLIPConfig(
        text_config={**_TEXT, **special, "vocab_size": len(tokenizer), "max_position_embeddings": 24},
        vision_config=_VISION,
        projection_dim=PROJECTION,
    )
    _save(CLIPModel(config), folder)
    CLIPImageProcessorPil(size={"shortest_edge": IMAGE}, crop_size=IMAGE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A small CLIP\n")


def _clip_original(folder: Path) -> None:
    """As OpenAI's checkpoints are: BPE files instead of tokenizer.json, end of text found as the highest id."""
    _clip(folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    Tokenizer.from_file(str(folder / "tokenizer.json")).model.save(str(folder))
    (folder / "tokenizer.json").unlink()


def _clip_vision(folder: Path) -> None:
    _save(CLIPVisionModel(CLIPVisionConfig(**_VISION)), folder)


def _clip_projection(folder: Path) -> None:
    _save(CLIPVisionModelWithProjection(CLIPVisionConfig(**_VISION, projection_dim=PROJECTION)), folder)


def _siglip(folder: Path) -> None:
    _save(SiglipModel(SiglipConfig(text_config=_siglip_text(), vision_config=_VISION)), folder)
    _settings(folder, size={"height": IMAGE, "width": IMAGE}, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    _sentencepiece(folder / "spiece.model")
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 16, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _siglip_text() -> dict[str, Any]:
    return {**_TEXT, "max_position_embeddings": 16, "projection_size": WIDTH}


def _siglip_vision(folder: Path) -> None:
    _save(SiglipVisionModel(SiglipVisionConfig(**_VISION)), folder)


def _siglip2_fixed(folder: Path) -> None:
    """SigLIP2 at fixed resolution is SigLIP's model with Gemma's tokenizer."""
    _save(SiglipModel(SiglipConfig(text_config=_siglip_text(), vision_config=_VISION)), folder)
    _gemma_tokenizer(folder)


def _siglip2_naflex(folder: Path) -> None:
    vision = {key: value for key, value in _VISION.items() if key != "image_size"}
    config = Siglip2Config(text_config=_siglip_text(), vision_config={**vision, "num_patches": 36})
    _save(Siglip2Model(config), folder)
    _settings(folder, patch_size=PATCH, max_num_patches=17, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    _gemma_tokenizer(folder)


def _dinov2(folder: Path) -> None:
    """Made for 48 pixels and used at 32, as the published ones are made for 518 and used at 224."""
    _save(Dinov2Model(Dinov2Config(**{**_SIZES, "image_size": 48}, mlp_ratio=2)), folder)
    _settings(
        folder, size={"shortest_edge": 40}, crop_size={"height": IMAGE, "width": IMAGE}, resample=3, do_center_crop=True
    )


def _dinov2_registers(folder: Path) -> None:
    _save(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**{**_SIZES, "image_size": 48}, mlp_ratio=2)), folder)
    _settings(folder, size={"shortest_edge": 40}, crop_size=IMAGE, resample=3, do_center_crop=True)


def _dinov3(folder: Path) -> None:
    """In several files, as large ones are."""
    config = DINOv3ViTConfig(**_VISION, num_register_tokens=4)
    _save(DINOv3ViTModel(config), folder, max_shard_size="100KB")
    _settings(folder, size={"height": IMAGE, "width": IMAGE}, resample=2)


def _clip_tokenizer() -> CLIPTokenizer:
    """Byte pairs learned from a few sentences; the special tokens have the highest ids, as in CLIP."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_TEXT["vocab_size"] - 2, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = dict(learned["vocab"])
    # Bytes at the end of a word are symbols of their own in CLIP's vocabulary.
    for symbol in alphabet:
        vocabulary.setdefault(f"{symbol}</w>", len(vocabulary))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    merges: Any = [tuple(merge) for merge in learned["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=24)


def _sentencepiece(path: Path) -> None:
    """A unigram model with SigLIP's options: no start token, 1 is the end (and the padding), 2 is unknown."""
    SentencePieceTrainer.train(
        sentence_iterator=iter(_CORPUS), model_prefix=str(path.with_suffix("")), model_type="unigram", vocab_size=120,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    path.with_suffix(".vocab").unlink()


def _gemma_tokenizer(folder: Path) -> None:
    """Byte pairs with Gemma's normalisation, capitals kept, and an end token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([*_CORPUS, "The Red Car And A Cat"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    fast: Any = PreTrainedTokenizerFast
    fast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>",
        padding_side="right", model_max_length=16,
    ).save_pretrained(folder)  # fmt: skip


MAKERS: dict[str, Callable[[Path], None]] = {
    "clip": _clip,
    "clip_original": _clip_original,
    "clip_vision": _clip_vision,
    "clip_projection": _clip_projection,
    "siglip": _siglip,
    "siglip_vision": _siglip_vision,
    "siglip2_fixed": _siglip2_fixed,
    "siglip2_naflex": _siglip2_naflex,
    "dinov2": _dinov2,
    "dinov2_registers": _dinov2_registers,
    "dinov3": _dinov3,
}
