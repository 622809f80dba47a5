"""Evaluation `reconstruction`: what a decomposition keeps of the rows, and with how many latents.

x is a row of width d, x̂ its reconstruction, e = x − x̂, c its m codes (a latent that occurs twice counts once, with the
sum). Metrics are over the n unmasked rows and μ is the mean of these, unless said otherwise.

    explained_variance                    1 − Σ‖e‖² / Σ‖x−μ‖²; that is 1 − FVU, or R² weighted by variance
    explained_variance_unmasked           the same over all rows, with μ over all rows
    explained_variance_per_token_legacy   mean over rows of 1 − ‖e‖²/‖x−μ‖²
    cosine_error                          mean over rows of 1 − x·x̂/(‖x‖‖x̂‖)
    mse                                   mean over rows and dimensions of e²; squared units of the activations
    l2_ratio                              mean over rows of ‖x̂‖/‖x‖
    relative_reconstruction_bias          Σ‖x̂‖² / Σ x·x̂; below 1 where reconstructions shrink
    l0                                    mean over rows of the number of codes ≠ 0; latents per row
    l1                                    mean over rows of Σ|c|·‖row of the dictionary‖; units of the activations, so
                                          that codes c times as large on rows 1/c times as long change nothing; without
                                          a dictionary Σ|c|, in units of the codes
    density                               l0 / m
    alive_fraction                        share of the m latents that are ≠ 0 in at least one row; grows with n
    masked_row_share                      masked rows / all rows
    masked_variance_share                 Σ‖x−μ‖² over masked rows / over all rows, with μ over all rows

Sources: explained variance is that of SAELens from 6.45.1 on, but with one μ for all rows, not one per batch. The
legacy form is the one that SAEBench publishes (Karvonen et al. 2025, arXiv 2503.09532), where μ is that of each batch.
The bias is γ of Rajamanoharan et al. 2024 (arXiv 2404.16014, eq. 10), with its expectations taken over all rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import harness

Terms = dict[str, Float[Tensor, " b"]]
"""One number per row, by name; metrics are made of their sums."""
Metrics = dict[str, tuple[bool | None, Callable[[], float]]]
"""(higher_is_better, how to compute it) by name."""
Ratios = dict[str, tuple[Tensor, Tensor]]
"""(numerator, denominator) of each document, by name of the metric."""

_NO_VARIANCE = "the rows do not vary"
_NO_LATENTS = "there are no latents"


class Reconstruction:
    """Walks the rows twice, since squares around the mean need the mean first."""

    def __init__(self, config: object) -> None: ...

    @torch.no_grad()
    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> list[harness.TableRow]:
        """One table row per metric of the list above."""
        mean_of_all, mean_of_kept, n_broken = _Mean(), _Mean(), 0
        for x, masked in context.blocks():
            finite = torch.isfinite(x).all(dim=1)
            if not (finite | masked).all():
                raise harness.ConfigError("reconstruction: unmasked evaluation rows hold NaN or infinite values.")
            n_broken += int((~finite).sum())
            mean_of_all.add(x[finite].double())
            mean_of_kept.add(x[~masked].double())
        all_sums, masked_sums, kept_sums = (_Sums(context.n_documents) for _ in range(3))
        alive = _Alive(decomposition)
        waiting = context.documents
        for block, is_masked in context.blocks():
            documents, waiting = waiting[: len(block)].to(block.device), waiting[len(block) :]
            finite = torch.isfinite(block).all(dim=1)
            x, masked, document = block[finite], is_masked[finite], documents[finite]
            rows, kept = x.double(), ~masked
            codes = _encode(decomposition, x)
            sparsity = alive.sparsity_terms(codes, kept)  # first, since decode may write into the codes
            decoded = _decode(decomposition, codes, x)
            terms = _variance_terms(rows, decoded, mean_of_all)
            all_sums.add(terms, document)
            masked_sums.add({name: term[masked] for name, term in terms.items()}, document[masked])
            kept_sums.add(_variance_terms(rows[kept], decoded[kept], mean_of_kept), document[kept])
            kept_sums.add(_direction_terms(rows[kept], decoded[kept]), document[kept])
            kept_sums.add(sparsity, document[kept])
        return [*_kept_metrics(kept_sums, alive, context.width), *_mask_metrics(all_sums, masked_sums, n_broken)]


class _Mean:
    """The mean of rows in blocks, taken around the first row: the mean of equal rows is exactly that row."""

    def __init__(self) -> None:
        self.n_rows = 0

    def add(self, rows: Float[Tensor, "b d"]) -> None:
        if len(rows) == 0:
            return
        if self.n_rows == 0:
            self._first, self._total = rows[0], torch.zeros_like(rows[0])
        self.n_rows += len(rows)
        self._total += (rows - self._first).sum(dim=0)

    def subtract_from(self, rows: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return rows - (self._first + self._total / self.n_rows) if self.n_rows else rows


class _Sums:
    """Named sums over the rows of each document, in float64."""

    def __init__(self, n_documents: int) -> None:
        self._sums: defaultdict[str, Tensor] = defaultdict(lambda: torch.zeros(n_documents, dtype=torch.float64))

    def add(self, terms: Terms, document: Int[Tensor, " b"]) -> None:
        # On the CPU: accelerators add in an order that changes from run to run.
        for name, term in terms.items():
            self._sums[name].index_add_(0, document.cpu(), term.double().cpu())

    def of_documents(self, name: str) -> Float[Tensor, " documents"]:
        return self._sums[name]

    def __getitem__(self, name: str) -> float:
        return self._sums[name].sum().item()


class _Alive:
    """The latents that have had a code ≠ 0 so far."""

    def __init__(self, decomposition: harness.Decomposition) -> None:
        self.n_latents = decomposition.n_latents
        self._seen = torch.zeros(self.n_latents, dtype=torch.bool)
        rows = decomposition.dictionary
        unit = torch.ones(self.n_latents, dtype=torch.float64)
        self._norms = unit if rows is None else torch.linalg.vector_norm(rows.detach().double(), dim=1)

    @property
    def count(self) -> int:
        return int(self._seen.sum())

    def sparsity_terms(self, codes: harness.Codes, kept: Bool[Tensor, " b"]) -> Terms:
        """L0 and L1 of the kept rows, whose latents are noted. Takes memory for the codes as they are, not [b, m]."""
        values, latents = codes.values[kept], None
        if codes.indices is not None:
            values, latents = sum_repeats(values, codes.indices[kept])
        nonzero = values != 0
        self._seen, self._norms = self._seen.to(values.device), self._norms.to(values.device)
        norms = self._norms if latents is None else self._norms[latents]
        if latents is None:
            self._seen |= nonzero.any(dim=0)
        else:
            self._seen[latents[nonzero]] = True
        return {"l0": nonzero.sum(dim=1), "l1": (values.abs() * norms).sum(dim=1)}


def sum_repeats(
    values: Float[Tensor, "n k"], indices: Int[Tensor, "n k"]
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Sum the codes of a latent that occurs more than once in a row; places that fall free get value 0 and index 0."""
    indices, order = indices.long().sort(dim=1, stable=True)
    is_new = torch.ones_like(indices)
    is_new[:, 1:] = indices[:, 1:] != indices[:, :-1]
    place = is_new.cumsum(dim=1) - 1
    summed = torch.zeros_like(values).scatter_add_(1, place, values.gather(1, order))
    return summed, torch.zeros_like(indices).scatter_(1, place, indices)


def _encode(decomposition: harness.Decomposition, x: Float[Tensor, "b d"]) -> harness.Codes:
    # A clone: a method may write into the rows it is given, which are those of all the others too.
    codes = decomposition.encode(x.clone())
    name, values, indices = f"{type(decomposition).__name__}.encode", codes.values, codes.indices
    expected = (len(x), decomposition.n_latents if indices is None else values.shape[-1])
    if values.shape != expected or (indices is not None and indices.shape != expected):
        raise harness.PluginError(
            f"{name} returned values of shape {tuple(values.shape)}, indices of shape "
            f"{None if indices is None else tuple(indices.shape)} for {len(x)} rows and "
            f"{decomposition.n_latents} latents."
        )
    _refuse_rows(~torch.isfinite(values), f"{name} returned NaN or infinite codes")
    if indices is not None:
        outside = (indices < 0) | (indices >= decomposition.n_latents)
        _refuse_rows(outside, f"{name} returned indices outside the {decomposition.n_latents} latents")
    return codes


def _decode(
    decomposition: harness.Decomposition, codes: harness.Codes, x: Float[Tensor, "b d"]
) -> Float[Tensor, "b d"]:
    decoded = decomposition.decode(codes)
    name = f"{type(decomposition).__name__}.decode"
    if decoded.shape != x.shape:
        raise harness.PluginError(f"{name} returned shape {tuple(decoded.shape)} for rows of shape {tuple(x.shape)}.")
    _refuse_rows(~torch.isfinite(decoded), f"{name} returned NaN or infinite values")
    return decoded.double()


def _refuse_rows(wrong: Bool[Tensor, "b *"], what: str) -> None:
    n_wrong = int(wrong.any(dim=1).sum())
    if n_wrong:
        raise harness.PluginError(f"{what} in {n_wrong} of {len(wrong)} rows.")


def _variance_terms(rows: Float[Tensor, "b d"], decoded: Float[Tensor, "b d"], mean: _Mean) -> Terms:
    error = (rows - decoded).square().sum(dim=1)
    variance = mean.subtract_from(rows).square().sum(dim=1)
    return {
        "rows": torch.ones_like(error),
        "error": error,
        "variance": variance,
        # Rows without variance are counted: they leave this mean without a value.
        "explained_share": 1 - error / variance,
        "rows_without_variance": variance == 0,
    }


def _direction_terms(rows: Float[Tensor, "b d"], decoded: Float[Tensor, "b d"]) -> Terms:
    dot = (rows * decoded).sum(dim=1)
    norm, decoded_norm = rows.norm(dim=1), decoded.norm(dim=1)
    return {
        "dot": dot,
        "decoded_square": decoded_norm.square(),
        "cosine": dot / (norm * decoded_norm),
        "norm_ratio": decoded_norm / norm,
        "rows_without_norm": norm == 0,
        "reconstructions_without_norm": decoded_norm == 0,
    }


def _kept_metrics(sums: _Sums, alive: _Alive, width: int) -> Iterator[harness.TableRow]:
    n, m = int(sums["rows"]), alive.n_latents

    def mean(term: str, *undefined_rows: str) -> float:
        for name in undefined_rows:
            if sums[name]:
                raise harness.Undefined(f"{int(sums[name])} of {n} {name.replace('_', ' ')}")
        return sums[term] / n

    metrics: Metrics = {
        "explained_variance": (True, lambda: 1 - _ratio(sums["error"], sums["variance"], _NO_VARIANCE)),
        "explained_variance_per_token_legacy": (True, lambda: mean("explained_share", "rows_without_variance")),
        "cosine_error": (False, lambda: 1 - mean("cosine", "rows_without_norm", "reconstructions_without_norm")),
        "mse": (False, lambda: sums["error"] / (n * width)),
        "l2_ratio": (None, lambda: mean("norm_ratio", "rows_without_norm")),
        "relative_reconstruction_bias": (
            None,
            lambda: _ratio(sums["decoded_square"], sums["dot"], "reconstructions have no component along their rows"),
        ),
        "l0": (None, lambda: mean("l0")),
        "l1": (None, lambda: mean("l1")),
        "density": (None, lambda: _ratio(sums["l0"], n * m, _NO_LATENTS)),
        "alive_fraction": (True, lambda: _ratio(alive.count, m, _NO_LATENTS)),
    }
    variance = sums.of_documents("variance")
    rows = sums.of_documents("rows")
    ratios: Ratios = {
        "explained_variance": (variance - sums.of_documents("error"), variance),
        "cosine_error": (rows - sums.of_documents("cosine"), rows),
        "l0": (sums.of_documents("l0"), rows),
    }
    return _table_rows(metrics, n, "no unmasked rows", ratios)


def _mask_metrics(all_sums: _Sums, masked_sums: _Sums, n_broken: int) -> Iterator[harness.TableRow]:
    n = int(all_sums["rows"]) + n_broken

    def over_all_rows(numerator: float) -> float:
        if n_broken:
            raise harness.Undefined(f"{n_broken} of {n} rows, all masked, hold NaN or infinite values")
        return _ratio(numerator, all_sums["variance"], _NO_VARIANCE)

    metrics: Metrics = {
        "explained_variance_unmasked": (True, lambda: 1 - over_all_rows(all_sums["error"])),
        "masked_row_share": (None, lambda: (masked_sums["rows"] + n_broken) / n),
        "masked_variance_share": (None, lambda: over_all_rows(masked_sums["variance"])),
    }
    return _table_rows(metrics, n, "no rows", {})


def _table_rows(metrics: Metrics, n: int, why_no_rows: str, ratios: Ratios) -> Iterator[harness.TableRow]:
    for name, (higher_is_better, compute) in metrics.items():
        try:
            if n == 0:
                raise harness.Undefined(why_no_rows)
            sums = harness.DocumentSums(*(side.tolist() for side in ratios[name])) if name in ratios else None
            yield harness.TableRow(name, compute(), n, higher_is_better, documents=sums)
        except harness.Undefined as undefined:
            yield harness.TableRow(name, None, n, higher_is_better, undefined.reason)


def _ratio(numerator: float, denominator: float, why_undefined: str) -> float:
    if denominator == 0:
        raise harness.Undefined(why_undefined)
    return numerator / denominator
