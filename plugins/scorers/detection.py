"""Detection: how well scores of windows tell where a latent is active (Paulo et al. 2024, arXiv 2410.13928, 3.3).

auroc: over the test windows, active against silent; see `auroc`.
balanced_accuracy: over the test windows, cut where the explain windows are cut best. The explanation was made from
    these, yet a cut from windows that were kept out of it came to no more (.61 against .62 on SAE latents).
auroc_random_explanation: the auroc that the explanation of another latent has on the same test windows. It is not
    always ½: that active windows are longer than silent ones, for instance, shows up here.

The verdict on a window is whether its score is above that cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import harness
from harness.plugins.scorers.auroc import auroc, balanced_accuracy, best_threshold

METRIC = "auroc"
CHANCE = 0.5
MIN_WINDOWS = 5
"""Fewest windows of each class, active and silent."""

Scores = Sequence[float]


def detection_rows(
    latent: harness.Latent, of_explain: Scores, of_test: Scores, of_test_by_other: Scores | None
) -> list[harness.TableRow]:
    """The three metrics of one latent.

    Args:
        latent: whose windows were scored; it has enough of them.
        of_explain: the score of each explain window by the latent's explanation.
        of_test: that of each test window.
        of_test_by_other: that of each test window by the other latent's explanation; None where there is none.
    """
    return rows_at_cut(latent, best_threshold(*_by_class(latent.explain, of_explain)), of_test, of_test_by_other)


def rows_at_cut(
    latent: harness.Latent,
    threshold: float,
    of_test: Scores,
    of_test_by_other: Scores | None,
    shown: Sequence[str] | None = None,
) -> list[harness.TableRow]:
    """The metrics of one latent, cut at a known score; `shown` are the texts that were shown, if not the windows'."""
    n = len(latent.test)
    verdicts = verdicts_at_cut(latent.test, threshold, of_test, shown)
    test = _by_class(latent.test, of_test)
    control = None if of_test_by_other is None else auroc(*_by_class(latent.test, of_test_by_other))
    reason = "there is no other latent with an explanation" if control is None else None
    return [
        harness.TableRow(METRIC, auroc(*test), n, True, verdicts=verdicts),
        harness.TableRow("balanced_accuracy", balanced_accuracy(*test, threshold), n, True),
        harness.TableRow(f"{METRIC}_random_explanation", control, n, None, reason),
    ]


def verdicts_at_cut(
    windows: Sequence[harness.LatentWindow], threshold: float, scores: Scores, shown: Sequence[str] | None = None
) -> list[harness.Verdict]:
    """Verdicts that a window is active if its score is above the threshold, else silent."""
    cases = zip(windows, scores, shown or [window.text for window in windows], strict=True)
    return [
        harness.Verdict(window, window.is_active, bool(score > threshold), float(score), shown=_other(text, window))
        for window, score, text in cases
    ]


def _other(text: str, window: harness.LatentWindow) -> str | None:
    """The text that was shown, if it is not the window's."""
    return None if text == window.text else text


def chosen_windows(latent: harness.Latent, negatives: str) -> harness.Latent:
    """The latent with the chosen silent windows, in its halves and in those of its other latent.

    Raises:
        Undefined: a class of windows is too small for a score to mean anything.
    """
    chosen = latent.against(negatives)
    check_windows(chosen, "silent" if negatives == "random" else negatives)
    return chosen


def check_windows(latent: harness.Latent, silent: str = "silent") -> None:
    """Raise Undefined where a class of windows is too small for a score to mean anything."""
    for half, windows in {"explain": latent.explain, "test": latent.test}.items():
        n_active = sum(window.is_active for window in windows)
        for kind, n in {"active": n_active, silent: len(windows) - n_active}.items():
            if n < MIN_WINDOWS:
                raise harness.Undefined(f"{n} {kind} {half} windows, fewer than {MIN_WINDOWS}")


def _by_class(windows: Sequence[harness.LatentWindow], scores: Scores) -> tuple[list[float], list[float]]:
    """The scores of active windows, and of silent ones."""
    pairs = list(zip(windows, scores, strict=True))
    active, silent = ([score for window, score in pairs if window.is_active is kind] for kind in (True, False))
    return active, silent
