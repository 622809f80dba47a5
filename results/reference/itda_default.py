"""Results of ITDA's defaults on three families: the lines of itda_default.csv, and the table of itda_default.md.

python results/reference/itda_default.py [FOLDER_OR_GGUF_OF_GEMMA_3_270M]

Each fit of ITDA is followed by random rows and k-means of as many atoms, on the same rows and centred alike. Intervals
are 95 %, by bootstrap over the held-out documents.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

import harness

HERE = Path(__file__).parent
CONTEXT = 128
N_FIT, N_HELD_OUT = 4000, 2000
K = 40
SITES = {
    "smollm2-135m": ["resid_post.9", "resid_post.19"],
    "minilm-l6": ["resid_post.2", "resid_post.4"],
    "gemma-3-270m": ["resid_post.6", "resid_post.12"],
}
# As many rows away from the median norm as the suites leave out.
MAX_NORM_MULTIPLE = 10
N_RESAMPLES = 1000


def model_of(label: str, gemma: str) -> Any:
    """The model itself; two of three come as packages."""
    if label == "gemma-3-270m":
        return harness.create("model", "hf", path=gemma)
    return harness.create("model", "packaged", name=label)


class HeldOut(NamedTuple):
    """Rows that no fit has seen, with the documents that they are of."""

    x: Float[Tensor, "m d"]
    documents: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Squared distance of each row to the mean of all."""
        x = self.x.double()
        return (x - x.mean(dim=0)).square().sum(dim=1).numpy()


def rows_of(model: Any, sites: list[str]) -> Iterator[tuple[str, Float[Tensor, "n d"], HeldOut]]:
    """By site: rows to fit, and held-out rows of other documents, without sinks."""
    corpus = harness.create("corpus", "packaged", name="wikipedia")
    texts = [document.text for document in itertools.islice(corpus.documents(), 120)]
    captured = harness.capture(model, texts, sites, context=CONTEXT)
    documents = captured.rows["document"].to_numpy(copy=True)
    is_fit = torch.from_numpy(documents % 3 != 0)
    for site in sites:
        x = captured.x[site].float()
        norms = x.norm(dim=1)
        kept = norms <= MAX_NORM_MULTIPLE * norms[is_fit].median()
        held_out = (~is_fit & kept).nonzero().squeeze(1)[:N_HELD_OUT]
        yield site, x[is_fit & kept][:N_FIT], HeldOut(x[held_out], documents[held_out.numpy()])


def measured(
    method: str, fit: Float[Tensor, "n d"], held_out: HeldOut, **params: Any
) -> tuple[dict[str, Any], np.ndarray]:
    """Atoms, L0, explained variance and cosine error on held-out rows, whether the fit warned; and what it leaves of
    each row, squared.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decomposition = harness.fit(harness.create("method", method, **params), fit)
    codes = decomposition.encode(held_out.x)
    x, reconstruction = held_out.x.double(), decomposition.decode(codes).double()
    left = (x - reconstruction).square().sum(dim=1).numpy()
    measures = {
        "atoms": decomposition.n_latents,
        "l0": float((codes.to_dense(decomposition.n_latents) != 0).sum(dim=1).double().mean()),
        **with_interval("explained_variance", held_out.variance - left, held_out),
        "cosine_error": float((1 - torch.cosine_similarity(x, reconstruction)).mean()),
        "warned": bool(caught),
    }
    return measures, left


def with_interval(name: str, explained: np.ndarray, held_out: HeldOut) -> dict[str, float]:
    """The share of variance that rows explain, with its ends over draws of documents with replacement.

    The mean stays that of all rows. A difference of two methods' shares is drawn as one number, so it is paired.
    """
    _, number = np.unique(held_out.documents, return_inverse=True)
    sums = np.stack([np.bincount(number, weights=of_row) for of_row in (explained, held_out.variance)])
    n = sums.shape[1]
    drawn = sums[:, np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))].sum(axis=2)
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    value = float(explained.sum() / held_out.variance.sum())
    return {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}


def lines_of_site(fit: Float[Tensor, "n d"], held_out: HeldOut) -> Iterator[dict[str, Any]]:
    """ITDA by centring and threshold, each beside random rows and k-means of its size."""
    share = float(fit.double().mean(dim=0).square().sum() / fit.double().square().sum(dim=1).mean())
    settings = [(centre, t, "norm") for centre in (False, True) for t in (0.2, 0.1)]
    settings.append((False, 0.2 * (1 - share), "variance"))
    for centre, threshold, relative_to in settings:
        setting = {"mean_share": share, "centre": centre, "threshold": threshold, "threshold_of": relative_to}
        itda, left = measured("itda", fit, held_out, k=K, max_atoms=len(fit), threshold=threshold, centre=centre)
        yield {**setting, "method": "itda", **itda}
        for rival in ("random_dictionary", "kmeans"):
            found, left_of_rival = measured(rival, fit, held_out, n_latents=itda["atoms"], k=K, centre=centre)
            ahead = with_interval("itda_ahead_by", left_of_rival - left, held_out)
            yield {**setting, "method": rival, **found, **ahead}


def main() -> None:
    lines = []
    for label, sites in SITES.items():
        if label == "gemma-3-270m" and len(sys.argv) < 2:
            continue
        model = model_of(label, "".join(sys.argv[1:2]))
        for site, fit, held_out in rows_of(model, sites):
            place = {"model": label, "site": site, "n_fit": len(fit), "n_held_out": len(held_out.x)}
            lines += [{**place, **line} for line in lines_of_site(fit, held_out)]
            print(pd.DataFrame(lines).tail(15).to_string(), flush=True)
    pd.DataFrame(lines).to_csv(HERE / "itda_default.csv", index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
