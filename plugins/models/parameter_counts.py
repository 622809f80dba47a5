"""Numbers of parameters, which a plan can know without loading a model. Imports no torch."""

from __future__ import annotations

import json
import math
from pathlib import Path

from harness import ConfigError
from harness.plugins.models import RandomWeightsConfig, SeedlingConfig

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_MAX_HEADER = 100_000_000
"""The longest header that safetensors reads, in bytes."""
_BYTES, _POSITIONS = 256, 1024
"""Tokens and positions of a model of random weights."""


def stored_numbers(folder: Path) -> int | None:
    """The numbers in a folder's safetensors files but an adapter's, by their headers; None where there are none."""
    paths = [path for path in sorted(folder.glob("*.safetensors")) if path.name != ADAPTER_WEIGHTS]
    # Some folders hold the same weights twice, under the names of transformers and of their authors.
    own = [path for path in paths if path.name.startswith("model")]
    counts = [_of_file(path) for path in own or paths]
    return sum(counts) if counts else None


def _of_file(path: Path) -> int:
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        try:
            if n_header > _MAX_HEADER:
                raise ValueError(f"a header of {n_header:,} bytes")
            shapes = [own["shape"] for name, own in json.loads(file.read(n_header)).items() if name != "__metadata__"]
            if not all(type(n) is int and n >= 0 for shape in shapes for n in shape):
                raise ValueError("a shape that is none")
            return sum(map(math.prod, shapes))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"model hf: {path} is no safetensors file ({error}). Save the model anew.") from error


def random_weights_numbers(config: RandomWeightsConfig) -> int:
    """The parameters of a GPT-2 without a head."""
    return (_BYTES + _POSITIONS) * config.width + _blocks(config.n_layers, config.width)


def seedling_numbers(config: SeedlingConfig) -> int:
    """The parameters of a seedling: embeddings, blocks and, where it is not the embeddings, the head."""
    d, embeddings = config.width, config.vocabulary * config.width
    if config.architecture == "gpt2":
        return embeddings + config.context * d + _blocks(config.n_layers, d)
    if config.architecture == "gpt_neox":
        return 2 * embeddings + _blocks(config.n_layers, d)
    hidden = math.ceil(8 * d / 3 / 8) * 8
    return 2 * embeddings + config.n_layers * (4 * d * d + 3 * d * hidden + 2 * d) + d


def _blocks(n_layers: int, width: int) -> int:
    """Blocks with biases, two norms and an MLP of four times the width, and the last norm."""
    return n_layers * (12 * width * width + 13 * width) + 2 * width
