"""The views of a suite, in the order in which terminal and W&B have them."""

from __future__ import annotations

from collections.abc import Iterator

from harness.tables.results import Results
from harness.views.circuits import circuit_views
from harness.views.latents import latents_views
from harness.views.methods import evaluation_views, places
from harness.views.scales import scales_views
from harness.views.similarities import models_view, pairs_view, ranks_view, task_views
from harness.views.view import View


def views_of(results: Results) -> Iterator[View]:
    """Methods by model and site, evaluations, similarities, circuits, latents with their scores, sizes of models."""
    suite, keys = results.suite, ["similarity", "similarity_config"]
    if suite.evaluations or not suite.tasks:  # where only similarities are judged, methods are there for dictionaries
        yield from (place.view for place in places(results))
    yield from evaluation_views(results)
    if suite.tasks:
        yield from task_views(results.task_scores)
        if len(results.similarity_ranks):
            yield ranks_view(results.similarity_ranks, suite.config.tokens)
    else:
        for _, lines in results.similarities.groupby(keys, sort=False):
            yield pairs_view(str(lines["similarity_label"].iloc[0]), lines)
        for _, lines in results.model_similarities.groupby(keys, sort=False):
            yield models_view(f"Models by {lines['similarity_label'].iloc[0]}", lines)
    yield from circuit_views(results.circuit_scores)
    yield from latents_views(results)
    yield from scales_views(results)
