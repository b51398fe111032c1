"""The tokenizer in a bundle, read with the `tokenizers` library alone, against transformers' own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_checkpoints import Exported
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from vsdk_runtimes import load_bundle

PLAIN = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=80
)
LINES = (
    "a photo of a cat", "A Photo Of A CAT!", "", "   ", "\tspaced\n out ", "it's 100% (really)", "café naïve — straße",
    "東京タワー 1½ ＡＢＣ ﬁn", "😀 emoji", "word " * 200, "<tag> [x] {y} \\ / ~ ` ^ _ | @ # $ % & * + =", "e.g. 3.14",
)  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        "clip",
        "siglip",
        "siglip2_naflex",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("clip_original", "siglip2_fixed")),
    ],
)
def test_ids_are_those_of_transformers(kind: str, exported: Callable[[str], Exported]) -> None:
    made = exported(kind)
    component = load_bundle(made.bundle).component("text")
    text = component.spec.text
    assert text is not None
    assert component.spec.inputs["input_ids"].shape == ("batch", text.length)
    ours = Tokenizer.from_file(str(component.path(component.spec.assets["tokenizer"])))
    theirs = AutoTokenizer.from_pretrained(made.checkpoint)

    def compare(line: str) -> None:
        given_text = line.lower() if text.lower_case else line
        expected = theirs(given_text, padding="max_length", truncation=True, max_length=text.length)["input_ids"]
        found = ours.encode(given_text).ids
        assert found == list(expected), line
        assert len(found) == text.length

    for line in LINES:
        compare(line)
    settings(max_examples=100, deadline=None)(given(PLAIN)(compare))()


def test_siglip_texts_are_lower_cased_once(exported: Callable[[str], Exported]) -> None:
    """SigLIP was trained on lower-cased text: the tokenizer does it, or the manifest asks for it."""
    for kind in ("siglip", "siglip2_naflex"):
        component = load_bundle(exported(kind).bundle).component("text")
        assert component.spec.text is not None
        tokenizer = Tokenizer.from_file(str(component.path(component.spec.assets["tokenizer"])))
        same = tokenizer.encode("A RED CAR").ids == tokenizer.encode("a red car").ids
        assert same != component.spec.text.lower_case
