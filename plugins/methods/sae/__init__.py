"""Sparse autoencoders: their specs and parameters. Imports no torch.

A file per kind (`topk`, `batch_topk`, `matryoshka`, `relu`, `gated`, `jumprelu`, `untrained`, `pretrained`), each built
on `harness.SAELearner`. Besides, `steering` holds those with a penalty to an L0, `fast_paths` chooses how sums are
computed, `stacked` learns several TopK SAEs in one computation, and `saelens` and `export` know the folders of SAELens.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import harness
from harness.plugins.methods.checks import at_least_one


@dataclass(kw_only=True)
class TopKSAEConfig(harness.SAEConfig):
    """TopK SAE: as many codes per row as asked for."""

    k: int
    """The most active codes per row; fewer where pre-activations are negative."""
    bfloat16_selection: bool = False
    """Choose the codes in bfloat16 in training; their values and gradients stay as precise. A CPU with bfloat16
    instructions needs hardly more time to choose those of float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_k(self)


@dataclass(kw_only=True)
class StackableTopKSAEConfig(TopKSAEConfig):
    """TopK SAE: as many codes per row as asked for."""

    stacked: bool = False
    """Learn in one computation with the other stacked SAEs of the site that differ only in k, learning_rate or seed:
    faster if SAEs are small. Weights are equal to those learnt alone up to rounding."""


@dataclass(kw_only=True)
class BatchTopKSAEConfig(TopKSAEConfig):
    """BatchTopK SAE: as many codes per row on average as asked for."""


@dataclass(kw_only=True)
class MatryoshkaSAEConfig(TopKSAEConfig):
    """Matryoshka SAE: a BatchTopK SAE whose first latents must also do alone."""

    group_shares: list[float] = field(default_factory=lambda: [1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32])
    """The shares of the latents in each group; the first group, the first two, and so on reconstruct alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.group_shares or min(self.group_shares) <= 0 or abs(sum(self.group_shares) - 1) > 1e-6:
            raise ValueError(f"group_shares is {self.group_shares}; give shares above 0 that add up to 1.")
        if min(self.group_shares) * self.n_latents < 1:
            raise ValueError(f"group_shares leaves a group of {self.n_latents} latents empty; give fewer groups.")


@dataclass(kw_only=True)
class PenaltySAEConfig(harness.SAEConfig):
    """An SAE that a penalty makes sparse: give either its weight or the L0 to reach."""

    target_l0: float | None = None
    """Active latents per row: the penalty's weight is steered there in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name, penalty = self.fixed()
        if (penalty is None) == (self.target_l0 is None):
            raise ValueError(
                f"{name} is {penalty}, target_l0 is {self.target_l0}; give one of them, such as target_l0=40."
            )
        if penalty is not None and penalty <= 0:
            raise ValueError(f"{name} is {penalty}; give a number above 0.")
        if self.target_l0 is not None and not 0 < self.target_l0 <= self.n_latents:
            raise ValueError(f"target_l0 is {self.target_l0}; give a number above 0, at most {self.n_latents}.")

    def fixed(self) -> tuple[str, float | None]:
        """The name and the value of the penalty's own weight."""
        raise NotImplementedError


@dataclass(kw_only=True)
class L1SAEConfig(PenaltySAEConfig):
    """An SAE with a penalty on the sum of the codes."""

    l1: float | None = None
    """A fixed weight: loss = ‖y − ŷ‖² + l1 · Σ codes, for rows y of mean norm 1 around their mean."""

    def fixed(self) -> tuple[str, float | None]:
        return "l1", self.l1


@dataclass(kw_only=True)
class ReLUSAEConfig(L1SAEConfig):
    """ReLU SAE, sparse by an L1 penalty; give either its weight or the L0 to reach."""


@dataclass(kw_only=True)
class GatedSAEConfig(L1SAEConfig):
    """Gated SAE, its gate sparse by an L1 penalty; give either its weight or the L0 to reach."""

    l1: float | None = None
    """A fixed weight: loss = ‖y − ŷ‖² + l1 · Σ relu(π) + ‖y − ŷ(relu(π))‖², for rows y of mean norm 1 around their
    mean; the gate π learns from the last two, which take relu(π) for the codes."""


@dataclass(kw_only=True)
class JumpReLUSAEConfig(PenaltySAEConfig):
    """JumpReLU SAE, sparse by a penalty on L0 itself; give either its weight or the L0 to reach."""

    l0_penalty: float | None = None
    """A fixed weight: loss = ‖y − ŷ‖² + l0_penalty · L0, for rows y of mean norm 1 around their mean."""
    bandwidth: float = 0.03
    """Width ε of the window around a threshold in which pre-activations move it, for rows y of mean norm 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bandwidth <= 0:
            raise ValueError(f"bandwidth is {self.bandwidth}; give a number above 0.")

    def fixed(self) -> tuple[str, float | None]:
        return "l0_penalty", self.l0_penalty


@dataclass
class UntrainedSAEConfig:
    """The TopK SAE before its first step."""

    n_latents: int
    """Number of latents in the dictionary."""
    k: int
    """The most active codes per row."""

    def __post_init__(self) -> None:
        at_least_one(self, "n_latents")
        _check_k(self)


@dataclass
class PretrainedSAEConfig:
    """An SAE that SAELens has saved, or that `export_saelens` has written for it: its reconstructions, and its codes
    times the norms of their decoder rows, which become 1.

    It is for the model and site that its config states: at others it is skipped, unless `elsewhere` says else. Give
    either `path`, or `release` and `sae_id`. Architectures: standard, topk, gated and jumprelu; BatchTopK and
    Matryoshka SAEs are saved as the last.
    """

    path: str | None = None
    """A folder with `cfg.json` and `sae_weights.safetensors`."""
    release: str | None = None
    """A repository on the hub, such as owner/name."""
    sae_id: str | None = None
    """The folder in that repository."""
    revision: str | None = None
    """Branch, tag or commit of the repository."""
    elsewhere: bool = False
    """Judge it also at sites, and on models, that are not those its config states."""

    def __post_init__(self) -> None:
        on_hub = (self.release, self.sae_id)
        if (None in on_hub) if self.path is None else any((*on_hub, self.revision)):
            raise ValueError(
                f"path is {self.path!r}, release {self.release!r}, sae_id {self.sae_id!r}; give either path, or "
                "release and sae_id."
            )
        if self.release is not None and self.release.count("/") != 1:
            raise ValueError(f"release is {self.release!r}; give a repository on the hub, such as owner/name.")


def _check_k(config: TopKSAEConfig | UntrainedSAEConfig) -> None:
    if not 1 <= config.k <= config.n_latents:
        raise ValueError(f"k is {config.k}; give a number from 1 to n_latents ({config.n_latents}).")


def identity_unless_stacked(config: StackableTopKSAEConfig) -> dict[str, Any]:
    """Parameters as identity, with `stacked` only if it is True, so that other SAEs keep the keys they had before."""
    return {name: value for name, value in asdict(config).items() if name != "stacked" or value}


SPECS: list[harness.MethodSpec] = [
    harness.MethodSpec(
        name="topk_sae",
        version=5,
        summary="Sparse autoencoder that keeps the k largest codes of each row (arXiv 2406.04093)",
        config=StackableTopKSAEConfig,
        factory="harness.plugins.methods.sae.topk:StackableTopKSAE",
        identity="harness.plugins.methods.sae:identity_unless_stacked",
        provides=("dictionary", "stacks"),
    ),
    harness.MethodSpec(
        name="relu_sae",
        version=4,
        summary="Sparse autoencoder with an L1 penalty, weighted by decoder norm",
        config=ReLUSAEConfig,
        factory="harness.plugins.methods.sae.relu:ReLUSAE",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="batch_topk_sae",
        version=3,
        summary="Sparse autoencoder with k codes a row on average over a batch (arXiv 2412.06410)",
        config=BatchTopKSAEConfig,
        factory="harness.plugins.methods.sae.batch_topk:BatchTopKSAE",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="matryoshka_sae",
        version=3,
        summary="BatchTopK SAE whose first latents must reconstruct alone, in nested groups (arXiv 2503.17547)",
        config=MatryoshkaSAEConfig,
        factory="harness.plugins.methods.sae.matryoshka:MatryoshkaSAE",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="jumprelu_sae",
        version=2,
        summary="Sparse autoencoder with a learnt threshold per latent and an L0 penalty (arXiv 2407.14435)",
        config=JumpReLUSAEConfig,
        factory="harness.plugins.methods.sae.jumprelu:JumpReLUSAE",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="gated_sae",
        version=2,
        summary="Sparse autoencoder that learns apart which latents fire and how strongly (arXiv 2404.16014)",
        config=GatedSAEConfig,
        factory="harness.plugins.methods.sae.gated:GatedSAE",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="untrained_sae",
        version=2,
        summary="Baseline: a TopK SAE before its first step",
        config=UntrainedSAEConfig,
        factory="harness.plugins.methods.sae.untrained:UntrainedSAE",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="pretrained_sae",
        version=3,
        summary="Learns nothing: an SAE that SAELens has saved, from a folder or the hub",
        config=PretrainedSAEConfig,
        factory="harness.plugins.methods.sae.pretrained:PretrainedSAE",
        identity="harness.plugins.methods.sae.saelens:identity",
        origin="harness.plugins.methods.sae.origin:of_config",
        provides=("dictionary",),
    ),
]
