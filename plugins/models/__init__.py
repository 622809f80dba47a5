"""Specs of the built-in models. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass
class HFConfig:
    """A model of transformers.

    `path` is a hub id, a folder, or a GGUF file in either. Give a commit as `revision` of a hub id: without it the
    hub may change the weights, and stored results can't notice. `device` "auto" is cuda, then mps, then cpu.
    """

    path: str
    revision: str | None = None
    dtype: Dtype = "float32"
    device: str = "auto"
    n_layers: int | None = None
    """With `width`: the shape of a model on the hub, so that a plan can check sites and estimate disk without the hub.
    A checkpoint of another shape is refused."""
    width: int | None = None
    device_map: Literal["auto"] | None = None
    """"auto" spreads a model that is larger than memory over accelerators (with device cpu: none), main memory and
    disk. No result depends on it by more than rounding."""
    max_memory_gb: float | None = None
    """With `device_map`: main memory that weights may take, the others staying on disk; null takes what is free."""

    def __post_init__(self) -> None:
        if self.max_memory_gb is not None and (self.device_map is None or self.max_memory_gb <= 0):
            raise ValueError(f"max_memory_gb is {self.max_memory_gb}; give a number above 0, and device_map: auto.")


@dataclass
class PackagedConfig:
    """A model whose weights are in an installed package.

    `smollm2-135m`: SmolLM2-135M-Instruct from a 4-bit GGUF, a decoder of 30 layers; `minilm-l6`: all-MiniLM-L6-v2, a
    sentence encoder of 6 layers.
    """

    name: Literal["smollm2-135m", "minilm-l6"] = "smollm2-135m"
    dtype: Dtype = "float32"
    device: str = "auto"


@dataclass
class StoredConfig:
    """The user's own rows: a folder with `<site>.safetensors` (tensor `x`) or `<site>.npy` for each site, `[n, d]`.

    Beside them `rows.parquet` or `rows.csv` with the column `document`, and `window, position, start, end, special` if
    known; and, if wanted, `stored.json` with `n_layers` and `tokenizer_hash`.
    """

    path: str


@dataclass
class RandomWeightsConfig:
    """GPT-2 of any size, its weights drawn with `seed`, one token per byte of text."""

    n_layers: int = 4
    width: int = 64
    n_heads: int = 4
    seed: int = 0
    dtype: Dtype = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.n_layers < 1 or self.n_heads < 1 or self.width < self.n_heads or self.width % self.n_heads:
            raise ValueError(
                f"{self.n_layers} layers, width {self.width}, {self.n_heads} heads: heads share the width."
            )


@dataclass
class SuperpositionConfig:
    """Rows made of known features at the one site `resid_post.0`; no text, and no corpus is needed.

    Args:
        n_features: how many; more than `width` are in superposition.
        width: of the rows.
        n_rows: of all splits together, in documents of 64; a tenth is for evaluation unless the suite says otherwise.
        l0: features active in a row on average.
        zipf: the feature that is j-th in frequency is active in proportion to 1/j^zipf.
        hierarchy: share of the features, the rarest, that are active only where another one is.
        correlation: of the Gaussian numbers that decide whether the two features of a pair are active; from 0 on.
        noise: expected norm of what is added to a row; a feature has norm 1 on average.
        seed: draws everything.
    """

    n_features: int = 512
    width: int = 128
    n_rows: int = 60_000
    l0: float = 8.0
    zipf: float = 0.5
    hierarchy: float = 0.25
    correlation: float = 0.5
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_features, self.width, self.n_rows) < 1:
            raise ValueError(f"{self.n_features} features, width {self.width}, {self.n_rows} rows: give at least 1.")
        if not 0 < self.l0 <= self.n_features / 2:
            raise ValueError(
                f"l0 is {self.l0}; no feature is active in over half of the rows: give up to n_features / 2."
            )
        if not (0 <= self.hierarchy <= 0.5 and 0 <= self.correlation <= 1 and min(self.zipf, self.noise) >= 0):
            raise ValueError(
                f"hierarchy {self.hierarchy} is to be between 0 and .5, correlation {self.correlation} between 0 and "
                f"1, zipf {self.zipf} and noise {self.noise} from 0 on."
            )


SPECS: list[harness.Spec] = [
    harness.Spec(
        kind="model",
        name="hf",
        version=1,
        summary="any decoder or encoder of transformers: hub id, folder or GGUF file",
        config=HFConfig,
        factory="plugins.models.hf:HF",
        identity="plugins.models.planning:hf_identity",
        shape="plugins.models.planning:hf_shape",
    ),
    harness.Spec(
        kind="model",
        name="packaged",
        version=1,
        summary="real weights from an installed package: no hub needed",
        config=PackagedConfig,
        factory="plugins.models.packaged:load",
        identity="plugins.models.planning:packaged_identity",
        shape="plugins.models.planning:packaged_shape",
    ),
    harness.Spec(
        kind="model",
        name="stored",
        version=1,
        summary="your own rows: safetensors or npy, with a rows table",
        config=StoredConfig,
        factory="plugins.models.stored:Stored",
        identity="plugins.models.planning:stored_identity",
        provides=("rows",),
    ),
    harness.Spec(
        kind="model",
        name="random_weights",
        version=1,
        summary="control: a small GPT-2 with random weights; nothing to download",
        config=RandomWeightsConfig,
        factory="plugins.models.random_weights:load",
        identity="plugins.models.planning:random_weights",
        shape="plugins.models.planning:random_weights",
    ),
    harness.Spec(
        kind="model",
        name="superposition",
        version=1,
        summary="rows made of known features, to see which of them methods find; nothing to download",
        config=SuperpositionConfig,
        factory="plugins.models.superposition:Superposition",
        shape="plugins.models.planning:superposition_shape",
        provides=("rows",),
    ),
]
