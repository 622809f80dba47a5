"""The metrics that the engine itself measures: the cost of captures and fits, and of everything made from them."""

from __future__ import annotations

from harness.registry.metric import Metric

FIT_SECONDS = Metric(
    "fit_seconds",
    "fit seconds",
    "wall seconds of the method's own code in `start`, `partial_fit` and `finish`",
    higher_is_better=False,
    format="seconds",
    role="cost",
)
FIT_CPU_SECONDS = Metric(
    "fit_cpu_seconds",
    "fit CPU seconds",
    "processor seconds of the method's own code; other work on the machine hardly moves them",
    higher_is_better=False,
    format="seconds",
)
PARAMETERS = Metric("parameters", "parameters", "numbers that the decomposition holds", False, ",.0f", "listed")
CAPTURE_SECONDS = Metric(
    "capture_seconds",
    "seconds",
    "seconds of the forward pass over a split; shared by all sites read in it",
    False,
    "seconds",
)
TOTAL_SECONDS = Metric(
    "total_seconds", "with capture", "seconds of learning and of capturing the fit rows", False, "seconds", "listed"
)
"""A column of leaderboards only; no cell measures it."""
SEEDS = Metric("seeds", "seeds", "fits averaged; one seed gives no interval and no tier", format=".0f", role="listed")
"""A column of leaderboards only, which counts the fits of a line."""
COSTS = (
    CAPTURE_SECONDS,
    Metric("capture_tokens", "tokens", "rows of activations stored", format=",.0f"),
    Metric("capture_disk_bytes", "disk", "what the stored rows take on disk", False, "bytes"),
    Metric("capture_peak_memory_bytes", "peak memory", "the most memory that the forward pass took", False, "bytes"),
    Metric("masked_rows", "masked rows", "fit rows that no method saw: norms far above the median, NaN", format=",.0f"),
    FIT_SECONDS,
    FIT_CPU_SECONDS,
    Metric("tokens_seen", "tokens seen", "rows the method saw, repeats included", False, ",.0f"),
    Metric("tokens_distinct", "tokens distinct", "different rows that the method saw", False, ",.0f"),
    Metric("state_bytes", "state", "what the learner held in memory between batches", False, "bytes"),
    PARAMETERS,
    Metric(
        "stacked_learners",
        "stacked learners",
        "how many learnt in one computation, this one among them; `fit_seconds`, `fit_cpu_seconds` and `state_bytes` "
        "are equal shares of the whole, whatever each one's part. Only where there are several",
        format=",.0f",
    ),
    Metric(
        "fit_peak_memory_bytes",
        "fit peak memory",
        "the most memory that the pass took, shared by its learners",
        higher_is_better=False,
        format="bytes",
    ),
    Metric(
        "latents_seconds",
        "latents seconds",
        "seconds of reading the latents of a fit and making the cards of the sampled ones",
        higher_is_better=False,
        format="seconds",
    ),
    Metric("evaluation_seconds_*", "evaluation seconds *", "seconds of an evaluation", False, "seconds"),
    Metric("contrast_seconds", "contrast seconds", "seconds of capturing a behaviour's contrasts", False, "seconds"),
    Metric("circuit_seconds", "circuit seconds", "seconds of finding and judging a circuit", False, "seconds"),
    Metric("explanation_seconds_*", "explanation seconds *", "seconds of an explainer", False, "seconds"),
    Metric("scoring_seconds_*", "scoring seconds *", "seconds of a scorer", False, "seconds"),
    Metric(
        "judge_requests_*",
        "judge requests *",
        "what an explainer or scorer was the first to ask of the judge, in all runs of its cell",
        False,
        ",.0f",
    ),
    Metric("judge_prompt_tokens_*", "judge prompt tokens *", "tokens of the prompts of these requests", False, ",.0f"),
    Metric("judge_answer_tokens_*", "judge answer tokens *", "tokens of the answers to these requests", False, ",.0f"),
    Metric("judge_usd_*", "judge usd *", "US dollars that these requests cost", False, ".4f"),
)
