"""Specs of the built-in behaviours. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import harness


@dataclass
class NumberAgreementConfig:
    """Verbs that agree with their subject across another noun, as in `The keys near the car` ... ` are`."""

    n_groups: int = 24
    """Number of groups: two nouns each, in two contrasts, of which one has a subject in the singular."""
    seed: int = 0
    """Seed of the draw of nouns, prepositions and numbers."""
    shuffled: bool = False
    """Exchange right and wrong at random: the control."""

    def __post_init__(self) -> None:
        if not 4 <= self.n_groups <= 24:  # as many as there are nouns for
            raise ValueError(f"n_groups is {self.n_groups}; give 4 to 24.")


@dataclass
class RepeatedTokensConfig:
    """Words in random order, of which two come again: what followed them should follow once more (induction)."""

    n_groups: int = 48
    """Number of contrasts, each a group of its own."""
    n_words: int = 8
    """Number of words in a text, those which come again counted once."""
    seed: int = 0
    """Seed of the draw of words."""
    shuffled: bool = False
    """Exchange right and wrong at random: the control."""

    def __post_init__(self) -> None:
        if self.n_groups < 4 or not 7 <= self.n_words <= 24:  # seven words have a place
            raise ValueError(f"n_groups is {self.n_groups} and n_words {self.n_words}; give 4 or more, and 7 to 24.")


@dataclass
class ContrastFileConfig:
    """Contrasts in a jsonl file, one in a line, in one of four formats, which is known by its fields.

    `clean, patch, right, wrong, group`: the harness's own. `clean_prefix, patch_prefix, clean_answer, patch_answer`:
    that of feature-circuits (Marks et al. 2403.19647). `prompt` and `..._counterfactual`: that of MIB (Mueller et al.
    2504.13151). `one_prefix_prefix, one_prefix_word_good, one_prefix_word_bad`: that of BLiMP (Warstadt et al. 2020),
    where two lines with exchanged words make two contrasts. Without `group` the words that differ between clean and
    patch are the lexical item.
    """

    path: str
    """The file, with a contrast in each line."""
    counterfactual: str | None = None
    """The field of MIB that holds the patch, such as `abc_counterfactual`; null: the first that a line has."""
    n_contrasts: int | None = None
    """Most contrasts that are read; null: all."""
    seed: int = 0
    """Seed of the control."""
    shuffled: bool = False
    """Exchange right and wrong at random: the control."""

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ValueError("path is empty; name a jsonl file.")
        if self.n_contrasts is not None and self.n_contrasts < 1:
            raise ValueError(f"n_contrasts is {self.n_contrasts}; give how many are read, or null.")


SPECS: list[harness.BehaviourSpec] = [
    harness.BehaviourSpec(
        name="number_agreement",
        version=1,
        summary="Verbs that agree with their subject across another noun",
        config=NumberAgreementConfig,
        factory="harness.plugins.behaviours.number_agreement:NumberAgreement",
    ),
    harness.BehaviourSpec(
        name="repeated_tokens",
        version=1,
        summary="What followed a word follows it again: induction on words in random order",
        config=RepeatedTokensConfig,
        factory="harness.plugins.behaviours.repeated_tokens:RepeatedTokens",
    ),
    harness.BehaviourSpec(
        name="contrast_file",
        version=1,
        summary="Your own contrasts: jsonl, or files of feature-circuits, MIB and BLiMP",
        config=ContrastFileConfig,
        factory="harness.plugins.behaviours.contrast_file:ContrastFile",
        identity="harness.plugins.behaviours.contrast_file:identity",
    ),
]
