"""Specs of the built-in tasks, and the pairs of sites that each asks for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import harness


@dataclass(frozen=True)
class FamiliesConfig:
    """The families of models that a task looks at."""

    families: list[str] = field(default_factory=list)
    """Names of the families; an empty list means all suitable ones."""


@dataclass(frozen=True)
class TrainingConfig:
    """The families that are training runs."""

    families: list[str] = field(default_factory=list)
    """Names of the families, each of which holds the checkpoints of one run, in the suite's order."""
    ends: list[str] = field(default_factory=list)
    """Label of the final model of each family's run; an empty list means each family's own last model."""

    def __post_init__(self) -> None:
        if not self.families:
            raise ValueError("families is empty; name those that are training runs, with models in training order.")
        if self.ends and len(self.ends) != len(self.families):
            raise ValueError(
                f"ends names {len(self.ends)} models for {len(self.families)} families; name one for each."
            )


@dataclass(frozen=True)
class RowsConfig:
    """The rows that are changed and compared."""

    families: list[str] = field(default_factory=list)
    """Names of the families; an empty list means all but untrained controls."""
    n_rows: int = 2000
    """Number of evaluation rows of each site that are compared, from the first on."""
    seed: int = 0
    """Seed of the changes."""

    def __post_init__(self) -> None:
        if self.n_rows < 64:
            raise ValueError(f"n_rows is {self.n_rows}; give at least 64.")


def in_one_family(config: FamiliesConfig, a: harness.ComparedSite, b: harness.ComparedSite) -> bool:
    """True for sites of models of one family, also for sites of one model."""
    return a.family == b.family and _is_named(config.families, a)


def in_other_depths(config: FamiliesConfig, a: harness.ComparedSite, b: harness.ComparedSite) -> bool:
    """True for sites of trained models of two families."""
    return a.family != b.family and all(_is_named(config.families, x) and x.control_of is None for x in (a, b))


def in_one_model(config: FamiliesConfig, a: harness.ComparedSite, b: harness.ComparedSite) -> bool:
    """True for two sites of one model."""
    return a.model == b.model and a.site != b.site and _is_named(config.families, a)


def in_one_layer(config: FamiliesConfig, a: harness.ComparedSite, b: harness.ComparedSite) -> bool:
    """True for the same layer of two trained models with equally many layers."""
    same_layer = (a.layer, a.n_layers) == (b.layer, b.n_layers) and a.model != b.model
    return same_layer and all(_is_named(config.families, x) and x.control_of is None for x in (a, b))


def in_one_run(config: TrainingConfig, a: harness.ComparedSite, b: harness.ComparedSite) -> bool:
    """True for the same layer of two checkpoints of one run, the last of which may be a model of another family."""
    if a.site != b.site or a.model == b.model or a.family not in config.families:
        return False
    return b.model == config.ends[config.families.index(a.family)] if config.ends else a.family == b.family


def in_middle(config: RowsConfig, a: harness.ComparedSite, b: harness.ComparedSite) -> bool:
    """True for the site of block n_layers // 2 of a trained model, with itself or with the site of the block before."""
    middle = (a.n_layers or 1) // 2
    is_chosen = a.model == b.model and a.layer == middle and b.layer in (middle, middle - 1)
    return is_chosen and a.control_of is None and _is_named(config.families, a)


def _is_named(families: list[str], site: harness.ComparedSite) -> bool:
    return not families or site.family in families


SPECS: list[harness.TaskSpec] = [
    harness.TaskSpec(
        name="layer_matching",
        version=1,
        summary="Is a layer most alike to the same layer of a model trained with another seed?",
        config=FamiliesConfig,
        factory="harness.plugins.tasks.layer_matching:LayerMatching",
        pairs=in_one_family,
        needs=("values",),
    ),
    harness.TaskSpec(
        name="depth_matching",
        version=1,
        summary="Is a layer most alike to the layer of equal relative depth in a model of another shape?",
        config=FamiliesConfig,
        factory="harness.plugins.tasks.depth_matching:DepthMatching",
        pairs=in_other_depths,
        needs=("values",),
    ),
    harness.TaskSpec(
        name="layer_monotonicity",
        version=1,
        summary="Are layers of one model the less alike the further apart they are?",
        config=FamiliesConfig,
        factory="harness.plugins.tasks.layer_monotonicity:LayerMonotonicity",
        pairs=in_one_model,
        needs=("values",),
    ),
    harness.TaskSpec(
        name="training_convergence",
        version=1,
        summary="Are checkpoints the more alike to the end of their training the later they are?",
        config=TrainingConfig,
        factory="harness.plugins.tasks.training_convergence:TrainingConvergence",
        pairs=in_one_run,
        needs=("values",),
    ),
    harness.TaskSpec(
        name="group_separation",
        version=1,
        summary="Is a model more alike to one of its own architecture than to one of another?",
        config=FamiliesConfig,
        factory="harness.plugins.tasks.group_separation:GroupSeparation",
        pairs=in_one_layer,
        needs=("values",),
    ),
    harness.TaskSpec(
        name="null_calibration",
        version=1,
        summary="Are unrelated rows said to have nothing in common?",
        config=FamiliesConfig,
        factory="harness.plugins.tasks.null_calibration:NullCalibration",
        pairs=in_one_family,
        needs=("values",),
    ),
    harness.TaskSpec(
        name="invariance",
        version=1,
        summary="Does what changes no representation (rotation, scale, order) leave the value alone?",
        config=RowsConfig,
        factory="harness.plugins.tasks.invariance:Invariance",
        pairs=in_middle,
        needs=("rows",),
    ),
    harness.TaskSpec(
        name="noise_sensitivity",
        version=1,
        summary="Are rows the less alike to themselves the more noise is added?",
        config=RowsConfig,
        factory="harness.plugins.tasks.noise_sensitivity:NoiseSensitivity",
        pairs=in_middle,
        needs=("rows",),
    ),
    harness.TaskSpec(
        name="sample_size",
        version=1,
        summary="How far is the value of few rows from that of all?",
        config=RowsConfig,
        factory="harness.plugins.tasks.sample_size:SampleSize",
        pairs=in_middle,
        needs=("rows",),
    ),
]
