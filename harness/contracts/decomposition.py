"""The result of learning: `Decomposition`, its `Codes`, and how they are saved and loaded.

Weights are saved as safetensors and read as safetensors; nothing is ever unpickled.
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.contracts.rows import rows_from_tensors, rows_to_tensors
from harness.contracts.saved_class import NotFound, class_name, find_class
from harness.errors import HarnessError, StoreError, said
from harness.files import follow_umask, writing

_FORMAT = 1
_TENSORS = "decomposition.safetensors"
_CONFIG = "decomposition.json"
_BASE = "base"
_ENGINE_ATTRIBUTES = ("atoms", "candidates", "tokenizer_hash")
_ROW_TABLES = ("atoms", "candidates")
_FIELDS: dict[str, Any] = {"class": str, "config": dict, "tokenizer_hash": str | None, "documents": dict}


@dataclass(frozen=True, repr=False)
class Codes:
    """The coefficients of n rows: sparse (`indices` given) or dense (`indices` None).

    A latent may occur twice in one row, then its coefficients add up; padding has value 0.
    """

    values: Float[Tensor, "n k"]
    """The coefficients: k of each row, or of all m latents where there are no indices."""
    indices: Int[Tensor, "n k"] | None = None
    """The latent that each coefficient belongs to; None where codes are dense."""
    n_latents: int | None = None
    """The number m of latents, which sparse codes must be told before they can be made dense."""

    def __repr__(self) -> str:
        n, m = len(self.values), self.values.shape[1] if self.indices is None else self.n_latents
        kept = "dense" if self.indices is None else f"sparse, k={self.values.shape[1]}"
        return f"Codes({n} rows, {'?' if m is None else m} latents, {kept})"

    def to_dense(self, n_latents: int | None = None) -> Float[Tensor, "n m"]:
        """The m coefficients of every row; those of a repeated latent are added up."""
        if self.indices is None:
            return self.values
        m = n_latents if n_latents is not None else self.n_latents
        if m is None:
            raise HarnessError("Codes: give Codes(values, indices, n_latents) or to_dense(n_latents).")
        dense = self.values.new_zeros(self.values.shape[0], m)
        return dense.scatter_add_(1, self.indices.long(), self.values)


class Decomposition(ABC):
    """Encodes rows to codes and back. A method subclasses it and gives `encode`, `decode` and its state.

    The state is whatever the instance holds: attributes that are tensors are its weights; numbers, strings, booleans,
    None, and lists and dicts of these are its config. Override `state` and `from_state` for anything else.
    """

    dictionary: Float[Tensor, "m d"] | None = None
    """One direction per latent, or None where decoding is not linear in the codes."""
    signed: bool = True
    """True if codes may be negative."""
    atoms: pd.DataFrame | None = None
    """The rows of the data that are the latents, as `document, position, start, end` in dictionary order; None where
    latents are not rows of the data."""
    candidates: pd.DataFrame | None = None
    """Set by the engine where there are atoms: the rows that could have become one, as
    `document, window, position, end`. Those of several sites joined have a number `pool` too, equal where they were
    candidates at the same sites."""
    rows_until_full: int | None = None
    """Rows of the first pass, from its start, after which none could become an atom; None where all could. The engine
    counts no later row among the candidates."""
    base: Decomposition | None = None
    """The decomposition whose latents this one's are made of; saved with it."""
    tokenizer_hash: str | None = None
    """Set by the engine: positions of two decompositions can be compared only if it is equal."""

    def __repr__(self) -> str:
        dictionary = getattr(self, "dictionary", None)  # a property may miss what is not set yet
        if (
            type(self).n_latents is Decomposition.n_latents
        ):  # not asked, since the answer would become part of the state
            n_latents = vars(self).get("n_latents", None if dictionary is None else len(dictionary))
        else:
            n_latents = getattr(self, "n_latents", None)
        numbers = {"n_latents": n_latents, "width": None if dictionary is None else dictionary.shape[1]}
        known = [f"{name}={number}" for name, number in numbers.items() if number is not None]
        return f"{type(self).__name__}({', '.join([*known, f'signed={self.signed}'])})"

    @abstractmethod
    def encode(self, x: Float[Tensor, "n d"]) -> Codes:
        """The codes of rows, each of which depends on its row and the fit alone."""

    @abstractmethod
    def decode(self, codes: Codes) -> Float[Tensor, "n d"]:
        """The rows that codes stand for."""

    @cached_property
    def n_latents(self) -> int:
        """The number of latents; to be set where there is no dictionary."""
        if self.dictionary is None:
            raise HarnessError(f"{type(self).__name__}: set n_latents; without a dictionary it can't be derived.")
        return self.dictionary.shape[0]

    @property
    def n_candidates(self) -> int | None:
        """The size of the pool that the atoms were chosen from."""
        return None if self.candidates is None else len(self.candidates)

    def report(self) -> dict[str, float | None]:
        """Numbers about how the fit went, for the cost table; None for numbers that were not measured."""
        return {}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, JSON config): all that `from_state` needs to make an equal instance."""
        tensors: dict[str, Tensor] = {}
        config: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name in _ENGINE_ATTRIBUTES or (name == _BASE and isinstance(value, Decomposition)):
                continue
            if isinstance(value, Tensor):
                tensors[name] = value
            elif _is_json(value):
                config[name] = value
            else:
                raise HarnessError(
                    f"{type(self).__name__}.{name} is a {type(value).__name__}, which can't be saved. Keep tensors "
                    "and JSON values as attributes, or override state() and from_state()."
                )
        return tensors, config

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> Self:
        """The inverse of `state`."""
        instance = cls.__new__(cls)
        vars(instance).update(config | tensors)
        return instance

    def to(self, device: str | torch.device) -> Self:
        """Move the weights, in place."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        if isinstance(self.base, Decomposition):
            self.base.to(device)
        return self

    def save(self, folder: str | Path, method: str | None = None) -> None:
        """Write weights, config and identities under `folder`, so that `harness.load(folder)` gives an equal one.

        `method` is the name of the method that has made it: where several share a class, the folder names that one.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors, config = self.state()
        tensors = {f"state.{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        documents: dict[str, list[Any]] = {}
        for table in _ROW_TABLES:
            rows = getattr(self, table)
            if rows is not None:
                row_tensors, documents[table] = rows_to_tensors(rows, f"{table}.")
                tensors |= row_tensors
        description = {
            "format": _FORMAT,
            "class": class_name(type(self), method),
            "config": config,
            "tokenizer_hash": self.tokenizer_hash,
            "documents": documents,
            **({"has_base": True} if isinstance(self.base, Decomposition) else {}),
        }
        if isinstance(self.base, Decomposition):  # a plugin may call something else so
            self.base.save(folder / _BASE)
        with writing(folder):
            save_file(_unshared(tensors), folder / _TENSORS)
            follow_umask(folder / _TENSORS)
            (folder / _CONFIG).write_text(json.dumps(description))


def load(folder: str | Path, device: str | torch.device = "cpu") -> Decomposition:
    """The decomposition that was saved in `folder`. Runs no code but that of plugins already installed or loaded."""
    folder = Path(folder)
    for name in (_CONFIG, _TENSORS):
        if not (folder / name).is_file():
            raise StoreError(f"no decomposition in {folder}: {name} is missing.")
    description = _description(folder)
    try:
        with safe_open(folder / _TENSORS, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # not a dict
        if missing := [table for table in description["documents"] if f"{table}.document" not in tensors]:
            raise ValueError(f"{_TENSORS} has no rows of {missing[0]}")
        rows = {
            table: rows_from_tensors(tensors, documents, f"{table}.")
            for table, documents in description["documents"].items()
        }
    except (SafetensorError, ValueError, TypeError, IndexError) as error:
        raise _corrupt(folder, error) from error
    cls = _find_class(description["class"], folder)
    state = {name.removeprefix("state."): t.to(device) for name, t in tensors.items() if name.startswith("state.")}
    try:
        decomposition = cls.from_state(state, description["config"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        advice = f"Fit it again, or install the version of {cls.__module__.partition('.')[0]} that has made it."
        raise StoreError(
            f"the decomposition in {folder} does not fit {cls.__name__}: {said(error)}. {advice}"
        ) from error
    decomposition.tokenizer_hash = description["tokenizer_hash"]
    if description.get("has_base"):
        decomposition.base = load(folder / _BASE, device)
    for table in rows:
        setattr(decomposition, table, rows[table])
    return decomposition


def _description(folder: Path) -> dict[str, Any]:
    """The JSON beside the tensors, with all that `save` writes there; else a StoreError."""
    try:
        description = json.loads((folder / _CONFIG).read_text())
    except (ValueError, RecursionError) as error:
        raise _corrupt(folder, f"{_CONFIG} is not JSON ({error})") from error
    if not isinstance(description, dict):
        raise _corrupt(folder, f"{_CONFIG} is {type(description).__name__}, not an object")
    if description.get("format") != _FORMAT:
        raise StoreError(
            f"{folder}: format {description.get('format')!r}, this harness reads {_FORMAT}. Load it by the version of "
            "the harness that has made it, or fit it again."
        )
    for name, wanted in _FIELDS.items():
        if not isinstance(description.get(name, ...), wanted):
            found = f"{description[name]!r:.60}" if name in description else "missing"
            raise _corrupt(folder, f"{name!r} of {_CONFIG} is {found}")
    for table, documents in description["documents"].items():
        if table not in _ROW_TABLES or not isinstance(documents, list):
            raise _corrupt(folder, f"'documents' of {_CONFIG} has {table!r}: {documents!r:.60}")
    return description


def _corrupt(folder: Path, problem: object) -> StoreError:
    return StoreError(f"the decomposition in {folder} is corrupt: {problem}. Fit it again.")


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share memory are cloned: safetensors refuses them."""
    seen: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        unshared[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return unshared


def _find_class(reference: str, folder: Path) -> type[Decomposition]:
    try:
        found = find_class(reference)
    except NotFound as error:
        hint = "Install its plugin, or give its file as plugin_files=[...]."
        raise StoreError(f"{folder} needs {error} {hint}") from error
    if not (isinstance(found, type) and issubclass(found, Decomposition)) or inspect.isabstract(found):
        raise StoreError(f"{folder} names {reference} as its class, which is not a harness.Decomposition.")
    return found
