"""TopK SAEs of one size that learn in one computation.

S SAEs of m latents are one SAE of S·m latents over S·b rows, whose products are block-diagonal: rows of one SAE meet
latents of that one only. So sparse sums, dead latents, norms and Adam are those of one SAE, in one call where each SAE
would have made its own; only what is written here knows of S. SAEs of one seed share their batches: y [u, b, d] has
those of u seeds. No number of one SAE depends on another's. It pays where the calls of a step are most of its time: at
widths up to a few hundred.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.compiled_topk import can_be_compiled, largest_places_of_each
from harness.plugins.methods.sae import StackableTopKSAEConfig
from harness.plugins.methods.sae.dead import DeadLatents
from harness.plugins.methods.sae.learner import Forward
from harness.plugins.methods.sae.schedule import Schedule
from harness.plugins.methods.sae.screening import Screen
from harness.plugins.methods.sae.sparse import Support
from harness.plugins.methods.sae.topk import TopKSAE
from harness.plugins.methods.sae.weights import Units, Weights


class StackedUnits(Units):
    """Of u streams of the same rows, [u, b, d] at a time: `scale` is [u, 1, 1]."""

    def measure(self, x: Float[Tensor, "u b d"]) -> None:
        scale = torch.linalg.vector_norm(x - self.mean, dim=2, keepdim=True).mean(dim=1, keepdim=True)
        self.scale = torch.where(scale > 0, scale, 1.0)

    def of_one(self, stream: int) -> Units:
        """What SAEs of one stream have."""
        return Units(self.mean, None if self.scale is None else self.scale[stream, 0, 0])


class StackedWeights(Weights):
    """One SAE after the other; `decoder_bias` is [s, d]."""

    @classmethod
    def of(cls, saes: Sequence[Weights]) -> StackedWeights:
        encoder, encoder_bias, decoder, decoder_bias = zip(*saes, strict=True)
        return cls(torch.cat(encoder), torch.cat(encoder_bias), torch.cat(decoder), torch.stack(decoder_bias))

    @property
    def s(self) -> int:
        return len(self.decoder_bias)

    def of_one(self, place: int) -> Weights:
        """Views of what one SAE has."""
        *flat, decoder_bias = self
        encoder, encoder_bias, decoder = (weight.unflatten(0, (self.s, -1))[place] for weight in flat)
        return Weights(encoder, encoder_bias, decoder, decoder_bias[place])

    def decode(self, support: Support, codes: Float[Tensor, " e"]) -> Float[Tensor, "s*b d"]:
        decoded = support.decode(codes, self.decoder).unflatten(0, (self.s, -1))
        return (decoded + self.decoder_bias[:, None]).flatten(0, 1)

    def sum_of_rows(self, output_grad: Float[Tensor, "s*b d"]) -> Float[Tensor, "s d"]:
        return output_grad.unflatten(0, (self.s, -1)).sum(dim=1)


class TopKStack(TopKSAE):
    """The SAEs of a stack, with a k, a schedule and a loss each. It is started and fed as a `Stack` of
    `harness.contracts.method` is, not as one learner.
    """

    weights: StackedWeights
    units: StackedUnits

    def __init__(self, members: Sequence[StackableTopKSAE]) -> None:
        super().__init__(members[0].config)
        self.members = list(members)
        self.broken_at = [0] * len(members)
        """The first step, counted from 1, at which the loss of each was not finite; 0 where it always was."""

    def start(self, infos: Sequence[harness.Info]) -> None:
        seeds = [info.seed for info in infos]
        self._firsts = [seeds.index(seed) for seed in dict.fromkeys(seeds)]
        self._streams = torch.tensor([self._firsts.index(seeds.index(seed)) for seed in seeds], device=infos[0].device)
        weights = [Weights.initial(self.config.n_latents, infos[place]) for place in self._firsts]
        for member in self.members:
            member.schedule = Schedule.of(member.config, infos[0].n_rows, member.short_run_peak)
        stacked = StackedWeights.of([weights[stream] for stream in self._streams.tolist()])
        self.begin(infos[0], stacked, StackedUnits(infos[0].mean()))
        self._pre = self._pre.new_empty(len(self.members) * self._pre.numel())
        self._n_kept = torch.tensor([member.config.k for member in self.members], device=infos[0].device)

    @torch.no_grad()
    def partial_fit(self, batches: Sequence[harness.Batch]) -> None:
        if not all(self.broken_at):
            self._train(torch.stack([batches[place].x for place in self._firsts]))

    def unstack(self) -> None:
        self._check_losses()
        tokens_since_fired = self.dead.tokens_since_fired.view(len(self.members), -1)
        for place, (member, stream) in enumerate(zip(self.members, self._streams.tolist(), strict=True)):
            member.weights, member.units = self.weights.of_one(place), self.units.of_one(stream)
            member.dead = DeadLatents(self.config.n_latents, self.dead.dead_tokens, tokens_since_fired.device)
            member.dead.tokens_since_fired = tokens_since_fired[place]
            # Its own `finish` looks at the losses since it last looked, here at none or the one that broke.
            member._step = self.broken_at[place] or self._step
            member._losses = [torch.tensor(torch.nan)] if self.broken_at[place] else []

    def weights_of_one(self) -> Weights:
        return self.weights.of_one(0)

    def forward(self, y: Float[Tensor, "u b d"]) -> Forward:
        own = y[self._streams]
        s, b, m = len(own), y.shape[1], self.config.n_latents
        pre = self._pre[: s * b * m].view(s, b, m)
        n_kept = self._n_kept.repeat_interleave(b)
        own_latents = self._screened_latents(own, pre) if self._screens else self._latents(own, pre, n_kept)
        rows = torch.arange(s * b, device=y.device).repeat_interleave(n_kept, output_size=len(own_latents))
        support = Support(rows, rows // b * m + own_latents, s * b, s * m)
        flat = own.flatten(0, 1)
        if pre.dtype == y.dtype:
            chosen = pre.flatten()[rows * m + own_latents]
        else:
            chosen = support.products(flat, self.weights.encoder) + self.weights.encoder_bias[support.latents]
        return self.reconstruct(flat, pre, support, chosen.relu())

    def _latents(
        self, y: Float[Tensor, "s b d"], pre: Float[Tensor, "s b m"], n_kept: Int[Tensor, " s*b"]
    ) -> Int[Tensor, " e"]:
        """Fill in `pre`; where the codes are among the m latents of their SAE, row after row."""
        s, b, m = pre.shape
        encoder, bias = self.weights.encoder.view(s, m, -1), self.weights.encoder_bias.view(s, 1, m)
        torch.baddbmm(bias.to(pre.dtype), y.to(pre.dtype), encoder.mT.to(pre.dtype), out=pre)
        if can_be_compiled(pre):
            return largest_places_of_each(pre.view(s * b, m), n_kept)
        pairs = zip(pre, self.members, strict=True)
        chosen = [own.topk(member.config.k, dim=1, sorted=False).indices for own, member in pairs]
        return torch.cat([indices.flatten() for indices in chosen])

    def _screened_latents(self, y: Float[Tensor, "s b d"], pre: Float[Tensor, "s b m"]) -> Int[Tensor, " e"]:
        """The same, one SAE after the other."""
        chosen = []
        for place, member in enumerate(self.members):
            own = self.weights.of_one(place)
            _, latents = Screen.of(y[place], own.encoder, own.encoder_bias, pre[place]).largest(member.config.k)
            chosen.append(latents.flatten())
        return torch.cat(chosen)

    def reconstruct(
        self, y: Float[Tensor, "s*b d"], pre: Float[Tensor, "s b m"], support: Support, codes: Float[Tensor, " e"]
    ) -> Forward:
        forward = super().reconstruct(y, pre, support, codes)
        return replace(forward, loss=forward.error.square().view(len(pre), -1).sum(dim=1) / pre.shape[1])

    def revive(self, dead: Int[Tensor, " dead"], y: Float[Tensor, "u b d"], forward: Forward) -> None:
        """One SAE after the other: AuxK chooses among the dead latents of each."""
        errors = forward.error.view(len(self.members), *y.shape[1:])
        for place, stream in enumerate(self._streams.tolist()):
            own = dead[dead // self.config.n_latents == place]
            if len(own):
                super().revive(own, y[stream], replace(forward, pre=forward.pre[place], error=errors[place]))

    def _pre_activations(
        self, latents: Int[Tensor, " l"], y: Float[Tensor, "b d"], forward: Forward
    ) -> Float[Tensor, "b l"]:
        if forward.pre.dtype == y.dtype:
            return forward.pre[:, latents % self.config.n_latents]
        return super()._pre_activations(latents, y, forward)

    def _adam(self) -> torch.optim.Optimizer:
        parts = map(self.weights.of_one, range(len(self.members)))
        return torch.optim.AdamW([group for part in parts for group in self.groups(part)], fused=True)

    def _optimise(self) -> None:
        gradients = StackedWeights(*(weight.grad for weight in self.weights))
        groups = self._optimiser.param_groups
        for place, member in enumerate(self.members):
            encoder, *others = gradients.of_one(place)
            for group, own in zip(groups[2 * place : 2 * place + 2], ([encoder], others), strict=True):
                group["lr"] = member.schedule.learning_rate(self._step)
                for parameter, gradient in zip(group["params"], own, strict=True):
                    parameter.grad = gradient
        self._optimiser.step()

    def _check_losses(self) -> None:
        losses, self._losses = self._losses, []
        if not losses:
            return
        broken = ~torch.isfinite(torch.stack(losses)).cpu()
        for place in broken.any(dim=0).nonzero().flatten().tolist():
            step = self._step - len(losses) + int(broken[:, place].int().argmax()) + 1
            self.broken_at[place] = self.broken_at[place] or step


class StackableTopKSAE(TopKSAE):
    """A TopK SAE that learns by itself, or in a stack."""

    config: StackableTopKSAEConfig

    @property
    def stack_key(self) -> Hashable:
        """Equal for SAEs that differ in k, learning_rate and seed only."""
        config = self.config
        same = (config.n_latents, config.passes, config.batch_rows, config.bfloat16_selection)
        return same if config.stacked else None

    @classmethod
    def stack(cls, learners: Sequence[StackableTopKSAE]) -> TopKStack:
        """Several SAEs that learn in one computation."""
        return TopKStack(learners)
