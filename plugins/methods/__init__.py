"""Specs of the built-in methods with their parameters. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness
from harness.plugins.methods.checks import at_least_one
from harness.plugins.methods.sae import SPECS as SAE_SPECS


@dataclass
class ITDAConfig:
    """Inference-time decomposition of activations, with each atom judged again before it enters."""

    k: int
    """Steps of matching pursuit: the most active codes per row."""
    max_atoms: int
    """The most atoms that the dictionary takes."""
    threshold: float = 0.2
    """A row x, less the mean if `centre`, becomes an atom if its relative squared error ‖x−x̂‖²/‖x‖² is above this."""
    batch_rows: int = 512
    """Number of rows that are encoded together before candidates are judged again; part of the definition."""
    centre: bool = True
    """Subtract the mean of the fit rows and add it back at decoding; takes one more reading of the stream. Without it
    errors are measured against the mean too: where that holds most of ‖x‖², few rows become atoms."""
    pursuit: Literal["matching", "orthogonal"] = "matching"
    """Variant of the pursuit that judges rows and encodes. `orthogonal` fits the coefficients of all atoms taken anew
    by least squares after each step, and takes none twice; it takes 4 times as long with k 10, and 11 times with k 40
    (2,048 atoms)."""
    non_negative: bool = False
    """Follow positive correlations only, when judging rows and when encoding; codes are then unsigned, and a row has
    fewer than k where no atom points its way."""

    def __post_init__(self) -> None:
        at_least_one(self, "k", "max_atoms", "batch_rows")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; give a share above 0 and at most 1.")
        if self.non_negative and self.pursuit == "orthogonal":
            raise ValueError("non_negative needs pursuit matching: least squares may make coefficients negative.")


@dataclass
class ITDAPaperConfig:
    """ITDA as published: all rows of a batch above the threshold enter at once."""

    k: int
    """Steps of matching pursuit: the most active codes per row."""
    max_atoms: int
    """The most atoms that the dictionary takes."""
    threshold: float = 4e-4
    """A row becomes an atom if the mean over its d coordinates of (x/‖x‖ − x̂/‖x̂‖)², which is 2(1 − cos)/d, is above
    this. Comparable at one width only: the same cosine needs a threshold in proportion to 1/d."""
    batch_rows: int = 512
    """Number of rows that are judged together; larger batches give larger dictionaries."""

    def __post_init__(self) -> None:
        at_least_one(self, "k", "max_atoms", "batch_rows")
        if self.threshold <= 0:
            raise ValueError(f"threshold is {self.threshold}; give a number above 0.")


@dataclass
class KMeansConfig:
    """Centroids of k-means (scikit-learn), encoded by the same matching pursuit as ITDA's atoms."""

    n_latents: int
    """Number of centroids, each a latent."""
    k: int
    """Steps of matching pursuit: the most active codes per row. Not the number of clusters, which is n_latents."""
    centre: bool = True
    """Subtract the mean of the fit rows and add it back at decoding, as `itda` does; takes one more reading of the
    stream."""

    def __post_init__(self) -> None:
        at_least_one(self, "n_latents", "k")


@dataclass
class RandomDictionaryConfig:
    """Random atoms, encoded by the same matching pursuit as ITDA's."""

    n_latents: int
    """Number of latents in the dictionary."""
    k: int
    """Steps of matching pursuit: the most active codes per row."""
    source: Literal["rows", "gaussian"] = "rows"
    """Source of the atoms: rows of the stream, drawn uniformly without replacement, or Gaussian directions."""
    centre: bool = True
    """Subtract the mean of the fit rows and add it back at decoding, as `itda` does; takes one more reading of the
    stream."""

    def __post_init__(self) -> None:
        at_least_one(self, "n_latents", "k")


@dataclass
class SizedBaselineConfig:
    """Random rows or k-means centroids, as many as ITDA with these parameters takes atoms from the same stream."""

    k: int
    """Steps of matching pursuit: the most active codes per row."""
    max_atoms: int
    """The most atoms that ITDA takes."""
    source: Literal["rows", "kmeans"] = "rows"
    """Source of the latents: rows of the stream, drawn uniformly without replacement, or centroids of k-means."""
    threshold: float = 0.2
    """ITDA's threshold, which decides how many latents there are."""
    batch_rows: int = 512
    """ITDA's rows of a block."""
    centre: bool = True
    """Subtract the mean of the fit rows and add it back at decoding, for ITDA and for these latents."""

    def __post_init__(self) -> None:
        self.itda  # noqa: B018  # checks what it is made of

    @property
    def itda(self) -> ITDAConfig:
        return ITDAConfig(self.k, self.max_atoms, self.threshold, self.batch_rows, self.centre)


@dataclass
class PCAConfig:
    """Principal components; per row all coefficients or the largest ones."""

    n_components: int
    """Number of components that are kept, each a latent."""
    k: int | None = None
    """Coefficients kept per row, largest magnitude first; null keeps all, as dense codes."""

    def __post_init__(self) -> None:
        at_least_one(self, "n_components")
        if self.k is not None and not 1 <= self.k <= self.n_components:
            raise ValueError(f"k is {self.k}; give a number from 1 to n_components ({self.n_components}), or null.")


@dataclass
class ICAConfig(PCAConfig):
    """Independent components; per row all coefficients or the largest ones."""

    max_iterations: int = 200
    """Most iterations of FastICA; a warning says if it has not converged by then."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "max_iterations")


@dataclass
class ClustersConfig:
    """Clusters of the latents of another fit."""

    of: str
    """The method of the suite whose latents are joined: its name, or its whole label where several have it."""
    by: Literal["cofiring", "cosine"] = "cofiring"
    """Kind of likeness: that two latents fire on the same rows (φ), or the cosine of their directions."""
    at: int | None = None
    """Number of groups that the tree is cut into, single latents counted; null cuts it where chance would hardly join
    anything: above the likeness that 1 % of the joins exceed of firing whose documents have changed places (or of
    random directions)."""

    def __post_init__(self) -> None:
        if self.at is not None:
            at_least_one(self, "at")


@dataclass
class RandomGroupsConfig:
    """Groups of the sizes of another fit's, of latents that fire about as often."""

    of: str
    """The method of the suite that makes groups, such as clusters: its name, or its whole label where several have
    it."""


@dataclass
class MetaSAEConfig:
    """TopK SAE on the directions of the latents of another fit."""

    of: str
    """The method of the suite whose directions are decomposed: its name, or its whole label where several have it."""
    n_latents: int
    """Number of meta-latents; fewer than the latents that are decomposed."""
    k: int = 4
    """The most meta-latents of a direction."""
    passes: int | None = None
    """Number of passes over the directions; null follows from their number."""

    def __post_init__(self) -> None:
        at_least_one(self, "n_latents", "k")
        if self.passes is not None:
            at_least_one(self, "passes")
        if self.k > self.n_latents:
            raise ValueError(f"k is {self.k}; give a number from 1 to n_latents ({self.n_latents}).")


SPECS: list[harness.MethodSpec] = [
    harness.MethodSpec(
        name="itda",
        version=3,
        summary="Dictionary of activations that matching pursuit could not yet explain (arXiv 2505.17769), one pass",
        config=ITDAConfig,
        factory="harness.plugins.methods.itda:ITDA",
        provides=("atoms", "dictionary"),
    ),
    harness.MethodSpec(
        name="itda_paper",
        version=3,
        summary="ITDA as published, quirks included (arXiv 2505.17769): a batch's candidates enter all at once",
        config=ITDAPaperConfig,
        factory="harness.plugins.methods.itda_paper:ITDAPaper",
        provides=("atoms", "dictionary"),
    ),
    harness.MethodSpec(
        name="kmeans",
        version=3,
        summary="Baseline: k-means centroids under matching pursuit",
        config=KMeansConfig,
        factory="harness.plugins.methods.kmeans:KMeans",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="random_dictionary",
        version=2,
        summary="Baseline: random rows or Gaussian directions under matching pursuit",
        config=RandomDictionaryConfig,
        factory="harness.plugins.methods.random_dictionary:RandomDictionary",
        # Not "atoms": which rows it draws depends on the stream alone, so comparing them would say nothing of models.
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="sized_baseline",
        version=1,
        summary="Baseline: random rows or k-means centroids, as many as ITDA takes atoms from the same stream",
        config=SizedBaselineConfig,
        factory="harness.plugins.methods.sized_baseline:SizedBaseline",
        # As for random_dictionary.
        provides=("dictionary",),
    ),
    *SAE_SPECS,
    harness.MethodSpec(
        name="pca",
        version=1,
        summary="Principal components; the k largest coefficients of each row, or all",
        config=PCAConfig,
        factory="harness.plugins.methods.pca:PCA",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="ica",
        version=1,
        summary="Independent components (scikit-learn's FastICA); the k largest coefficients of each row, or all",
        config=ICAConfig,
        factory="harness.plugins.methods.ica:ICA",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="identity",
        version=1,
        summary="Baseline: every coordinate is a latent; nothing is lost",
        factory="harness.plugins.methods.baselines:Identity",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="mean",
        version=1,
        summary="Baseline: predicts the mean of the fit rows; explains nothing",
        factory="harness.plugins.methods.baselines:Mean",
        provides=("dictionary",),
    ),
    harness.MethodSpec(
        name="clusters",
        version=1,
        summary="Clusters of another fit's latents that fire together beyond chance, or point the same way",
        config=ClustersConfig,
        factory="harness.plugins.methods.clusters:Clusters",
        needs=("fit",),
    ),
    harness.MethodSpec(
        name="random_groups",
        version=1,
        summary="Baseline: random groups of latents, as large as another fit's groups and firing about as often",
        config=RandomGroupsConfig,
        factory="harness.plugins.methods.random_groups:RandomGroups",
        needs=("fit",),
    ),
    harness.MethodSpec(
        name="meta_sae",
        version=1,
        summary="Sparse autoencoder on the directions of another fit's latents (arXiv 2502.04878)",
        config=MetaSAEConfig,
        factory="harness.plugins.methods.meta_sae:MetaSAE",
        needs=("fit",),
    ),
]
