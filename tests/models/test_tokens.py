"""Windows of tokenizers that normalise texts, add tokens or have rules of their own."""

from __future__ import annotations

import itertools
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from harness.plugins.models import HFConfig
from harness.plugins.models.checkpoint import load_tokenizer
from harness.plugins.models.tokenizer_rules import rules
from harness.plugins.models.tokens import Tokens

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
PLAIN = "In 2023 the fox slept 650 times."


def _tokenizer(template: str = "$A", normalizer: Any = None, splits_digits: bool = False, words: bool = False) -> Any:
    core = Tokenizer(models.BPE(unk_token="<unk>") if words else models.BPE())
    if normalizer is not None:
        core.normalizer = normalizer
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=False)
    pieces = [pre_tokenizers.Whitespace()] if words else [digits, bytes_] if splits_digits else [bytes_]
    core.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    if not words:
        core.decoder = decoders.ByteLevel()
    alphabet = [] if words else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, show_progress=False, initial_alphabet=alphabet
    )
    core.train_from_iterator([PLAIN, "café résumé naïve", "cafe\u0301 resume"] * 5, trainer)
    ids = [(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, **names)


def _offsets(tokenizer: Any, text: str) -> list[tuple[Any, Any]]:
    (window,) = Tokens(tokenizer).windows([text], 128)[0]
    return list(zip(window.start, window.end, strict=True))


NORMALIZERS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "NFC": normalizers.NFC,
    "NFD": normalizers.NFD,
    "NFKC": normalizers.NFKC,
    "NFKD": normalizers.NFKD,
    "no accents": lambda: normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "bert": normalizers.BertNormalizer,
}
TEXTS = (
    "cafe\u0301 x",
    "na\u0308i\u0308ve",
    "a\u1100\u1161\u11a8b",
    "q\u0323\u0307 q\u0307\u0323",
    "café Ünï",
    "e\u0301",
)


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("words", [False, True])
def test_offsets_hold_whole_characters_of_the_text_as_given(name: str, words: bool) -> None:
    """Every character but spaces is part of a token, and no token ends between a character and its marks."""
    tokenizer = _tokenizer(normalizer=NORMALIZERS[name](), words=words)
    for text in TEXTS:
        offsets = _offsets(tokenizer, text)
        held = {place for start, end in offsets for place in range(start, end)}
        assert held >= {place for place, character in enumerate(text) if not character.isspace()}, (text, offsets)
        assert all(0 <= start < end <= len(text) for start, end in offsets)


def test_tokenizers_that_compose_or_not_share_their_ends() -> None:
    """Rows of two models are matched by the end of their tokens."""
    text = unicodedata.normalize("NFD", "café résumé, 한글")
    ends = [
        {end for _, end in _offsets(_tokenizer(normalizer=normalizer), text)}
        for normalizer in (None, normalizers.NFC())
    ]
    assert ends[1] <= ends[0] and max(ends[1]) == len(text)
    composed = text.index("e\u0301")
    assert composed + 1 not in ends[1] and composed + 2 in ends[1]


def test_texts_without_composed_marks_have_the_offsets_of_the_tokenizer() -> None:
    for text in (PLAIN, "Überraschung: naïve café 😀 北京", "  spaces\u00a0here "):
        tokenizer = _tokenizer(normalizer=normalizers.NFC())
        expected = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        assert _offsets(tokenizer, text) == list(map(tuple, expected))


@pytest.mark.parametrize(
    ("template", "text", "message"),
    [
        ("<s> $A", "<s>Hello", "a text begins with '<s>', which the tokenizer puts in front too"),
        ("<s> $A </s>", "Hello</s>", "a text ends with '</s>', which the tokenizer puts behind too"),
        ("<s> </s> $A", "</s>Hello", "a text begins with '</s>'"),
        ("<s> $A", "fox" * 7 + "<s>slept", "a text begins with '<s>'"),  # in its second window
    ],
)
def test_tokens_that_stand_there_twice_are_warned_of(template: str, text: str, message: str) -> None:
    tokenizer = _tokenizer(template)
    n_added = template.count("s>")
    context = n_added + (len(tokenizer("fox" * 7, add_special_tokens=False)["input_ids"]) if "fox" in text else 100)
    with pytest.warns(UserWarning, match=message):
        windows = Tokens(tokenizer).windows([text], context)[0]
    ids = [window.ids for window in windows]
    assert any(one == other or (one in (1, 2) and other == 2) for row in ids for one, other in itertools.pairwise(row))


@pytest.mark.parametrize("text", ["Hello", "Hello <s> there", "</s>Hello<s>"])
def test_tokens_elsewhere_in_a_text_are_nobodys_twins(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Tokens(_tokenizer("<s> $A </s>")).windows([text], 128)


class TestRulesOfTheFile:
    def saved(self, folder: Path, tokenizer: Any, model_type: str) -> HFConfig:
        """A checkpoint's folder, of a kind for which transformers has a tokenizer class."""
        tokenizer.save_pretrained(folder)
        config: Any = getattr(transformers, f"{model_type}Config")(vocab_size=320)
        config.save_pretrained(folder)
        return HFConfig(str(folder))

    def test_a_class_that_cuts_otherwise_is_overruled_and_named(self, tmp_path: Path) -> None:
        tokenizer = _tokenizer("<s> $A", splits_digits=True)
        config = self.saved(tmp_path, tokenizer, "Qwen2")
        automatic = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert automatic(PLAIN)["input_ids"] != tokenizer(PLAIN)["input_ids"]  # else there is nothing to see here
        with pytest.warns(UserWarning, match=r"Qwen2Tokenizer cuts texts otherwise than tokenizer\.json"):
            found = load_tokenizer(config)
        assert Tokens(found).windows([PLAIN], 128)[0][0].ids == tokenizer(PLAIN)["input_ids"]
        assert Tokens(found).hash() == Tokens(tokenizer).hash()

    @pytest.mark.parametrize("model_type", ["Qwen2", "Llama", "GPT2", "GPTNeoX", "Gemma", "Bert"])
    @pytest.mark.parametrize("normalizer", [None, normalizers.Lowercase()])
    def test_whatever_the_class_the_ids_are_those_of_the_file(
        self, tmp_path: Path, model_type: str, normalizer: Any
    ) -> None:
        tokenizer = _tokenizer("<s> $A </s>", normalizer, splits_digits=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = load_tokenizer(self.saved(tmp_path, tokenizer, model_type))
        for text in (PLAIN, "I'VE  don't 3,650.75 cafe\u0301\n\n x", "<s>no</s>"):
            assert found(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert rules(found) == rules(tokenizer)

    def test_where_they_agree_nothing_is_said(self, tmp_path: Path) -> None:
        automatic = transformers.Qwen2Tokenizer(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")])
        config = self.saved(tmp_path, automatic, "Qwen2")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert type(load_tokenizer(config)) is transformers.Qwen2Tokenizer
