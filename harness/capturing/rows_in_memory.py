"""Rows on their way from the device of a model to memory: copied while the device runs what comes next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.contracts.model import HasDevice


def runs_on_card(model: object) -> bool:
    """True if a model says that it computes on a CUDA device."""
    return isinstance(model, HasDevice) and model.device.type == "cuda"


class RowsInMemory:
    """n rows of several sites, which come batch by batch from anywhere among them."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._coming: list[tuple[str, Tensor, Int[Tensor, " r"], torch.cuda.Event | None]] = []
        self._sides: dict[torch.device, torch.cuda.Stream] = {}

    def add(
        self, found: Mapping[str, Float[Tensor, "b t d"]], kept: Int[Tensor, " r"], places: Int[Tensor, " r"]
    ) -> None:
        """Take over some rows of a batch.

        Args:
            found: what a model gave for each site.
            kept: places of these rows in the batch, its windows one after the other.
            places: where among the n rows each of them belongs.
        """
        self._coming += [(site, *self._copied(x, kept, places)) for site, x in found.items()]

    def take(self) -> dict[str, Float[Tensor, "n d"]]:
        """The rows of each site, once all have arrived."""
        whole: dict[str, Tensor] = {}
        for site, rows, places, arrived in self._coming:
            if arrived is not None:
                arrived.synchronize()
            if site not in whole:
                whole[site] = rows.new_empty(self._n, rows.shape[1])
            whole[site].index_copy_(0, places, rows)
        self._coming.clear()
        return whole

    def _copied(
        self, x: Float[Tensor, "b t d"], kept: Int[Tensor, " r"], places: Int[Tensor, " r"]
    ) -> tuple[Float[Tensor, "r d"], Int[Tensor, " r"], torch.cuda.Event | None]:
        rows = x.flatten(0, 1).index_select(0, kept.to(x.device))
        if x.device.type != "cuda":
            return rows.cpu(), places, None
        side = self._sides.setdefault(x.device, torch.cuda.Stream(x.device))
        side.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(side):
            copy = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True).copy_(rows, non_blocking=True)
            arrived = side.record_event()
        rows.record_stream(side)  # else its memory would be given away while it is read
        return copy, places, arrived
