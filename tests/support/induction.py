"""A transformer built by hand, whose circuit is known: two layers of attention that continue a repeated token.

Its residual stream has a place for each token, each position, each previous token and each output. Head 2 of the first
layer copies the token before (`prev`), head 4 of the second attends to where the last token came before, and copies
what stands there to the output. All other heads are noise of small effect. Of `n_copies` of the first head each alone
would do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.circuits.pairs import Pairs
from harness.circuits.paths import OnPath, PathGradients, path_gradients
from harness.circuits.trials import SiteValues

VOCABULARY, N_TOKENS, N_HEADS = 20, 12, 6
TOKEN, POSITION = slice(0, VOCABULARY), slice(VOCABULARY, VOCABULARY + N_TOKENS)
PREVIOUS = slice(POSITION.stop, POSITION.stop + VOCABULARY)
OUTPUT = slice(PREVIOUS.stop, PREVIOUS.stop + VOCABULARY)
WIDTH = OUTPUT.stop
PREVIOUS_HEADS, INDUCTION_HEAD = (2, 3), 4
_NOISE, _OUTPUT_NOISE = 0.3, 0.01


class InductionModel:
    """Sites `attn_z.<layer>`, the additions of all heads side by side, and `resid_post.<layer>`."""

    def __init__(self, sharpness: float, n_copies: int = 1, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        shape = (2, N_HEADS, WIDTH, WIDTH)
        self.queries, self.keys, self.values = (torch.randn(shape, generator=draw) / WIDTH**0.5 for _ in range(3))
        self.values *= _NOISE
        self.values[..., OUTPUT] *= _OUTPUT_NOISE / _NOISE
        self.values[..., PREVIOUS] = 0
        for head in PREVIOUS_HEADS[:n_copies]:
            self._clear(0, head)
            for place in range(1, N_TOKENS):
                self.queries[0, head, POSITION.start + place, POSITION.start + place - 1] = sharpness
            self.keys[0, head, POSITION, POSITION] = torch.eye(N_TOKENS)
            self.values[0, head, TOKEN, PREVIOUS] = torch.eye(VOCABULARY)
        self._clear(1, INDUCTION_HEAD)
        self.queries[1, INDUCTION_HEAD, TOKEN, TOKEN] = sharpness * torch.eye(VOCABULARY)
        self.keys[1, INDUCTION_HEAD, PREVIOUS, TOKEN] = torch.eye(VOCABULARY)
        self.values[1, INDUCTION_HEAD, TOKEN, OUTPUT] = torch.eye(VOCABULARY)

    def _clear(self, layer: int, head: int) -> None:
        for matrices in (self.queries, self.keys, self.values):
            matrices[layer, head] = 0

    def runs(self, ids: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> InductionRuns:
        return InductionRuns(self, ids)


class InductionRuns:
    """Runs of windows of `N_TOKENS` tokens each."""

    def __init__(self, model: InductionModel, ids: Int[Tensor, "b t"]) -> None:
        self.model, self.ids = model, ids

    def activations(
        self, sites: Sequence[str], edits: Mapping[str, harness.Edit] | None = None
    ) -> dict[str, Float[Tensor, "b t w"]]:
        found: dict[str, Tensor] = {}
        self._forward(edits or {}, lambda site, x: found.update({site: x}) or x)
        return {site: found[site] for site in sites}

    def logits(self, edits: Mapping[str, harness.Edit] | None = None) -> Float[Tensor, "b v"]:
        return self._forward(edits or {}, lambda _, x: x)

    def gradients(
        self,
        sites: Sequence[str],
        of: Callable[[Float[Tensor, "b v"]], Float[Tensor, ""]],
        edits: Mapping[str, harness.Edit] | None = None,
    ) -> dict[str, Float[Tensor, "b t w"]]:
        kept: dict[str, Tensor] = {}

        def keep(site: str, x: Tensor) -> Tensor:
            if site in sites:
                kept[site] = x = x if x.requires_grad else x.clone().requires_grad_(True)
            return x

        total = of(self._forward(edits or {}, keep))
        return dict(zip(sites, torch.autograd.grad(total, [kept[site] for site in sites]), strict=True))

    def _forward(self, edits: Mapping[str, harness.Edit], see: Callable[[str, Tensor], Tensor]) -> Tensor:
        model, (b, t) = self.model, self.ids.shape

        def passed(site: str, x: Tensor) -> Tensor:
            return see(site, edits[site](x) if site in edits else x)

        x = torch.zeros(b, t, WIDTH)
        x.scatter_(2, self.ids[..., None], 1.0)
        x[:, torch.arange(t), POSITION.start + torch.arange(t)] = 1
        later = torch.full((t, t), -torch.inf).triu(1)
        for layer in range(2):
            queries, keys, values = (
                torch.einsum("btd,hde->bhte", x, own[layer]) for own in (model.queries, model.keys, model.values)
            )
            attention = torch.softmax(queries @ keys.transpose(-1, -2) + later, dim=-1)
            added = (attention @ values).transpose(1, 2).reshape(b, t, N_HEADS * WIDTH)
            added = passed(f"attn_z.{layer}", added)
            x = passed(f"resid_post.{layer}", x + added.reshape(b, t, N_HEADS, WIDTH).sum(dim=2))
        return x[:, -1, OUTPUT]


def induction_pairs(n_groups: int = 12) -> Pairs:
    """Texts with 2 at the fourth and 3 at the ninth place, one of which 0 or 1 goes before, and ends the text.

    In the patch it goes before the other one. A group has other tokens in all other places.
    """
    clean, patch, right, wrong, groups = [], [], [], [], []
    for group in range(n_groups):
        fill = (5 + torch.randperm(VOCABULARY - 5, generator=torch.Generator().manual_seed(group))).tolist()
        for token, is_second in ((0, group % 2), (1, 1 - group % 2)):
            texts = []
            for place in ((3, 8), (8, 3))[is_second]:
                text = list(fill[:N_TOKENS])
                text[4], text[9], text[-1] = 2, 3, token
                text[3], text[8] = (token, 4) if place == 3 else (4, token)
                texts.append(text)
            clean.append(texts[0])
            patch.append(texts[1])
            right.append(3 if is_second else 2)
            wrong.append(2 if is_second else 3)
            groups.append(f"fill {group}")
    n = len(clean)
    is_open = torch.ones(n, N_TOKENS, dtype=torch.bool)
    is_open[:, 0] = False
    return Pairs(
        *(torch.tensor(side) for side in (clean, patch)),
        torch.full((n,), N_TOKENS),
        is_open,
        *(torch.tensor(side) for side in (right, wrong)),
        tuple(groups),
    )


class Linear(harness.Decomposition):
    """Codes by a matrix, and rows back by its inverse; `centre` is what is taken off first."""

    def __init__(self, dictionary: Float[Tensor, "m d"], **attributes: Any) -> None:
        self.dictionary = dictionary
        self.encoder = torch.linalg.pinv(dictionary)
        vars(self).update(attributes)

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        return harness.Codes(x @ self.encoder)

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        return codes.values @ self.dictionary


def path_values(
    model: InductionModel, pairs: Pairs, sites: Sequence[str], **steps: int
) -> tuple[dict[str, SiteValues], dict[str, PathGradients]]:
    """The contrast capture of the sites, and how well gradients add up at each."""
    runs = model.runs(pairs.clean, pairs.lengths)
    clean, patch = runs.activations(sites), model.runs(pairs.patch, pairs.lengths).activations(sites)
    found = {
        site: path_gradients([OnPath(runs, site, clean[site], patch[site], pairs.is_open, pairs.measure)], **steps)
        for site in sites
    }
    return {site: SiteValues(clean[site], patch[site], found[site].gradients[0]) for site in sites}, found
