"""Simulations of how often intervals hold the truth and tiers hold together: the tables of statistics.md, simulated.

python results/reference/statistics.py > tables.md        # about 2 minutes on one core
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from harness.plugins.evaluations.probe_intervals import interval_of_share
from harness.tables.interpretability import replicates as latent_replicates
from harness.tables.intervals import Replicates, interval
from harness.tables.stats import Measured, OfModels, model_replicates, replicates, tiers

N_INTERVALS, N_BOARDS = 2000, 400
Generator = np.random.Generator
Draw = Callable[[Generator], Replicates | tuple[float, float, float]]
LENGTHS: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "alike": lambda generator, n: generator.uniform(50, 128, n),
    "lognormal(0, 1)": lambda generator, n: generator.lognormal(0, 1, n),
    "Pareto(2)": lambda generator, n: generator.pareto(2, n) + 1,
}
RATIOS: dict[str, tuple[Callable[[Generator, int], np.ndarray], float]] = {
    "normal": (lambda generator, n: 0.7 + 0.05 * generator.standard_normal(n), 0.7),
    "1 − beta(1, 6)": (lambda generator, n: 1 - generator.beta(1, 6, n), 6 / 7),
    "lognormal(0, .5)": (lambda generator, n: 0.8 - 0.1 * (generator.lognormal(0, 0.5, n) - np.exp(0.125)), 0.8),
    "lognormal(0, 1)": (lambda generator, n: 0.8 - 0.1 * (generator.lognormal(0, 1, n) - np.exp(0.5)), 0.8),
}


def covered(draw: Draw, truth: float) -> tuple[float, float]:
    """The share of intervals that hold the truth, and their median width by that of value ± 1.96 true deviations."""
    generator, found = np.random.default_rng(0), []
    for _ in range(N_INTERVALS):
        one = draw(generator)
        found.append((one.value, *interval(one)) if isinstance(one, Replicates) else one)
    values, low, high = np.array(found).T
    deviation = values.std()
    width = np.median(high - low) / (2 * 1.96 * deviation) if deviation else np.nan
    return float(np.mean((low <= truth + 1e-12) & (truth - 1e-12 <= high))), float(width)


def of_documents(numerators: np.ndarray, denominators: np.ndarray) -> Replicates:
    """A metric of one method; a seed a line."""
    denominators = np.broadcast_to(denominators, numerators.shape).astype(float)
    (found,) = replicates([Measured(numerators, denominators)])
    assert found is not None
    return found


def documents() -> Iterator[tuple[str, str, str, Draw, float]]:
    """Methods that are the same in every seed."""
    for n in (10, 20, 40):
        for length, draw_length in LENGTHS.items():
            for ratio, (draw_ratio, truth) in RATIOS.items():

                def draw(generator: Generator) -> Replicates:
                    rows = draw_length(generator, n)  # noqa: B023  # called before the loop goes on
                    return of_documents(np.stack([draw_ratio(generator, n) * rows] * 3), rows)  # noqa: B023

                yield f"{n} documents", f"lengths {length}", f"ratios {ratio}", draw, truth


def tokens() -> Iterator[tuple[str, str, str, Draw, float]]:
    """Means over the tokens of documents of very uneven length: the fewer they are, the more these vary."""
    for n in (10, 20, 40, 100):
        for shape in (0.2, 1.0):

            def draw(generator: Generator) -> Replicates:
                rows = np.ceil(generator.lognormal(3, 1.2, n))  # noqa: B023
                return of_documents(np.stack([generator.gamma(shape * rows, 1 / shape)] * 3), rows)  # noqa: B023

            yield f"{n} documents", "lengths lognormal(3, 1.2)", f"tokens gamma({shape:g})", draw, 1.0


def long_documents() -> Iterator[tuple[str, str, str, Draw, float]]:
    """Ratios that rise or fall with the length of the document, of deviation .05 beside."""
    for n in (10, 20, 40, 100):
        for slope in (-0.1, -0.05, 0.05):

            def ratios(generator: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
                rows = np.ceil(generator.lognormal(3, 1.2, n))
                own = 0.7 + slope * (np.log(rows) - 3) / 1.2 + 0.05 * generator.standard_normal(n)  # noqa: B023
                return own * rows, rows

            def draw(generator: Generator) -> Replicates:
                numerators, rows = ratios(generator, n)  # noqa: B023
                return of_documents(np.stack([numerators] * 3), rows)

            sums = ratios(np.random.default_rng(1), 2_000_000)
            truth = float(sums[0].sum() / sums[1].sum())
            yield f"{n} documents", "lengths lognormal(3, 1.2)", f"a deviation of them: {slope:+g}", draw, truth


def seeds() -> Iterator[tuple[str, str, str, Draw, float]]:
    """Methods whose seeds have effects, and documents that differ from seed to seed."""
    for n_seeds in (2, 3, 5):
        for of_document, of_both in ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0)):
            for of_seed in (0.0, 0.1, 0.3, 1.0):

                def draw(generator: Generator) -> Replicates:
                    values = of_document * generator.standard_normal(40)  # noqa: B023
                    values = values + of_both * generator.standard_normal((n_seeds, 40))  # noqa: B023
                    values += of_seed * generator.standard_normal((n_seeds, 1))  # noqa: B023
                    rows = generator.uniform(50, 128, 40)
                    return of_documents(values * rows, rows)

                what = f"deviations: documents {of_document:g}, with seeds {of_both:g}"
                yield f"{n_seeds} seeds, 40 documents", what, f"seeds {of_seed:g}", draw, 0.0


def shares() -> Iterator[tuple[str, str, str, Draw, float]]:
    """Right answers among those of a document."""
    for n in (10, 40):
        for most in (1, 5, 100):
            for share in (0.5, 0.9, 0.99, 1.0):

                def draw(generator: Generator) -> Replicates:
                    asked = generator.integers(1, most + 1, n)  # noqa: B023
                    right = generator.binomial(asked, share).astype(float)  # noqa: B023
                    return of_documents(np.stack([right] * 3), asked.astype(float))

                each = f"1 to {most} answers each" if most > 1 else "1 answer each"
                yield f"{n} documents", each, f"share {share:g}", draw, share


def models() -> Iterator[tuple[str, str, str, Draw, float]]:
    """Scores over ordered pairs of models, and over single ones."""
    for m in (3, 5, 10):
        off = 1 - np.eye(m)
        for what, of_model, of_pair in (("models", 1.0, 0.3), ("both", 0.5, 1.0), ("pairs", 0.0, 1.0)):

            def draw(generator: Generator) -> Replicates:
                own = of_model * generator.standard_normal(m)  # noqa: B023
                values = own[:, None] + own + of_pair * generator.standard_normal((m, m))  # noqa: B023
                found = model_replicates(OfModels(values * off, off))  # noqa: B023
                assert found is not None
                return found

            yield f"{m} models", "all pairs", f"luck of {what}", draw, 0.0
        for share in (0.5, 0.9, 0.97, 1.0):

            def answers(generator: Generator) -> Replicates:
                right = generator.binomial(24, share, m).astype(float)  # noqa: B023
                found = model_replicates(OfModels(np.diag(right), 24.0 * np.eye(m)))  # noqa: B023
                assert found is not None
                return found

            yield f"{m} models", "24 answers each", f"share {share:g}", answers, share


def latents() -> Iterator[tuple[str, str, str, Draw, float]]:
    """Mean scores of latents in four strata, which stand for 50, 10, 20 and 20 of a hundred."""
    means, stands_for = (0.5, 0.6, 0.7, 0.8), (50.0, 10.0, 20.0, 20.0)
    truth = float(np.dot(means, stands_for) / 100)
    for n_latents in (12, 20, 100):
        for n_seeds, of_seed in ((1, 0.0), (3, 0.0), (3, 0.05)):

            def draw(generator: Generator) -> Replicates:
                n = n_latents // 4  # noqa: B023
                found = latent_replicates(
                    [
                        [
                            np.stack(
                                [np.full(n, w / n), np.ones(n), mean + shift + 0.14 * generator.standard_normal(n)]
                            )
                            for mean, w in zip(means, stands_for, strict=True)
                        ]
                        for shift in of_seed * generator.standard_normal(n_seeds)  # noqa: B023
                    ]
                )
                assert found is not None
                return found

            yield f"{n_latents} latents", f"{n_seeds} seed" + "s" * (n_seeds > 1), f"seeds {of_seed:g}", draw, truth


def dense_latents() -> Iterator[tuple[str, str, str, Draw, float]]:
    """Density-weighted means, in one seed, of latents drawn evenly from the quarters of 2,000 by their density."""
    for n_latents in (12, 20, 60, 100):
        for spread, fall in ((1.0, 0.0), (1.0, 0.15), (1.5, 0.0), (1.5, 0.15), (2.0, 0.15)):
            generator = np.random.default_rng(5)
            density = np.sort(np.minimum(generator.lognormal(np.log(0.003), spread, 2000), 0.6))
            scores = 0.7 - fall * np.log10(density / 0.003) + 0.08 * generator.standard_normal(2000)
            strata = np.array_split(np.stack([density, scores.clip(0, 1)]), 4, axis=1)

            def draw(generator: Generator) -> Replicates:
                n = n_latents // 4  # noqa: B023
                drawn = [stratum[:, generator.choice(500, n, replace=False)] for stratum in strata]  # noqa: B023
                found = latent_replicates([[np.stack([np.full(n, 500 / n), *units]) for units in drawn]])
                assert found is not None
                return found

            truth = float(np.average(scores.clip(0, 1), weights=density))
            of_them = f"densities lognormal(log .003, {spread:g})"
            yield f"{n_latents} latents", of_them, f"falls {fall:g} in tenfold density", draw, truth


def probes() -> Iterator[tuple[str, str, str, Draw, float]]:
    """AUCs of normal scores."""
    for n_with, n_without in ((10, 10), (10, 40), (30, 30)):
        for auc, distance in ((0.5, 0.0), (0.76, 1.0), (0.99, 3.3)):

            def draw(generator: Generator) -> tuple[float, float, float]:
                high = generator.normal(distance, 1, n_with)  # noqa: B023
                low = generator.normal(0, 1, n_without)  # noqa: B023
                above = (high[:, None] > low).astype(float)
                drawn = [generator.multinomial(n, np.full(n, 1 / n), 200) for n in above.shape]
                own = np.einsum("ri,ij,rj->r", drawn[0], above, drawn[1]) / above.size
                return float(above.mean()), *interval_of_share(float(above.mean()), own.std(), min(above.shape))

            truth = {0.5: 0.5, 0.76: 0.7602, 0.99: 0.9902}[auc]
            yield f"{n_with} and {n_without} documents", "probes", f"AUC {auc:g}", draw, truth


def board(generator: Generator, truths: Sequence[float], of_seed: Sequence[float], n: int = 40) -> list[int]:
    """Tiers of methods with three seeds: documents vary by .1, methods on a document by .05."""
    rows, documents_ = generator.uniform(50, 128, n), 0.1 * generator.standard_normal(n)
    methods = []
    for truth, spread in zip(truths, of_seed, strict=True):
        values = truth + documents_ + 0.05 * generator.standard_normal(n) + spread * generator.standard_normal((3, 1))
        methods.append(Measured(values * rows, np.broadcast_to(rows, values.shape)))
    return [tier or 0 for tier in tiers([one.value for one in methods], replicates(methods))]


def boards() -> Iterator[tuple[str, ...]]:
    """Yield how often equal methods are split."""
    for k in (2, 8, 20):
        for what, spread in (
            ("0", [0.0] * k),
            (".005", [0.005] * k),
            (".02", [0.02] * k),
            ("0 or .02", [0.0, 0.02] * (k // 2)),
        ):
            for n in (10, 40):
                generator = np.random.default_rng(1)
                n_boards = N_BOARDS // (1 + 3 * (k > 8))
                split = np.mean([max(board(generator, [0.7] * k, spread, n)) > 1 for _ in range(n_boards)])
                yield f"{k} methods, {n} documents", what, f"{split:.3f}".lstrip("0")


def power() -> Iterator[tuple[str, ...]]:
    """Yield how often a method that is better than seven equal ones is alone in tier 1."""
    for what, spread in (("0", 0.0), (".002", 0.002), (".01", 0.01)):
        cells = []
        for d in (0.02, 0.04, 0.08, 0.16):
            generator = np.random.default_rng(1)
            found = [board(generator, [0.7 + d, *[0.7] * 7], [spread] * 8) for _ in range(N_BOARDS // 4)]
            cells.append(f"{np.mean([own[0] == 1 and own.count(1) == 1 for own in found]):.2f}".lstrip("0") or "0")
        yield what, *cells


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print("| " + " | ".join(headings) + " |\n|" + "---|" * len(headings))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def line(what: str, of_them: str, truth: str, draw: Draw, expected: float) -> list[str]:
    held, width = covered(draw, expected)
    return [what, of_them, truth, f"{held:.3f}".lstrip("0"), "" if np.isnan(width) else f"{width:.2f}"]


def main() -> None:
    for what in (documents, tokens, long_documents, seeds, shares, models, latents, dense_latents, probes):
        print(f"## {what.__name__.capitalize().replace('_', ' ')}\n")
        table(["units", "of them", "truth", "holds it", "width"], (line(*one) for one in what()))
    print("## Boards\n")
    table(["equal methods", "deviation of seeds", "split"], boards())
    print("The share of boards on which the best of eight methods is alone in tier 1; 40 documents, three seeds:\n")
    table(["deviation of seeds", *(f"better by {d}" for d in (".02", ".04", ".08", ".16"))], power())


if __name__ == "__main__":
    main()
