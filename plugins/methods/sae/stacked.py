"""TopK SAEs of one size that learn in one computation.

S SAEs of m latents are one SAE of S·m latents over S·b rows, whose products are block-diagonal: rows of one SAE meet
latents of that one only. So sparse sums, dead latents, norms and Adam are those of one SAE, in one call where each SAE
would have made its own; only what is written here knows of S. SAEs of one seed share their batches: y [u, b, d] has
those of u seeds. No number of one SAE depends on another's. It pays where the calls of a step are most of its time: at
widths up to a few hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.sae import StackableTopKSAEConfig, fast_paths


class StackedUnits(harness.SAEUnits):
    """The units of u streams of the same rows, which come as [u, b, d]: `scale` is [u, 1, 1]."""

    def measure(self, x: Float[Tensor, "u b d"]) -> None:
        scale = torch.linalg.vector_norm(x - self.mean, dim=2, keepdim=True).mean(dim=1, keepdim=True)
        self._scale = torch.where(scale > 0, scale, 1.0)

    def of_one(self, stream: int) -> harness.SAEUnits:
        """The units of the SAEs of one stream."""
        return harness.SAEUnits(self.mean, self.scale[stream, 0, 0] if self.is_measured else None)


class StackedWeights(harness.SAEWeights):
    """The weights of s SAEs, one after the other; `decoder_bias` is [s, d]."""

    @classmethod
    def of(cls, saes: Sequence[harness.SAEWeights]) -> StackedWeights:
        encoder, encoder_bias, decoder, decoder_bias = zip(*saes, strict=True)
        return cls(torch.cat(encoder), torch.cat(encoder_bias), torch.cat(decoder), torch.stack(decoder_bias))

    @property
    def s(self) -> int:
        return len(self.decoder_bias)

    def gradients(self) -> StackedWeights:
        """The gradients of the weights, in the same form."""
        return StackedWeights(*(torch.empty(0) if weight.grad is None else weight.grad for weight in self))

    def of_one(self, place: int) -> harness.SAEWeights:
        """Views of the weights of one SAE."""
        *flat, decoder_bias = self
        encoder, encoder_bias, decoder = (weight.unflatten(0, (self.s, -1))[place] for weight in flat)
        return harness.SAEWeights(encoder, encoder_bias, decoder, decoder_bias[place])

    def decode(self, support: harness.Support, codes: Float[Tensor, " e"]) -> Float[Tensor, "s*b d"]:
        decoded = self._apart(support.decode(codes, self.decoder))
        stacked: Tensor = decoded + self.decoder_bias[:, None]
        return stacked.flatten(0, 1)

    def sum_of_rows(self, output_grad: Float[Tensor, "s*b d"]) -> Float[Tensor, "s d"]:
        return self._apart(output_grad).sum(dim=1)

    def _apart(self, flat: Float[Tensor, "s*b d"]) -> Float[Tensor, "s b d"]:
        return flat.view(self.s, -1, flat.shape[1])


class TopKStack(harness.SAELearner):
    """The SAEs of a stack, with a k, a schedule and a loss each. It is started and fed as a `Stack` of
    `harness.contracts.method` is, not as one learner.
    """

    name = "topk_sae"
    config: StackableTopKSAEConfig
    weights: StackedWeights
    units: StackedUnits

    def __init__(self, members: Sequence[harness.SAELearner]) -> None:
        super().__init__(members[0].config)
        self.members = list(members)
        self.broken_at = [0] * len(members)
        """The first step, counted from 1, at which the loss of each was not finite; 0 where it always was."""

    def start(self, infos: Sequence[harness.Info]) -> None:  # type: ignore[override]  # a stack is told of each
        seeds = [info.seed for info in infos]
        self._firsts = [seeds.index(seed) for seed in dict.fromkeys(seeds)]
        self._streams = torch.tensor([self._firsts.index(seeds.index(seed)) for seed in seeds], device=infos[0].device)
        weights = [harness.SAEWeights.initial(self.config.n_latents, infos[place]) for place in self._firsts]
        for member in self.members:
            member.schedule = harness.SAESchedule.of(member.config, infos[0].n_rows, member.short_run_peak)
        stacked = StackedWeights.of([weights[stream] for stream in self._streams.tolist()])
        self.begin(infos[0], stacked, StackedUnits(infos[0].mean()))
        self._ks = [cast(StackableTopKSAEConfig, member.config).k for member in self.members]
        self._n_kept = torch.tensor(self._ks, device=infos[0].device)
        self._reserve(infos[0].dtype)

    def _reserve(self, dtype: torch.dtype) -> None:
        encoder = self.weights.of_one(0).encoder
        fast_paths.prepare(encoder)
        self._screens = not self.config.bfloat16_selection and fast_paths.screens(encoder)
        dtype = torch.bfloat16 if self.config.bfloat16_selection or self._screens else dtype
        self._pre = torch.empty(len(self.members) * self.batch_rows * len(encoder), dtype=dtype, device=encoder.device)

    @torch.no_grad()
    def partial_fit(self, batches: Sequence[harness.Batch]) -> None:  # type: ignore[override]
        if not all(self.broken_at):
            self._train(torch.stack([batches[place].x for place in self._firsts]))

    def unstack(self) -> None:
        self._check_losses()
        tokens_since_fired = self.dead.tokens_since_fired.view(len(self.members), -1)
        for place, (member, stream) in enumerate(zip(self.members, self._streams.tolist(), strict=True)):
            member.weights, member.units = self.weights.of_one(place), self.units.of_one(stream)
            member.dead = harness.DeadLatents(self.config.n_latents, self.dead.dead_tokens, tokens_since_fired.device)
            member.dead.tokens_since_fired = tokens_since_fired[place]
            # Its own `finish` looks at the losses since it last looked, here at none or the one that broke.
            member.step = self.broken_at[place] or self.step
            member._losses = [torch.tensor(torch.nan)] if self.broken_at[place] else []

    def decomposition(self, weights: harness.SAEWeights, training: dict[str, float]) -> harness.SAEDecomposition:
        raise NotImplementedError("each member has one of its own, once they are unstacked")

    def forward(self, y: Float[Tensor, "u b d"]) -> harness.SAEForward:
        own = y[self._streams]
        s, b, m = len(own), y.shape[1], self.config.n_latents
        pre = self._pre[: s * b * m].view(s, b, m)
        n_kept = self._n_kept.repeat_interleave(b)
        own_latents = self._screened_latents(own, pre) if self._screens else self._latents(own, pre, n_kept)
        rows = torch.arange(s * b, device=y.device).repeat_interleave(n_kept, output_size=len(own_latents))
        support = fast_paths.Support(rows, rows // b * m + own_latents, s * b, s * m)
        flat = own.flatten(0, 1)
        if pre.dtype == y.dtype:
            return self._reconstruct(flat, support, pre.flatten()[rows * m + own_latents].relu(), pre)
        chosen = fast_paths.products(support, flat, self.weights.encoder) + self.weights.encoder_bias[support.latents]
        return self._reconstruct(flat, support, chosen.relu(), None)

    def _latents(
        self, y: Float[Tensor, "s b d"], pre: Float[Tensor, "s b m"], n_kept: Int[Tensor, " s*b"]
    ) -> Int[Tensor, " e"]:
        """Fill in `pre`; where the codes are among the m latents of their SAE, row after row."""
        s, b, m = pre.shape
        encoder, bias = self.weights.encoder.view(s, m, -1), self.weights.encoder_bias.view(s, 1, m)
        torch.baddbmm(bias.to(pre.dtype), y.to(pre.dtype), encoder.mT.to(pre.dtype), out=pre)
        return fast_paths.largest_latents_of_each(pre.view(s * b, m), n_kept)

    def _screened_latents(self, y: Float[Tensor, "s b d"], pre: Float[Tensor, "s b m"]) -> Int[Tensor, " e"]:
        """Screen one SAE after the other."""
        chosen = []
        for place, k in enumerate(self._ks):
            own = self.weights.of_one(place)
            _, latents = fast_paths.screen(y[place], own.encoder, own.encoder_bias, pre[place]).largest(k)
            chosen.append(latents.flatten())
        return torch.cat(chosen)

    def _reconstruct(
        self,
        y: Float[Tensor, "s*b d"],
        support: harness.Support,
        codes: Float[Tensor, " e"],
        pre: Float[Tensor, "s b m"] | None,
    ) -> harness.SAEForward:
        """Decode, and set the gradients, as a TopK SAE does."""
        error = self.weights.decode(support, codes) - y
        output_grad = error * (2 / self.batch_rows)
        pre_grad = fast_paths.products(support, output_grad, self.weights.decoder) * (codes > 0)
        self.weights.set_gradients(support, codes, pre_grad, y, output_grad)
        n_rows = len(y) // len(self.members)
        losses = error.square().view(len(self.members), -1).sum(dim=1) / n_rows
        return harness.SAEForward(error, support.totals_by_latent(codes) > 0, losses, pre)

    def revive(self, dead: Int[Tensor, " dead"], y: Float[Tensor, "u b d"], forward: harness.SAEForward) -> None:
        """Revive dead latents in one SAE after the other: AuxK chooses among the dead latents of each."""
        errors = forward.error.view(len(self.members), *y.shape[1:])
        for place, stream in enumerate(self._streams.tolist()):
            own = dead[dead // self.config.n_latents == place]
            if len(own):
                pre = None if forward.pre is None else forward.pre[place]
                super().revive(own, y[stream], replace(forward, pre=pre, error=errors[place]))

    def _pre_activations(
        self, latents: Int[Tensor, " l"], y: Float[Tensor, "b d"], forward: harness.SAEForward
    ) -> Float[Tensor, "b l"]:
        own = latents if forward.pre is None else latents % self.config.n_latents
        return super()._pre_activations(own, y, forward)

    def _adam(self) -> torch.optim.Optimizer:
        parts = map(self.weights.of_one, range(len(self.members)))
        return torch.optim.AdamW([group for part in parts for group in self.groups(part)], fused=True)

    def _optimise(self) -> None:
        gradients = self.weights.gradients()
        groups = self._optimiser.param_groups
        for place, member in enumerate(self.members):
            encoder, *others = gradients.of_one(place)
            for group, own in zip(groups[2 * place : 2 * place + 2], ([encoder], others), strict=True):
                group["lr"] = member.schedule.learning_rate(self.step)
                for parameter, gradient in zip(group["params"], own, strict=True):
                    parameter.grad = gradient
        self._optimiser.step()

    def _check_losses(self) -> None:
        losses, self._losses = self._losses, []
        if not losses:
            return
        broken = ~torch.isfinite(torch.stack(losses)).cpu()
        for place in broken.any(dim=0).nonzero().flatten().tolist():
            step = self.step - len(losses) + int(broken[:, place].int().argmax()) + 1
            self.broken_at[place] = self.broken_at[place] or step
