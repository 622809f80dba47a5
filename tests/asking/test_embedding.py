"""Embeddings are those of the sentence encoder's authors, to the last bit whatever is embedded beside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertModel

import harness
from harness.asking.embedding import MAX_TOKENS, Embedder
from harness.plugins.models.packages import PACKAGES

TEXTS = [
    "The cat sat on the mat.",
    " a",
    "Mathematics is the study of numbers, shapes and patterns.",
    "naïve café — 数学 🙂",
    *(f"River number {i} flows through {'many ' * i}fields." for i in range(12)),
    "word " * 700,
]


@pytest.fixture(scope="module")
def encoder() -> Any:
    return harness.create("model", "packaged", name="minilm-l6", device="cpu")


@pytest.fixture(scope="module")
def alone(encoder: Any) -> dict[str, torch.Tensor]:
    """Each text embedded with nothing beside it."""
    return {text: Embedder(encoder).embed([text])[0] for text in TEXTS}


class Counting:
    """An encoder that counts the windows it runs."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def windows(self, texts: Any, context: int) -> Any:
        self.texts += texts
        return self._encoder.windows(texts, context)


def test_equal_to_bert_with_mean_pooling_by_hand(encoder: Any, alone: dict[str, torch.Tensor]) -> None:
    """Special tokens are pooled too, padding is not: either mistake is off by .01 and more."""
    folder = PACKAGES["minilm-l6"].find_weights()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bert = BertModel.from_pretrained(folder, use_safetensors=True).eval()
    expected = torch.zeros(0, 384)
    for texts in (TEXTS[:-1], TEXTS[-1:]):  # the last is far longer than all others
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.no_grad():
            hidden = bert(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        expected = torch.cat([expected, (hidden * mask).sum(dim=1) / mask.sum(dim=1)])
    expected = torch.nn.functional.normalize(expected, dim=1)
    found = Embedder(encoder).embed(TEXTS)
    assert found.dtype == torch.float64
    # Two implementations of attention in float32, and padding to other lengths.
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(TEXTS), dtype=torch.float64))


@settings(max_examples=3, deadline=None)
@given(st.permutations(TEXTS), st.integers(1, len(TEXTS)))
def test_what_is_embedded_beside_a_text_changes_no_bit(
    encoder: Any, alone: dict[str, torch.Tensor], texts: list[str], n: int
) -> None:
    embedder = Embedder(encoder)
    embedder.read(texts[:n])
    for text, embedding in zip(texts, embedder.embed(texts), strict=True):
        assert torch.equal(embedding, alone[text])


def test_a_text_is_embedded_once(encoder: Any) -> None:
    counting = Counting(encoder)
    embedder = Embedder(counting)
    embedder.read([TEXTS[0], TEXTS[1], TEXTS[0]])
    assert embedder.embed([TEXTS[1], TEXTS[2], TEXTS[2]]).shape == (3, 384)
    assert counting.texts == TEXTS[:3]


def test_a_text_without_tokens_has_no_embedding(encoder: Any) -> None:
    embedder = Embedder(encoder)
    embedder.read(["", TEXTS[0]])  # it may be asked for later, or not
    assert len(embedder.embed([TEXTS[0]])) == 1
    with pytest.raises(harness.Undefined, match=r"the text ' \\n' has no tokens"):
        embedder.embed([TEXTS[0], " \n"])
