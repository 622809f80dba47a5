"""Windows that a causal model has run, and can run again with other activations at one site: runs with one edit."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from harness import ConfigError
from harness.plugins.models.runs import Runs


class Replay:
    """One batch of windows that has been run; its tensors are kept on the CPU."""

    def __init__(self, runs: Runs, site: str) -> None:
        """Take windows of one length."""
        self._runs, self._site = runs, site
        self.x: Float[Tensor, "b t d"] = runs.record(site)
        storages = [tensor.untyped_storage() for tensor in (self.x, *runs.streams)]
        self.n_bytes = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def logits(self) -> Float[Tensor, "b t v"]:
        """The logits of the unhooked model."""
        return self._runs.all_logits()

    def patched(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t v"]:
        """The logits with `x` at the site."""
        if x.shape != self.x.shape:
            raise ConfigError(f"replay: x has shape {tuple(x.shape)}; the activations have {tuple(self.x.shape)}.")
        return self._runs.all_logits({self._site: lambda _: x})
