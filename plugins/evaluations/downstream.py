"""Evaluation `downstream`: what a decomposition does to the predictions of the model that it stands in.

At the site, unmasked rows x are replaced by their reconstructions x̂; special tokens, the first row of each window and
masked rows (sinks) keep their own. Metrics are means over the n positions t whose row is replaced and after which
token t+1 of the same window is text; CE is −log p(token t+1), and all losses are in nats.

    ce_clean                        CE of the unhooked model
    ce_increase                     CE patched − CE clean
    kl                              KL(clean ‖ patched), over the whole vocabulary
    ce_increase_zero_ablation       CE − CE clean, with 0 in place of the same rows
    ce_increase_mean_ablation       CE − CE clean, with the mean of the fit rows in place of the same rows
    loss_recovered_zero_ablation    (CE ablated − CE patched) / (CE ablated − CE clean)
    loss_recovered_mean_ablation    the same with the mean

Loss recovered is undefined where the ablation costs under 0.01 nats. It is a ratio of means, as in SAELens and SAEBench
(Karvonen et al. 2025, arXiv 2503.09532), which ablate every position, the first too, and thereby raise the score: here
patch and ablations replace the very same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness

MIN_ABLATION_NATS = 0.01
_CHUNK_ROWS = {"cpu": 32}
_CHUNK_ROWS_ELSEWHERE = 256
"""Predictions whose float64 log-probabilities are in memory at once; few on a CPU, so that they stay in the cache."""
_MAX_CLEAN_BYTES = 1e9

Sums = dict[str, Float[Tensor, " documents"]]
"""Sums over the positions of each document, by name."""
Replays = Callable[[], Iterator[harness.ReplayedRows]]


class Downstream:
    """Runs the model on from the site, with reconstructions or an ablation in place of the rows."""

    def __init__(self, config: object) -> None: ...

    @torch.no_grad()
    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> list[harness.TableRow]:
        """One table row per metric of the list above."""
        if context.replays is None:
            raise harness.Undefined("this context has stored rows but no model to run on from them")
        if "downstream" not in context.shared:
            kept = _CleanLogits()
            context.shared["downstream"] = kept, _sums_without_decomposition(context.replays, kept, context)
        clean, without = context.shared["downstream"]
        sums: Sums = {**without, "patched": _zeros(context), "kl": _zeros(context)}
        for number, replayed in enumerate(context.replays()):
            patched = replayed.patched(_reconstruct(decomposition, replayed.rows))
            losses, divergences = _compare(clean.of(number, replayed), patched, replayed.next_ids)
            sums["patched"].index_add_(0, replayed.documents, losses)
            sums["kl"].index_add_(0, replayed.documents, divergences)
        return list(_table_rows(sums))


class _CleanLogits:
    """The logits of the unhooked model, kept as far as memory allows: a decomposition then runs the head once."""

    def __init__(self) -> None:
        self._kept: dict[int, Float[Tensor, "n v"]] = {}
        self._n_bytes = 0

    def of(self, number: int, replayed: harness.ReplayedRows) -> Float[Tensor, "n v"]:
        """Return the clean logits of one batch, whose position among all batches is `number`."""
        if number in self._kept:
            return self._kept[number]
        logits = replayed.logits()
        if self._n_bytes + logits.nbytes <= _MAX_CLEAN_BYTES:
            self._kept[number] = logits
            self._n_bytes += logits.nbytes
        return logits


def _sums_without_decomposition(replays: Replays, clean: _CleanLogits, context: harness.EvaluationContext) -> Sums:
    """The number of positions, and their losses clean and with either ablation."""
    mean = context.fit_mean() if context.fit_mean else None
    sums = {name: _zeros(context) for name in ("positions", "clean", "zero", "mean")}
    if mean is None:
        del sums["mean"]
    for number, replayed in enumerate(replays()):
        rows, ids = replayed.rows, replayed.next_ids
        terms = {
            "positions": torch.ones(len(ids), dtype=torch.float64),
            "clean": _cross_entropies(clean.of(number, replayed), ids),
            "zero": _cross_entropies(replayed.patched(torch.zeros_like(rows)), ids),
        }
        if mean is not None:
            terms["mean"] = _cross_entropies(replayed.patched(mean.to(rows).expand_as(rows)), ids)
        for name, values in terms.items():
            sums[name].index_add_(0, replayed.documents, values)
    return sums


def _zeros(context: harness.EvaluationContext) -> Float[Tensor, " documents"]:
    return torch.zeros(context.n_documents, dtype=torch.float64)


def _reconstruct(decomposition: harness.Decomposition, x: Float[Tensor, "r d"]) -> Float[Tensor, "r d"]:
    decoded = decomposition.decode(decomposition.encode(x))
    name = f"{type(decomposition).__name__}.decode"
    if decoded.shape != x.shape:
        raise harness.PluginError(f"{name} returned shape {tuple(decoded.shape)} for rows of shape {tuple(x.shape)}.")
    n_broken = int((~torch.isfinite(decoded)).any(dim=1).sum())
    if n_broken:
        raise harness.PluginError(f"{name} returned NaN or infinite values in {n_broken} of {len(x)} rows.")
    return decoded


def _cross_entropies(logits: Float[Tensor, "n v"], next_ids: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    parts = zip(_chunks(logits, logits), _chunks(next_ids, logits), strict=True)
    return torch.cat([_losses(_log_probabilities(part), ids) for part, ids in parts])


def _compare(
    clean: Float[Tensor, "n v"], patched: Float[Tensor, "n v"], next_ids: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The cross-entropies of the patched model, and its divergences from the clean one."""
    losses, divergences = [], []
    for p, q, ids in zip(*(_chunks(tensor, clean) for tensor in (clean, patched, next_ids)), strict=True):
        log_p, log_q = _log_probabilities(p), _log_probabilities(q)
        losses.append(_losses(log_q, ids))
        # 0 log 0 = 0: some models rule tokens out with a logit of minus infinity.
        terms = torch.where(log_p.isneginf(), 0, log_p.exp() * (log_p - log_q))
        divergences.append(terms.sum(dim=1).cpu())
    return torch.cat(losses), torch.cat(divergences)


def _chunks(x: Tensor, logits: Float[Tensor, "n v"]) -> tuple[Tensor, ...]:
    """Parts of something that has a row for each prediction."""
    return torch.split(x, _CHUNK_ROWS.get(logits.device.type, _CHUNK_ROWS_ELSEWHERE))


def _log_probabilities(logits: Float[Tensor, "n v"]) -> Float[Tensor, "n v"]:
    return torch.log_softmax(logits.double(), dim=1)


def _losses(log_probabilities: Float[Tensor, "n v"], next_ids: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    return -log_probabilities.gather(1, next_ids[:, None].to(log_probabilities.device))[:, 0].cpu()


def _table_rows(sums: Sums) -> Iterator[harness.TableRow]:
    positions = sums["positions"]
    increase = {name: sums[name] - sums["clean"] for name in ("patched", "zero", "mean") if name in sums}
    yield _row("ce_clean", None, positions, sums["clean"], positions)
    yield _row("ce_increase", False, positions, increase["patched"], positions)
    yield _row("kl", False, positions, sums["kl"], positions)
    for ablation in ("zero", "mean"):
        names = f"ce_increase_{ablation}_ablation", f"loss_recovered_{ablation}_ablation"
        if ablation in increase:
            cost = increase[ablation]
            yield _row(names[0], None, positions, cost, positions)
            yield _row(names[1], True, positions, cost - increase["patched"], cost, MIN_ABLATION_NATS)
        else:
            yield from (harness.TableRow(name, None, 0, None, "the fit rows are not known") for name in names)


def _row(
    metric: str,
    higher_is_better: bool | None,
    positions: Float[Tensor, " documents"],
    numerator: Float[Tensor, " documents"],
    denominator: Float[Tensor, " documents"],
    min_denominator: float = 0.0,
) -> harness.TableRow:
    """A ratio of sums, unless it has no value or its denominator is less than this per position."""
    n, over = int(positions.sum()), float(denominator.sum())
    value = float(numerator.sum()) / over if over else math.nan
    reason = None
    if n == 0:
        reason = "no replaced row has a token of text after it"
    elif over < min_denominator * n:
        reason = f"the ablation costs {over / n:.2g} nats, less than {min_denominator}"
    elif not math.isfinite(value):
        reason = "the losses are not finite"
    if reason is not None:
        return harness.TableRow(metric, None, n, higher_is_better, reason)
    documents = harness.DocumentSums(numerator.tolist(), denominator.tolist())
    return harness.TableRow(metric, value, n, higher_is_better, documents=documents)
