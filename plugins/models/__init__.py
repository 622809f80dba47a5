"""Specs of the built-in models. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import harness

Dtype = Literal["float32", "bfloat16", "float16"]
SEEDLING_VERSION = 1
_BYTES_AND_END = 257


@dataclass
class HFConfig:
    """A decoder or encoder of transformers."""

    path: str
    """A hub id, a folder, or a GGUF file in either."""
    revision: str | None = None
    """Branch, tag or commit of a hub id. Give a commit: without it the hub may change the weights, and stored
    results can't notice."""
    dtype: Dtype = "float32"
    """Precision of the model's weights and activations."""
    device: str = "auto"
    """Device that the model runs on; `auto` takes cuda, then mps, then cpu."""
    n_layers: int | None = None
    """Number of blocks of a model on the hub, with `width`: so a plan can check sites and estimate disk without the
    hub. A checkpoint of another shape is refused."""
    width: int | None = None
    """Width of the residual stream of a model on the hub, with `n_layers`."""
    device_map: Literal["auto"] | None = None
    """Placement of a model that is larger than memory: `auto` spreads it over accelerators (with device cpu: none),
    main memory and disk. No result depends on it by more than rounding."""
    max_memory_gb: float | None = None
    """Main memory that weights may take with `device_map`; the others stay on disk. Null takes all that is free."""
    weights_seed: int | None = None
    """Seed to draw the weights anew, as before any training: the control. Draws depend on transformers' version."""

    def __post_init__(self) -> None:
        if self.max_memory_gb is not None and (self.device_map is None or self.max_memory_gb <= 0):
            raise ValueError(f"max_memory_gb is {self.max_memory_gb}; give a number above 0, and device_map: auto.")


@dataclass
class PackagedConfig:
    """A model whose weights are in an installed package."""

    name: Literal["smollm2-135m", "minilm-l6"] = "smollm2-135m"
    """Name of the model: `smollm2-135m` is SmolLM2-135M-Instruct from a 4-bit GGUF, a decoder of 30 layers;
    `minilm-l6` is all-MiniLM-L6-v2, a sentence encoder of 6 layers."""
    dtype: Dtype = "float32"
    """Precision of the model's weights and activations."""
    device: str = "auto"
    """Device that the model runs on; `auto` takes cuda, then mps, then cpu."""
    weights_seed: int | None = None
    """Seed to draw the weights anew, as before any training: the control."""


@dataclass
class StoredConfig:
    """The user's own rows: a folder with `<site>.safetensors` (tensor `x`) or `<site>.npy` for each site, `[n, d]`.

    Beside them `rows.parquet` or `rows.csv` with the column `document`, whose ids are texts as they stand, and `window,
    position, start, end, special` if known; and, if wanted, `stored.json` with `n_layers` and `tokenizer_hash`.
    """

    path: str
    """The folder that holds the rows."""


@dataclass
class RandomWeightsConfig:
    """GPT-2 of any size, its weights drawn with `seed`, one token per byte of text."""

    n_layers: int = 4
    """Number of blocks."""
    width: int = 64
    """Width of the residual stream, which the heads share."""
    n_heads: int = 4
    """Number of attention heads in each block."""
    seed: int = 0
    """Seed of the weights."""
    dtype: Dtype = "float32"
    """Precision of the model's weights and activations."""
    device: str = "auto"
    """Device that the model runs on; `auto` takes cuda, then mps, then cpu."""

    def __post_init__(self) -> None:
        if self.n_layers < 1 or self.n_heads < 1 or self.width < self.n_heads or self.width % self.n_heads:
            raise ValueError(
                f"{self.n_layers} layers, width {self.width}, {self.n_heads} heads: heads share the width."
            )


@dataclass
class SeedlingConfig:
    """A small language model that is trained on packaged texts when it is first used, and kept."""

    architecture: Literal["gpt2", "gpt_neox", "llama"] = "gpt2"
    """A class of transformers, without dropout, and with embeddings tied where that is its default."""
    n_layers: int = 6
    """Number of blocks."""
    width: int = 128
    """Width of the residual stream: a multiple of 8 for each head."""
    n_heads: int = 4
    """Number of attention heads in each block."""
    vocabulary: int = 4096
    """Number of tokens of its byte-level BPE, which depends only on this and the corpus."""
    corpus: Literal["wikipedia", "bible"] = "wikipedia"
    """The packaged texts that it learns from: the share of the documents that suites fit on by default."""
    n_steps: int = 1600
    """Number of steps of the whole training."""
    step: int | None = None
    """Step whose weights are read: 0 (untrained, the control), a sixteenth, an eighth, a quarter or half of `n_steps`,
    or all; null is all."""
    batch_windows: int = 16
    """Number of windows in a step."""
    context: int = 128
    """Number of tokens in a training window. A gpt2 can't read longer ones later."""
    seed: int = 0
    """Seed of the initial weights and of the order of the windows."""
    dtype: Dtype = "float32"
    """Precision in which the model is read; training is in float32."""
    device: str = "auto"
    """Device for training and reading. The same seed gives other weights on another kind of device."""

    def __post_init__(self) -> None:
        if min(self.n_layers, self.n_heads, self.n_steps, self.batch_windows) < 1 or self.context < 2 or self.seed < 0:
            raise ValueError(
                f"n_layers {self.n_layers}, n_heads {self.n_heads}, n_steps {self.n_steps}, batch_windows "
                f"{self.batch_windows}: give at least 1; context {self.context}: 2; seed {self.seed}: 0."
            )
        if self.width < 1 or self.width % (8 * self.n_heads):
            raise ValueError(
                f"width is {self.width}; {self.n_heads} heads share it, and each needs a multiple of 8 channels."
            )
        if self.vocabulary < _BYTES_AND_END:
            raise ValueError(f"vocabulary is {self.vocabulary}; bytes and the end of text alone are {_BYTES_AND_END}.")
        if self.read_step not in self.checkpoints():
            kept = ", ".join(map(str, self.checkpoints()))
            raise ValueError(f"step is {self.step}; weights are kept at {kept} (null: the last).")

    def checkpoints(self) -> list[int]:
        """The steps at which weights are kept."""
        return sorted({0, *(self.n_steps // 2**halvings for halvings in range(5))})

    @property
    def n_neurons(self) -> int:
        """Neurons of an MLP. In a llama, with three matrices, 8/3 of the width gives as many weights as 4 with two."""
        return math.ceil(8 * self.width / 3 / 8) * 8 if self.architecture == "llama" else 4 * self.width

    @property
    def read_step(self) -> int:
        """The step whose weights are read."""
        return self.n_steps if self.step is None else self.step


@dataclass
class SuperpositionConfig:
    """Rows made of known features at the one site `resid_post.0`; no text, and no corpus is needed."""

    n_features: int = 512
    """Number of features; more than `width` are in superposition."""
    width: int = 128
    """Width of a row."""
    n_rows: int = 60_000
    """Number of rows of all splits together, in documents of 64; a tenth is for evaluation unless a suite says else."""
    l0: float = 8.0
    """Mean number of features that are active in a row."""
    zipf: float = 0.5
    """Exponent of the frequencies: the j-th feature is active in proportion to 1/j^zipf."""
    hierarchy: float = 0.25
    """Share of the features, the rarest, that are active only where another one is."""
    correlation: float = 0.5
    """Correlation of the Gaussian numbers that decide whether the two features of a pair are active; from 0 on."""
    noise: float = 0.0
    """Expected norm of what is added to a row; a feature has norm 1 on average."""
    seed: int = 0
    """Seed of the features and of all rows."""

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


SPECS: list[harness.ModelSpec] = [
    harness.ModelSpec(
        name="hf",
        version=2,
        summary="any decoder or encoder of transformers: hub id, folder or GGUF file",
        config=HFConfig,
        factory="harness.plugins.models.hf:load",
        identity="harness.plugins.models.planning:hf_identity",
        shape="harness.plugins.models.planning:hf_shape",
    ),
    harness.ModelSpec(
        name="packaged",
        version=1,
        summary="real weights from an installed package: no hub needed",
        config=PackagedConfig,
        factory="harness.plugins.models.packaged:load",
        identity="harness.plugins.models.planning:packaged_identity",
        shape="harness.plugins.models.planning:packaged_shape",
    ),
    harness.ModelSpec(
        name="stored",
        version=2,
        summary="your own rows: safetensors or npy, with a rows table",
        config=StoredConfig,
        factory="harness.plugins.models.stored:Stored",
        identity="harness.plugins.models.planning:stored_identity",
        provides=("rows",),
    ),
    harness.ModelSpec(
        name="random_weights",
        version=1,
        summary="control: a small GPT-2 with random weights; nothing to download",
        config=RandomWeightsConfig,
        factory="harness.plugins.models.random_weights:load",
        identity="harness.plugins.models.planning:random_weights",
        shape="harness.plugins.models.planning:random_weights_shape",
    ),
    harness.ModelSpec(
        name="seedling",
        version=SEEDLING_VERSION,
        summary="a small language model, trained on packaged texts when first used: families of seeds",
        config=SeedlingConfig,
        factory="harness.plugins.models.seedling:Seedling",
        identity="harness.plugins.models.planning:seedling_identity",
        shape="harness.plugins.models.planning:seedling_shape",
    ),
    harness.ModelSpec(
        name="superposition",
        version=1,
        summary="rows made of known features, to see which of them methods find; nothing to download",
        config=SuperpositionConfig,
        factory="harness.plugins.models.superposition:Superposition",
        shape="harness.plugins.models.planning:superposition_shape",
        provides=("rows",),
    ),
]
