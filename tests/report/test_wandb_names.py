"""Names in W&B: the same for the same, and never one for two."""

from __future__ import annotations

import re

import pytest

from harness.report.wandb_names import columns, named


def test_plain_names_are_as_they_were() -> None:
    parts = ("explained variance", "random-gpt2", "resid_post.1", "pca(n_components=16, k=8)")
    assert named([(parts, 1)]) == {"explained_variance/random_gpt2/resid_post_1/pca_n_components_16_k_8": 1}
    assert named([(("L0", "é"), 2)]) == {"L0/e": 2}


@pytest.mark.parametrize(
    "labels",
    [("模型", "Модель", "نموذج"), ("a(b=1.5)", "a(b=1, 5)", "a b 1 5"), ("", "()", " "), ("x" * 300, "x" * 301)],
)
def test_no_two_have_one_name(labels: tuple[str, ...]) -> None:
    found = named([((label, "site"), label) for label in labels])
    assert sorted(found.values()) == sorted(labels)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+/site(_[0-9a-f]{8})?", name) and len(name) < 160 for name in found)


def test_a_name_of_another_script_depends_on_itself_alone() -> None:
    (alone,) = named([(("模型",), 1)])
    assert named([(("模型",), 1), (("Модель",), 2)])[alone] == 1


def test_the_last_of_the_same_counts() -> None:
    assert named([(("a", "b"), 1), (("a", "b"), 2)]) == {"a/b": 2}


def test_columns_of_one_heading_are_numbered() -> None:
    assert columns(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]
