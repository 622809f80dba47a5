"""The Python interface: `catalog`, `create` and `fit`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.registry.plugin_manager import load_catalog
from harness.registry.specs import PluginSpec

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float
    from torch import Tensor

    from harness.contracts.decomposition import Decomposition
    from harness.contracts.method import Learner


def catalog(kind: str | None = None) -> list[PluginSpec]:
    """The specs of all plugins, or of those of one kind, sorted by kind and name."""
    entries = load_catalog().entries
    return [entries[key].spec for key in sorted(entries) if kind in (None, key[0])]


def create(kind: str, name: str, /, **params: Any) -> Any:
    """An instance of a method (a learner), similarity, scorer, model, corpus or evaluation, its parameters checked."""
    return load_catalog().create(kind, name, params)


def fit(
    learner: Learner,
    x: Float[Tensor, "n d"],
    rows: pd.DataFrame | None = None,
    seed: int = 0,
    base: Decomposition | None = None,
) -> Decomposition:
    """Drive a learner from one tensor, on the tensor's device, in float64 if it is float64 and in float32 otherwise.

    The first pass takes the rows in the order given, later ones newly shuffled from (seed, pass). `base` is the fit
    that a method which needs one learns from.
    """
    import torch

    from harness.capturing.activations import Stream, TensorActivations
    from harness.contracts.rows import bare_rows
    from harness.fitting.together import fit_together

    x = _checked(x, rows)
    activations = TensorActivations(x, bare_rows(len(x)) if rows is None else rows.reset_index(drop=True))
    stream = Stream(activations, torch.arange(len(x)), seed, in_given_order=True)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    bases = {} if base is None else {"learner": base}
    fitted = fit_together({"learner": learner}, stream, x.device, dtype=dtype, bases=bases)["learner"]
    for warning in fitted.warnings:
        warnings.warn(warning, stacklevel=2)
    if fitted.error is not None:
        raise fitted.error
    assert fitted.decomposition is not None  # no error, so there is one
    if rows is not None:
        fitted.decomposition.tokenizer_hash = rows.attrs.get("tokenizer_hash")
    return fitted.decomposition


def _checked(x: Float[Tensor, "n d"], rows: pd.DataFrame | None) -> Float[Tensor, "n d"]:
    """The rows without their gradients; a ConfigError says what is wrong with them, or with their identities."""
    import torch

    from harness.contracts.rows import COLUMNS

    if not isinstance(x, torch.Tensor):
        raise ConfigError(f"fit: x is a {type(x).__name__}; give a torch tensor, such as torch.from_numpy(x).")
    x = x.detach()
    if x.ndim != 2:
        raise ConfigError(f"fit: x has shape {tuple(x.shape)}; give [n rows, d].")
    if rows is not None and len(rows) != len(x):
        raise ConfigError(f"fit: {len(x)} rows in x, {len(rows)} in rows; they must be aligned.")
    if not len(x):
        raise ConfigError("fit: x has no rows.")
    if rows is not None and (missing := [name for name in COLUMNS if name not in rows]):
        raise ConfigError(f"fit: rows lacks {', '.join(missing)}; harness.make_rows(columns) makes a whole table.")
    broken = ~torch.isfinite(x).all(dim=1)
    if broken.any():
        first = int(broken.nonzero()[0])
        raise ConfigError(f"fit: {int(broken.sum())} rows of x hold NaN or infinite values, the first is row {first}.")
    return x
