"""Training texts of seedlings: a tokenizer of their own, and tokens of documents that no suite evaluates them on.

Harness splits documents by id. Seedlings learn from the share that suites fit on, [.2, 1], and their loss is measured
on the share that suites evaluate on, [0, .1], both of the suites' defaults. A suite with a larger `evaluation_share`
or `interp_share` meets documents that its seedlings have seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from harness import ConfigError, Document, documents_in_split, made_once
from harness.plugins.corpora import PackagedConfig
from harness.plugins.corpora.packaged import PackagedCorpus

TRAINING_SHARE = (0.2, 1.0)
VALIDATION_SHARE = (0.0, 0.1)
END_OF_TEXT = "<|endoftext|>"
_FILE = "tokens.safetensors"
_DOCUMENTS_TOKENISED_TOGETHER = 1000


@dataclass(frozen=True)
class TrainingTexts:
    """Tokens of all documents of a share in the corpus's order, an end of text after each."""

    tokenizer: PreTrainedTokenizerFast
    training: Int[Tensor, " n"]
    validation: Int[Tensor, " v"]

    def unigram_entropy(self, tokens: Int[Tensor, "*n"]) -> float:
        """The mean surprisal of `tokens` in nats, by the training tokens' frequencies with one added to each:
        −mean ln((c_t + 1) / (n + V)). A model that ignores the context reaches this loss.
        """
        counts = torch.bincount(self.training, minlength=len(self.tokenizer)).double() + 1
        return float(-(counts / counts.sum()).log()[tokens].mean())


def load_texts(corpus: dict[str, Any], vocabulary: int) -> TrainingTexts:
    """The texts of a packaged corpus, given by its identity, under a byte-level BPE of `vocabulary` tokens.

    Tokenised once; which tokens there are depends on the corpus and the vocabulary alone.
    """
    recipe = {"corpus": corpus, "vocabulary": vocabulary, "shares": [TRAINING_SHARE, VALIDATION_SHARE]}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        documents = list(PackagedCorpus(PackagedConfig(corpus["name"])).documents())
        training = list(documents_in_split(documents, TRAINING_SHARE))
        tokenizer = _train_tokenizer(training, vocabulary)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
        ).save_pretrained(folder)
        validation = list(documents_in_split(documents, VALIDATION_SHARE))
        tokens = {"training": _tokens(tokenizer, training), "validation": _tokens(tokenizer, validation)}
        save_file(tokens, folder / _FILE)

    folder = made_once(f"seedling-texts-{digest}", make)
    return TrainingTexts(PreTrainedTokenizerFast.from_pretrained(folder), **load_file(folder / _FILE))


def _train_tokenizer(documents: Iterable[Document], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    if tokenizer.get_vocab_size() < vocabulary:
        raise ConfigError(
            f"model seedling: the texts give {tokenizer.get_vocab_size()} tokens, not {vocabulary}; lower vocabulary."
        )
    return tokenizer


def _tokens(tokenizer: Tokenizer, documents: Sequence[Document]) -> Int[Tensor, " n"]:
    end, ids = tokenizer.token_to_id(END_OF_TEXT), []
    for first in range(0, len(documents), _DOCUMENTS_TOKENISED_TOGETHER):
        texts = [document.text for document in documents[first : first + _DOCUMENTS_TOKENISED_TOGETHER]]
        for encoded in tokenizer.encode_batch(texts):
            ids += [*encoded.ids, end]
    return torch.tensor(ids)
