"""The metrics of the built-in evaluations; the module of each says how they are computed. Imports no torch."""

from __future__ import annotations

from harness import Metric

RECONSTRUCTION = (
    Metric(
        "explained_variance",
        "explained variance",
        "1 − Σ‖x−x̂‖² / Σ‖x−μ‖² over held-out rows; predicting their mean gives 0",
        higher_is_better=True,
        format=".4f",
        role="quality",
        highest=1,
    ),
    Metric(
        "explained_variance_unmasked",
        "explained variance unmasked",
        "explained variance over all rows, sinks too",
        True,
    ),
    Metric(
        "explained_variance_per_token_legacy",
        "explained variance per token legacy",
        "mean over rows of 1 − ‖x−x̂‖²/‖x−μ‖²: the published form",
        higher_is_better=True,
    ),
    Metric(
        "cosine_error",
        "1\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}cos",
        "mean over rows of 1 − the cosine between a row and its reconstruction",
        higher_is_better=False,
        format=".4f",
        role="compared",
        lowest=0,
    ),
    Metric("mse", "MSE", "mean squared error of a dimension, in squared units of the activations", False),
    Metric("l2_ratio", "L2 ratio", "mean over rows of ‖x̂‖/‖x‖"),
    Metric(
        "relative_reconstruction_bias",
        "relative reconstruction bias",
        "Σ‖x̂‖² / Σ x·x̂; below 1 where reconstructions shrink",
    ),
    Metric("l0", "L0", "latents active on a token, on average", format=".1f", role="sparsity"),
    Metric("l1", "L1", "mean over rows of Σ|c|·‖row of the dictionary‖, in units of the activations"),
    Metric("density", "density", "L0 / the number of latents"),
    Metric(
        "alive_fraction",
        "alive",
        "share of latents active on any evaluation row; grows with their number",
        higher_is_better=True,
        format=".3f",
        role="listed",
    ),
    Metric("masked_row_share", "masked row share", "share of all rows that are left out as sinks"),
    Metric("masked_variance_share", "masked variance share", "share of the variance of all rows that sinks hold"),
)
DOWNSTREAM = (
    Metric("ce_clean", "CE clean (nats)", "nats of cross-entropy of the unhooked model"),
    Metric(
        "ce_increase",
        "CE increase (nats)",
        "nats of cross-entropy that the reconstruction costs the model",
        higher_is_better=False,
        format=".3f",
        role="effect",
    ),
    Metric("kl", "KL (nats)", "divergence of the predictions with the reconstruction from those without", False),
    Metric(
        "ce_increase_zero_ablation",
        "CE increase zero ablation (nats)",
        "nats of cross-entropy that 0 in place of the rows costs",
    ),
    Metric(
        "ce_increase_mean_ablation",
        "CE increase mean ablation (nats)",
        "nats of cross-entropy that the mean in place of the rows costs",
    ),
    Metric(
        "loss_recovered_zero_ablation",
        "loss recovered zero ablation",
        "(CE ablated − CE patched) / (CE ablated − CE clean), 0 standing in for the rows",
        higher_is_better=True,
    ),
    Metric(
        "loss_recovered_mean_ablation",
        "loss recovered mean ablation",
        "(CE ablated − CE patched) / (CE ablated − CE clean), their mean standing in for the rows",
        higher_is_better=True,
    ),
)
DICTIONARY_HEALTH = (
    Metric(
        "nearest_cosine",
        "nearest cosine",
        "mean over latents of the largest cosine to another; compare dictionaries of one shape",
        higher_is_better=False,
    ),
    Metric("collinear_share", "collinear share", "share of latents with another at a cosine above .9", False),
    Metric("duplicate_share", "duplicate share", "share of latents with another at a cosine above .999", False),
    Metric(
        "effective_rank",
        "effective rank (dimensions)",
        "how many dimensions the directions span: exp(−Σ p ln p), p = σ / Σσ",
    ),
    Metric("effective_rank_share", "effective rank share", "effective rank as a share of what it can be, min(m, d)"),
)
SPARSE_PROBING = (
    Metric("tasks", "tasks", "number of different questions: a label with two values asks one"),
    Metric("*_low", "* low", "lower end of the 95 % interval of a probe's score, over test documents"),
    Metric("*_high", "* high", "higher end of the 95 % interval of a probe's score, over test documents"),
    Metric("accuracy_*", "accuracy *", "share of documents that a probe classifies rightly; chance is .5", True),
    Metric("f1_*", "F1 *", "2 TP / (2 TP + FP + FN) of a probe on test documents", True),
    Metric(
        "auc_*",
        "AUC *",
        "probability that a probe ranks a document with the label above one without it; chance is .5",
        higher_is_better=True,
    ),
)
GROUND_TRUTH = (
    Metric("best_cosine", "best cosine", "mean over features of the largest |cosine| to a latent", True),
    Metric(
        "matched_cosine",
        "matched cosine",
        "mean over features of the |cosine| to a latent of their own, by an optimal assignment",
        higher_is_better=True,
    ),
    Metric("recovered_share", "recovered share", "share of features whose matched |cosine| is above .9", True),
    Metric(
        "f1",
        "F1",
        "mean over features of 2 TP / (2 TP + FP + FN): is the matched latent active when the feature is",
        higher_is_better=True,
    ),
)


def _of_scores(suffix: str, by: str) -> tuple[Metric, ...]:
    """The metrics that the score of a decomposition and the control share."""
    return (
        Metric(
            f"auroc{suffix}",
            f"AUROC{by}",
            "probability that a document after the change has a larger score than one before it; chance is .5",
            higher_is_better=True,
            format=".3f",
        ),
        Metric(f"auroc{suffix}_low", f"AUROC{by} low", "lower end of its 95 % interval, over documents", format=".3f"),
        Metric(f"auroc{suffix}_high", f"AUROC{by} high", "upper end of its 95 % interval", format=".3f"),
        *(
            Metric(
                f"delay_{share}{suffix}",
                f"delay at {share} %{by} (documents)",
                f"median number of documents until the alarm where {share} % are of the new kind",
                higher_is_better=False,
            )
            for share in (100, 30, 10)
        ),
        Metric(f"false_alarm_rate{suffix}", f"false alarms{by}", "share of unchanged streams with an alarm", False),
    )


DRIFT = (
    *_of_scores("", ""),
    *_of_scores("_unigram", " (token counts)"),
    Metric("alarm_bound", "bound on false alarms", "the most that the probability of one can be"),
    Metric("named_recall", "planted latents named", "share of latents planted to fire more often that are named", True),
    Metric("named_precision", "named latents planted", "share of named latents that were planted", True),
    Metric("named_wrongly", "batches named wrongly", "share of unchanged batches in which a latent is named", False),
)

HIERARCHY = (
    Metric("live_poles", "live poles", "poles of latents that fire on 10 rows or more"),
    Metric(
        "clusters",
        "clusters",
        "clusters of three poles or more that fire together more than all but 1 % of the joins of chance",
        role="listed",
    ),
    Metric("share_in_clusters", "share in clusters", "share of the live poles that are in a cluster", format=".3f"),
    Metric(
        "null_clusters",
        "null clusters",
        "clusters of firing whose documents have changed places, cut at the same height",
    ),
    Metric(
        "split_half_ari",
        "split-half ARI",
        "agreement of the clusters of two halves of the documents: 0 is chance, 1 is equal",
        higher_is_better=True,
        format=".3f",
    ),
    Metric(
        "modularity_over_rewired",
        "modularity over rewired",
        "modularity of the graph of co-firing less that of one of the same degrees with edges swapped at random",
        format=".3f",
        role="listed",
    ),
    Metric(
        "parents_found",
        "parents found",
        "poles that fire where another does more often than by chance, at a false discovery rate of 5 %",
        role="listed",
    ),
    Metric("truth_precision", "true parents", "share of parents found that are the true feature's", True, ".3f"),
    Metric("truth_recall", "parents recalled", "share of true children with a parent that were found", True, ".3f"),
)
