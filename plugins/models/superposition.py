"""Rows made of known features, more than there are dimensions, so that what a decomposition should find is known.

    x = Σ a_j v_j + ε

v_j are the f features' directions, drawn uniformly from the sphere; ε is Gaussian noise of expected norm `noise`.
Feature j is active in a share p_j of rows that falls like 1/j^`zipf`, with Σ p_j = `l0` (no p_j is above ½), and then
has a_j uniform between .5 and 1.5.

- Hierarchy: a share of the features, the rarest, are children: each has a parent among the others, drawn at random, and
  is active only where its parent is, p_child / p_parent of the time.
- Correlation: the others come in pairs of neighbours in frequency. Each is active where a Gaussian number is below its
  quantile p_j, and the numbers of a pair correlate by `correlation`. Else features and rows are independent.

It follows SynthSAEBench (arXiv 2602.14687), which has 16,384 features in 768 dimensions, in small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from harness import Capture, Codes, ConfigError, Truth, make_rows
from harness.plugins.models import SuperpositionConfig

SITE = "resid_post.0"
ROWS_OF_DOCUMENT = 64
_MAX_SHARE = 0.5


class Superposition:
    """Draws rows document by document, so that the features of a row can be drawn again from its place."""

    n_layers = 1

    def __init__(self, config: SuperpositionConfig) -> None:
        self.config = config
        self.width = config.width
        self.tokenizer_hash = f"superposition-{config.seed}"
        generator = torch.Generator().manual_seed(config.seed)
        directions = torch.randn(config.n_features, config.width, generator=generator, dtype=torch.float64)
        self.dictionary = (directions / directions.norm(dim=1, keepdim=True)).float()
        self.shares = _shares(config)
        n_children = round(config.hierarchy * config.n_features)
        self.n_roots = config.n_features - n_children
        self.parents = torch.randint(self.n_roots, (n_children,), generator=generator)

    def stored_capture(self, sites: Sequence[str]) -> Capture:
        """All rows, at the model's only site."""
        wrong = [site for site in sites if site != SITE]
        if wrong:
            raise ConfigError(f"model superposition: no activations at {', '.join(wrong)}; its only site is {SITE}.")
        n, size = self.config.n_rows, ROWS_OF_DOCUMENT
        x = torch.cat([self._rows(document) for document in range(-(-n // size))])[:n]
        index = np.arange(n)
        documents = (index // size).astype(str).astype(object)
        rows = make_rows({"document": documents, "window": np.zeros(n, int), "position": index % size})
        return Capture(dict.fromkeys(sites, x), rows)

    def truth(self, rows: pd.DataFrame) -> Truth:
        """The features, and their activations in these rows."""
        documents, positions = rows["document"].astype(int).to_numpy(), rows["position"].to_numpy()
        codes = self._sparse_codes(zip(documents, positions, strict=True), len(rows))
        return Truth(self.dictionary, codes, torch.cat([torch.full((self.n_roots,), -1), self.parents]))

    def _sparse_codes(self, places: Iterable[tuple[int, int]], n: int) -> Codes:
        active: list[tuple[Tensor, Tensor]] = []
        document, codes = None, torch.empty(0)
        for wanted, position in places:
            if wanted != document:
                document, codes = wanted, self._codes(wanted)
            latents = codes[position].nonzero().squeeze(1)
            active.append((codes[position][latents], latents))
        k = max((len(latents) for _, latents in active), default=0)
        values, indices = torch.zeros(n, k), torch.zeros(n, k, dtype=torch.long)
        for i, (own, latents) in enumerate(active):
            values[i, : len(own)], indices[i, : len(own)] = own, latents
        return Codes(values, indices, self.config.n_features)

    def _rows(self, document: int) -> Float[Tensor, "r d"]:
        x: Tensor = self._codes(document).double() @ self.dictionary.double()
        noise = torch.randn(x.shape, generator=self._generator("noise", document), dtype=torch.float64)
        scale: float = self.config.noise / self.width**0.5
        return (x + scale * noise).float()

    def _codes(self, document: int) -> Float[Tensor, "r f"]:
        """The activation of every feature in every row of a document."""
        generator, r, roots = self._generator("codes", document), ROWS_OF_DOCUMENT, self.n_roots
        of_pair = torch.randn(r, (roots + 1) // 2, generator=generator, dtype=torch.float64)
        own = torch.randn(r, roots, generator=generator, dtype=torch.float64)
        rho = self.config.correlation
        normal = rho**0.5 * of_pair.repeat_interleave(2, dim=1)[:, :roots] + (1 - rho) ** 0.5 * own
        is_active = normal < torch.special.ndtri(self.shares[:roots])
        of_parent = self.shares[roots:] / self.shares[self.parents]
        chosen = torch.rand(r, len(self.parents), generator=generator, dtype=torch.float64) < of_parent
        is_active = torch.cat([is_active, chosen & is_active[:, self.parents]], dim=1)
        return is_active * (0.5 + torch.rand(r, self.config.n_features, generator=generator))

    def _generator(self, what: str, document: int) -> torch.Generator:
        seeds = np.random.SeedSequence([self.config.seed, *what.encode(), document])
        return torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))


def _shares(config: SuperpositionConfig) -> Float[Tensor, " f"]:
    """p_j: proportional to 1/j^zipf, cut at ½, scaled so that they add up to the L0."""
    weights = torch.arange(1, config.n_features + 1, dtype=torch.float64) ** -config.zipf
    n_cut = 0
    while True:
        scale = (config.l0 - _MAX_SHARE * n_cut) / weights[n_cut:].sum()
        n_above = int((weights[n_cut:] * scale > _MAX_SHARE).sum())
        if n_above == 0:
            return torch.cat([torch.full((n_cut,), _MAX_SHARE, dtype=torch.float64), weights[n_cut:] * scale])
        n_cut += n_above
