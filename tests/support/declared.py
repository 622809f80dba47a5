"""Whether rows are as their evaluation declares them."""

from __future__ import annotations

from collections.abc import Iterable

import harness


def assert_declared(evaluation: str, rows: Iterable[harness.TableRow]) -> None:
    """Every metric is declared, with the direction that rows give, and none is declared for nothing."""
    (spec,) = (spec for spec in harness.catalog("evaluation") if spec.name == evaluation)
    names = set()
    for row in rows:
        metric = next((metric for metric in spec.metrics if metric.named(row.metric)), None)
        assert metric is not None, row.metric
        assert row.higher_is_better is metric.higher_is_better or row.value is None, row.metric
        names.add(metric.name)
    assert names == {metric.name for metric in spec.metrics}
