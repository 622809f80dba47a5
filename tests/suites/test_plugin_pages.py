"""Each kind of plugin has a page, whose example is written, checked and run to the letter."""

from __future__ import annotations

import re
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from harness.contracts import similarity
from harness.registry.metric import ROLES
from harness.registry.parameters import describe
from harness.registry.specs import KINDS, SPEC_CLASSES
from harness.testing import _checks_of as checks_of
from harness.testing import raise_problems
from harness.testing.checks import run_check
from harness.testing.registration import Registration
from harness.testing.subjects import subject_of
from tests.support.documents import Reader, blocks

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "plugins"
MAX_WORDS = 900
"""A page is short: with its example it fits on two screens."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_conforms(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example, *others = blocks(PAGES / f"{kind}.md")
    assert example.file
    Path(example.file).write_text(example.text, encoding="utf-8")
    for program in (block.text for block in others if block.language == "python"):
        exec(compile(program, kind, "exec"), {})
    params = {"path": "story.txt"} if kind == "corpus" else {}
    declared = Registration(kind, Path(example.file).stem, params, (example.file,))
    config = declared.catalog.find(kind, declared.name).spec.config
    assert config is None or all(parameter["meaning"] for parameter in describe(config))
    subject = subject_of(kind, declared.create, declared)
    findings = [run_check(check, subject) for check in checks_of(kind)]
    raise_problems(findings)
    assert sum(finding.outcome == "holds" for finding in findings) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_gets_through(
    kind: str, tmp_path: Path, shared_cache: Path, warm_popen: type[subprocess.Popen]
) -> None:
    Reader(tmp_path, shared_cache, warm_popen, {"WANDB_MODE": "disabled"}).follow(PAGES / f"{kind}.md")
    assert list(tmp_path.glob("results/*/tables/*.csv"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_says_what_a_kind_must_and_may_have(kind: str) -> None:
    page = PAGES / f"{kind}.md"
    text = page.read_text(encoding="utf-8")
    assert len(text.split()) < MAX_WORDS
    for part in ("**It must have**", "**It may have**", "**A complete one**", "**Check it, and use it**"):
        assert part in text, part
    example, *_ = blocks(page)
    assert example.file and f'harness.{kind.title()}Spec("{Path(example.file).stem}"' in example.text
    assert f"harness new {kind} NAME" in text and f"harness check {kind}/" in text
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (PAGES / target).is_file(), target


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_has_every_word_of_needs_and_provides(kind: str) -> None:
    text = (PAGES / f"{kind}.md").read_text(encoding="utf-8")
    for words in SPEC_CLASSES[kind].words.values():
        assert not [word for word in words if f"`{word}`" not in text and f'"{word}"' not in text]


def test_the_page_and_the_template_of_evaluations_are_complete() -> None:
    text = (PAGES / "evaluation.md").read_text(encoding="utf-8")
    assert not [role for role in ROLES if f"`{role}`" not in text]
    template = files("harness.templates").joinpath("evaluation.template").read_text(encoding="utf-8")
    assert not [need for need in SPEC_CLASSES["evaluation"].words["needs"] if need not in template]


def test_the_page_of_similarities_has_every_ability_with_its_members() -> None:
    table = (PAGES / "similarity.md").read_text(encoding="utf-8").partition("**It may have**")[2]
    abilities = [value for value in vars(similarity).values() if getattr(value, "_is_runtime_protocol", False)]
    abilities = [ability for ability in abilities if "Claims" not in {base.__name__ for base in ability.__mro__}]
    assert similarity.StreamingPerSide in abilities
    for ability in abilities:
        members = [name for name in vars(ability) if not name.startswith("_")]
        assert members and not [name for name in (ability.__name__, *members) if f"{name}`" not in table]


def test_readers_are_led_to_the_pages() -> None:
    readme, tutorial = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/tutorial.md"))
    for kind in KINDS:
        assert f"(docs/plugins/{kind}.md)" in readme
        assert f"(plugins/{kind}.md)" in tutorial
    assert {page.stem for page in PAGES.iterdir()} == set(KINDS)
