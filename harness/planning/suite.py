"""A suite: what to compare with what. Users write a `SuiteConfig`; resolved and checked, it is a `Suite`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from harness.planning.entries import Entry, ModelEntry
from harness.planning.executor import Executor, LocalExecutor
from harness.planning.keys import canonical_json
from harness.registry.metric import Metric
from harness.registry.specs import CAPABILITIES

JUDGE = "judge"
"""The value of a suite's `encoder` that stands for its judge."""
MIN_PERMUTATIONS = 19
"""Fewest random pairings with which a value can be above the 95 % quantile of itself and theirs."""
WANDB_ARTIFACT = "-results"
"""End of the name of a suite's artefact in W&B, which begins with the suite's."""
MAX_WANDB_NAME = 128
"""Length of the longest name that W&B takes."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_WANDB_NAME = re.compile(rf"[^/\\#?%:\x00-\x1f\x7f\ud800-\udfff]{{1,{MAX_WANDB_NAME}}}")


@dataclass(frozen=True)
class Tokens:
    """The number of activation rows in each split, the same for every model."""

    fit: int | list[int]
    """Rows that methods learn from; a list is a sweep: every method learns from each of these budgets."""
    evaluation: int
    interp: int = 0
    """Rows that latents are read on; 0: no latents are read."""

    @property
    def fit_budgets(self) -> list[int]:
        """The budgets of the sweep, from small to large; without a sweep, the only one."""
        return sorted(set(self.fit)) if isinstance(self.fit, list) else [self.fit]

    def __post_init__(self) -> None:
        if not self.fit_budgets:
            raise ValueError("fit is empty; give how many tokens methods learn from, such as 30000.")
        if min(self.fit_budgets) < 1 or self.evaluation < 1:
            raise ValueError(f"fit {self.fit} and evaluation {self.evaluation} must be at least 1.")
        if self.interp < 0:
            raise ValueError(f"interp is {self.interp}; give how many tokens latents are read on, or 0.")


@dataclass(frozen=True)
class Wandb:
    """Settings of W&B, which gets the tables besides the local files."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "decomp-harness"
    entity: str | None = None

    def __post_init__(self) -> None:
        for key, name in (("project", self.project), ("entity", self.entity)):
            if name is not None and not _WANDB_NAME.fullmatch(name):
                raise ValueError(
                    f"{key} {name!r:.200}: W&B takes 1 to {MAX_WANDB_NAME} characters, and none of / \\ # ? % : or "
                    "those that are not printed."
                )


@dataclass(frozen=True)
class JudgeBudget:
    """The most that all runs of a suite together may spend on their judge; null: no limit.

    Once it is reached nothing more is sent. Answers received are kept, and cells that lack some stay to do.
    """

    usd: float | None = None
    """US dollars; needs a judge whose prices are known."""
    tokens: int | None = None
    """Tokens of prompts and answers together."""

    def __post_init__(self) -> None:
        if (self.usd is not None and self.usd < 0) or (self.tokens is not None and self.tokens < 0):
            raise ValueError(f"usd {self.usd} and tokens {self.tokens} must be at least 0, or null.")

    def is_reached(self, n_tokens: float, usd: float) -> bool:
        """True if these tokens and dollars use up the budget."""
        return (self.usd is not None and usd >= self.usd) or (self.tokens is not None and n_tokens >= self.tokens)


UNLIMITED = JudgeBudget()


@dataclass(frozen=True)
class SuiteConfig:
    """The config of a suite, as users write it."""

    name: str
    models: list[str | dict]  # type: ignore[type-arg]  # checked against the plugin's own config
    methods: list[str | dict]  # type: ignore[type-arg]
    tokens: Tokens
    corpus: str | dict | None = None  # type: ignore[type-arg]
    """The source of texts; not needed where every model brings rows of its own."""
    sites: list[str] = field(default_factory=list)
    similarities: list[str | dict] = field(default_factory=list)  # type: ignore[type-arg]
    evaluations: list[str | dict] = field(default_factory=list)  # type: ignore[type-arg]
    scorers: list[str | dict] = field(default_factory=list)  # type: ignore[type-arg]
    explainers: list[str | dict] = field(default_factory=list)  # type: ignore[type-arg]
    tasks: list[str | dict] = field(default_factory=list)  # type: ignore[type-arg]
    """Questions with known answers, by which similarities are ranked. With tasks, only the pairs of sites that these
    ask for are compared."""
    behaviours: list[str | dict] = field(default_factory=list)  # type: ignore[type-arg]
    """Contrasting pairs of texts that models are asked about; of each the circuits among latents are found, the sites
    of a model together."""
    whole_models: bool = False
    """Compare every two models by all their sites together, too, whatever tasks ask for. Metrics that stream then hold
    sums of (d₁ + d₂ + …)² numbers, d being the widths of a model's sites."""
    permutations: int = 0
    """Number of random pairings of rows that each similarity of representations is set beside, at least 19, such as
    200; 0: one, without a p-value. From them come a p-value and a calibrated score of every value, and of the scores of
    whole models."""
    calibrated: bool = False
    """Let tasks read the calibrated scores of similarities of representations in place of their values; needs
    permutations."""
    latents: int = 20
    """Number of poles of latents that are sampled, shown and scored, for each decomposition."""
    encoder: str | dict | None = None  # type: ignore[type-arg]
    """The sentence encoder that scorers ask: a model without sites; or `judge`, which is then the suite's judge."""
    judge: str | dict | None = None  # type: ignore[type-arg]
    """The language model that scorers ask, such as `local`."""
    judge_budget: JudgeBudget = field(default_factory=JudgeBudget)
    seeds: list[int] = field(default_factory=lambda: [0])
    seeds_vary: Literal["order", "documents"] = "order"
    """Difference between seeds besides initial weights: `order`, that of the rows, which are the same for all seeds;
    or `documents` too: each seed draws its own from the documents for fitting, so that intervals over seeds cover a new
    draw of the training texts. Then there is a capture for every seed, which all sites and methods share, and masks are
    those of the seed's own rows; representations are compared with the masks of the smallest seed."""
    context: int = 128
    evaluation_share: float = 0.1
    interp_share: float = 0.1
    max_norm_multiple: float = 10.0
    max_disk_gb: float = 50.0
    store_rows: bool = True
    """Keep the rows that methods learn from on disk. If false, the model reads their texts again whenever they are
    needed: for every pass over them, and for their mean where a method asks for it. Results are the same. Rows for
    evaluation and interpretation are kept either way, and so are those that a model brings along."""
    shuffle_characters: int | None = None
    """Order of the rows that methods learn from: null shuffles all of a capture; a number moves each back by up to so
    many characters of text. Thus rows can be learnt from while the texts are read, few being held at a time."""
    max_held_gb: float = 4.0
    """Most memory for rows that wait for their turn, where `store_rows` is false. If all must wait, as where all are
    shuffled, and there is no room for them, the texts are read several times for one pass."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    executor: str | dict | None = None  # type: ignore[type-arg]  # checked by `executor_of`
    """Place where cells are done: `local`, `ray` or `slurm`, with its parameters; no result depends on it."""
    cell_minutes: float | None = None
    """Minutes that a cell may take, such as 60; cells that share their work may take as many times that together. What
    takes longer is ended, and the cell fails. null: any time."""
    plugin_files: list[str] = field(default_factory=list)
    wandb: Wandb = field(default_factory=Wandb)

    @property
    def asked_of_judge(self) -> frozenset[str]:
        """The abilities that scorers ask of the judge, if they need them."""
        return frozenset(CAPABILITIES) - (frozenset() if self.encoder == JUDGE else {"embed"})

    def __post_init__(self) -> None:
        self._check_name()
        if self.context < 2:
            raise ValueError(f"context is {self.context}; a window needs at least 2 tokens.")
        if not (self.evaluation_share > 0 and self.interp_share > 0 and self.evaluation_share + self.interp_share < 1):
            raise ValueError(
                f"evaluation_share {self.evaluation_share} and interp_share {self.interp_share} must be above 0 and "
                "leave documents for fitting: give shares that add up to less than 1."
            )
        if self.max_norm_multiple <= 1:
            raise ValueError(f"max_norm_multiple is {self.max_norm_multiple}; give a multiple above 1.")
        if self.shuffle_characters is not None and self.shuffle_characters < 1:
            raise ValueError(
                f"shuffle_characters is {self.shuffle_characters}; give how many characters of text rows are moved "
                "back by at most, such as 1000000, or null to shuffle all rows."
            )
        if self.max_held_gb <= 0:
            raise ValueError(f"max_held_gb is {self.max_held_gb}; give what rows may take, such as 4.")
        if not self.models or not self.seeds:
            raise ValueError("models and seeds need at least one entry each.")
        if self.cell_minutes is not None and self.cell_minutes <= 0:
            raise ValueError(f"cell_minutes is {self.cell_minutes}; give minutes above 0, or null for no limit.")
        if self.latents < 1:
            raise ValueError(f"latents is {self.latents}; give how many of each decomposition are sampled.")
        if self.tasks and not self.similarities:
            raise ValueError("tasks: there are no similarities to rank; name some, such as similarities=[cka,svcca].")
        if 0 != self.permutations < MIN_PERMUTATIONS:
            raise ValueError(
                f"permutations is {self.permutations}, with which no value can be above 95 % of random ones: give at "
                f"least {MIN_PERMUTATIONS}, such as 200, or 0."
            )
        if self.calibrated and not self.permutations:
            raise ValueError("calibrated: permutations is 0, so there are no calibrated scores; give permutations=200.")
        if self.scorers and not self.tokens.interp:
            raise ValueError(
                "scorers: tokens.interp is 0, so there are no latents to score. Say how many tokens they are read on, "
                "such as tokens.interp=20000."
            )

    def _check_name(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r:.200}: use letters, digits, '.', '_' and '-', 200 at most; it names a folder."
            )
        longest = MAX_WANDB_NAME - len(WANDB_ARTIFACT)
        if self.wandb.mode != "disabled" and len(self.name) > longest:
            raise ValueError(
                f"name {self.name!r} has {len(self.name)} characters, and W&B takes {longest}: give a shorter one, or "
                "wandb.mode=disabled."
            )

    def share_of(self, split: str) -> list[float]:
        """The begin and the end of a split, as shares of all documents."""
        held_out = self.evaluation_share + self.interp_share
        shares = {"evaluation": [0.0, self.evaluation_share], "interp": [self.evaluation_share, held_out]}
        return shares.get(split, [held_out, 1.0])


@dataclass(frozen=True)
class Suite:
    """A suite whose every entry exists and whose every parameter is right."""

    config: SuiteConfig
    corpus: Entry | None
    models: tuple[ModelEntry, ...]
    methods: tuple[Entry, ...]
    """Each after the one that it learns from."""
    similarities: tuple[Entry, ...]
    evaluations: tuple[Entry, ...]
    scorers: tuple[Entry, ...] = ()
    explainers: tuple[Entry, ...] = ()
    tasks: tuple[Entry, ...] = ()
    behaviours: tuple[Entry, ...] = ()
    encoder: ModelEntry | None = None
    """Set only where a scorer or explainer asks it."""
    judge: Entry | None = None
    """Set only where a scorer or explainer asks it."""
    executor: Executor = field(default_factory=LocalExecutor, compare=False)
    metrics: Mapping[str, tuple[Metric, ...]] = field(default_factory=dict, compare=False)
    """The metrics that each evaluation declares, by its name: those of the suite first, then all others there are, so
    that leaderboards of all suites have the same columns."""

    @property
    def entries(self) -> Iterator[Entry]:
        """All plugins of the suite."""
        yield from (*self.methods, *self.similarities, *self.evaluations, *self.scorers, *self.explainers, *self.tasks)
        yield from self.behaviours
        models = [*self.models, *([self.encoder] if self.encoder else [])]
        yield from (model.entry for model in models)
        yield from (entry for entry in (self.corpus, self.judge) if entry is not None)

    @cached_property
    def labels(self) -> Mapping[tuple[Any, ...], str]:
        """The labels of plugins by their kind, name and config, as columns of tables have these."""
        entries = (*self.methods, *self.similarities, *self.scorers, *self.tasks, *self.behaviours)
        return {(entry.kind, entry.name, canonical_json(dict(entry.params))): entry.label for entry in entries}

    def label(self, kind: str, columns: Mapping[str, Any]) -> str:
        """The way a suite writes the plugin of a kind that columns of tables name."""
        return self.labels[kind, columns[kind], columns[f"{kind}_config"]]

    def asked_by(self, asker: Entry) -> dict[str, Entry]:
        """The plugins that a scorer or explainer asks, by role: `encoder` and `judge`."""
        asked = {}
        if self.encoder is not None and "embed" in asker.needs:
            asked["encoder"] = replace(self.encoder.entry, label=self.encoder.label)
        if self.judge is not None and self.config.asked_of_judge & set(asker.needs):
            asked["judge"] = self.judge
        return asked

    def encoder_of(self, asker: Entry) -> str | None:
        """`judge` where the judge is the encoder that a scorer or explainer asks; None otherwise (see `asked_by`)."""
        return JUDGE if self.config.encoder == JUDGE and "embed" in asker.needs else None
