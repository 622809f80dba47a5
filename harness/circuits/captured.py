"""Captured contrasts: the pairs of a behaviour with activations and gradients at all sites of a model, as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.circuits.pairs import Pairs
from harness.circuits.paths import OnPath, PathGradients, path_gradients
from harness.circuits.trials import SiteValues
from harness.contracts.runs import HasRuns, Runs
from harness.files import follow_umask, write_json, writing

_TENSORS, _ABOUT = "contrasts.safetensors", "contrasts.json"


@dataclass(frozen=True)
class Captured:
    """The pairs of a behaviour, and a model's answers and activations."""

    pairs: Pairs
    clean: Float[Tensor, " b"]
    """The measure of every clean window."""
    patch: Float[Tensor, " b"]
    """The measure of every patch, by the answers of its clean window."""
    values: Mapping[str, SiteValues]

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        tensors = {f"pairs.{own.name}": getattr(self.pairs, own.name) for own in fields(Pairs) if own.name != "groups"}
        tensors |= {"m.clean": self.clean, "m.patch": self.patch}
        for site, values in self.values.items():
            tensors |= {f"at.{site}.{own.name}": getattr(values, own.name) for own in fields(SiteValues)}
        path = folder / _TENSORS
        with writing(path):
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
            follow_umask(path)
        write_json(folder / _ABOUT, {"groups": self.pairs.groups, "sites": list(self.values)})

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Captured:
        """Read what `save` has written; activations go to the device."""
        tensors, about = load_file(folder / _TENSORS), json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        of_pairs = {name.removeprefix("pairs."): own for name, own in tensors.items() if name.startswith("pairs.")}
        values = {
            site: SiteValues(*(tensors[f"at.{site}.{own.name}"].to(device) for own in fields(SiteValues)))
            for site in about["sites"]
        }
        pairs = Pairs(**of_pairs, groups=tuple(about["groups"]))
        return cls(pairs, tensors["m.clean"], tensors["m.patch"], values)


def captured(model: HasRuns, pairs: Pairs, sites: Sequence[str]) -> tuple[Captured, dict[str, PathGradients]]:
    """Run a model on both sides of all pairs, and take gradients on the paths between them."""
    index = pairs.batches()
    batches = [pairs.take(own) for own in index]
    runs = [(model.runs(own.clean, own.lengths), model.runs(own.patch, own.lengths)) for own in batches]
    sides = [[run.activations(sites) for run in both] for both in runs]
    clean, patch = (
        _gathered(index, [batch.measure(both[side].logits()) for batch, both in zip(batches, runs, strict=True)])
        for side in range(2)
    )
    values, found = {}, {}
    for site in sites:
        paths = [
            _path(batch, run, site, *(side[site] for side in both))
            for batch, (run, _), both in zip(batches, runs, sides, strict=True)
        ]
        found[site] = path_gradients(paths)
        of_sides = ([own.clean for own in paths], [own.patch for own in paths], found[site].gradients)
        values[site] = SiteValues(*(_gathered(index, own, pairs.clean.shape[1]) for own in of_sides))
    return Captured(pairs, clean, patch, values), found


def _path(batch: Pairs, run: Runs, site: str, clean: Tensor, patch: Tensor) -> OnPath:
    return OnPath(run, site, clean, patch, batch.is_open.to(clean.device), batch.measure)


def _gathered(index: Sequence[Tensor], parts: Sequence[Tensor], n_tokens: int | None = None) -> Tensor:
    """Parts of batches in the order of the pairs; those of tokens are filled up with zeros."""
    shape = parts[0].shape[1:] if n_tokens is None else (n_tokens, *parts[0].shape[2:])
    whole = torch.zeros(sum(map(len, index)), *shape, dtype=parts[0].dtype)
    for own, part in zip(index, parts, strict=True):
        if n_tokens is None:
            whole[own] = part.detach().cpu()
        else:
            whole[own, : part.shape[1]] = part.detach().cpu()
    return whole
