"""`harness explain` on a real suite, and cards drawn in a terminal that must not be told what to do."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.cli import main as cli
from harness.cli import verbs
from harness.cli.cards import draw_card, draw_window, sparkline
from harness.latents.lookup import Explained
from harness.wording import visible
from tests.support.shared import once

SUITE = (
    *("suite=smoke", "name=latents", "tokens.interp=4000", "tokens.fit=2000", "tokens.evaluation=500", "latents=8"),
    *("methods=[{method: pca, n_components: 16},{method: itda, k: [4, 2], max_atoms: 64}]",),
    *("models.0.sites=[resid_post.1]", "evaluations=[]", "similarities=[]", "scorers=[token_lookup]"),
)
ITDA = {k: f"itda(k={k}, max_atoms=64)" for k in (4, 2)}
HOSTILE = ["[red]x[/red]", "\x1b[31mred", ":apple:", "\\", "[/]", "\u202eabc", "\ud800", "\r\n", "\x9b2J", "<b>"]


@pytest.fixture(scope="module")
def folder(shared_folder: Path, warm_popen: type[subprocess.Popen]) -> Iterator[Path]:
    """Where the suite has run, as the working folder."""
    folder = shared_folder / "explain"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", warm_popen)
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))
        once(folder, _run)
        patch.chdir(folder)
        yield folder


def _run(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["run", *SUITE]) == 0


@pytest.fixture
def explain(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["explain", "suite=smoke", "name=latents", *words])
        return code, *capsys.readouterr()

    return call


def _json(found: tuple[int, str, str]) -> Any:
    code, output, errors = found
    assert code == 0, errors
    return json.loads(output)


def test_what_was_sampled_is_listed(explain: Any) -> None:
    content = _json(explain(f"method={ITDA[4]}", "--json"))
    code, output, _ = explain(f"method={ITDA[4]}")
    assert code == 0 and "itda(k=4, max_atoms=64) on random-gpt2 resid_post.1, seed 0" in output
    assert len(content["cards"]) == 8 and all(f"{card['index']} " in output for card in content["cards"])


def test_a_sampled_latent_has_its_card_and_scores(explain: Any) -> None:
    card = _json(explain("method=pca", "--json"))["cards"][0]
    words = ("method=pca", f"latent={card['index']}", f"sign={card['sign']}")
    found = _json(explain(*words, "--json"))
    scores, (explanation,) = found.pop("scores"), found.pop("explanations")
    assert found == card
    assert explanation["explainer"] == "token_statistics" and explanation["reason"] is None and explanation["text"]
    assert {score["scorer"] for score in scores} == {"token_lookup"} and any(score["chance"] == 0.5 for score in scores)
    code, output, _ = explain(*words)
    assert code == 0 and "Promoted next tokens" in output and "token_lookup" in output and "«" in output
    assert "Explained by token_statistics: " in output


def test_a_latent_that_was_not_sampled_is_made_on_the_spot(explain: Any) -> None:
    plan, store = verbs.read_plan(["suite=smoke", "name=latents"])
    explained = Explained.find(plan, store, {"method": ITDA[4]})
    content = explained.sampled()
    card = content["cards"][0]
    made = explained._make(str(card["index"]), card["sign"], content["signed"])
    lenses = [own.pop("lens")["promoted"] for own in (made, card)]
    assert made == card | {"weight": None}
    logits = [{item["token"]: item["logit"] for item in lens} for lens in lenses]
    assert logits[0] == pytest.approx(logits[1], abs=1e-5)  # one row of a batch is rounded otherwise than one alone

    known = {(card["index"], card["sign"]) for card in content["cards"]}
    index = next(i for i in range(64) if not {(i, 1), (i, -1)} & known)
    found = _json(explain(f"method={ITDA[4]}", f"latent={index}", "--json"))
    assert (found["index"], found["sign"], found["weight"], found["scores"]) == (index, 1, None, [])
    assert found["source"]["token"] and found["nearest"] and found["lens"]["promoted"]
    other = _json(explain(f"method={ITDA[4]}", f"latent={index}", "sign=-", "--json"))
    assert other["sign"] == -1 and other["lens"] != found["lens"] and other["explain"] != found["explain"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], f"3 decompositions match. Choose one by method= (pca(n_components=16), {ITDA[4]}, {ITDA[2]})."),
        (["method=itda"], f"2 decompositions match. Choose one by method= ({ITDA[4]}, {ITDA[2]})."),
        (["method=pcaa"], f"no method 'pcaa' here. Valid: {ITDA[2]}, {ITDA[4]}, pca(n_components=16)."),
        (["method=pca", "site=resid_post.3"], "no site 'resid_post.3' here. Did you mean 'resid_post.1'?"),
        (["method=pca", "latent=16"], "no latent 16: pca(n_components=16) on random-gpt2 resid_post.1, seed 0 has 16"),
        (["method=pca", "latent=-1"], "no latent -1"),
        (["method=pca", "latent=x"], "no latent x"),
        (["method=pca", "latent=1", "sign=2"], "sign is '2'; give 1 or -1."),
        (["method=pca", "tokens.interp=0", "scorers=[]"], "reads no latents. Add tokens.interp=20000"),
        (
            [*SUITE[2:], "method=pca", "latents=9"],
            "resid_post.1, seed 0: not done yet. Run the suite first.",
        ),
        (["latnt=3"], "latnt: unknown key"),
    ],
)
def test_what_is_wrong_is_said(explain: Any, words: list[str], message: str) -> None:
    code, output, errors = explain(*words)
    assert code == 2 and message in errors and not output and "Traceback" not in errors


def test_cards_that_are_gone_from_the_cache_are_told_from_those_never_made(
    explain: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(folder / "empty"))
    code, _, errors = explain("method=pca")
    assert code == 2 and "no longer in the cache" in errors and "name=ANOTHER" in errors
    assert cli.main(["run", *SUITE, "name=another", "methods=[{method: pca, n_components: 16}]"]) == 0
    assert explain("method=pca")[0] == 0


def _hostile_card(sign: int = 1) -> dict[str, Any]:
    tokens = [{"token": token, "n_active": 1, "n": 2, "mean": 1.0} for token in HOSTILE]
    lens = [{"token": token, "logit": 1.0} for token in HOSTILE]
    activations = [float(i) for i in range(len(HOSTILE))]
    window = {"document": "d", "tokens": HOSTILE, "activations": activations, "is_active": True, "sample": "top"}
    return {
        **{"index": 3, "sign": sign, "stratum": "rare", "weight": None, "threshold": 2.0, "density": 0.1},
        **{"active_share": 0.01, "max": 9.0, "n_active": 3, "n_documents": 2},
        **{"histogram": {"edges": [0.0, 1.0], "counts": [3]}, "top_tokens": tokens},
        **{"lens": {"promoted": lens, "suppressed": lens}, "nearest": [], "explain": [window], "test": []},
        **{"source": {"document": "d", "before": HOSTILE[1], "token": HOSTILE[0], "after": HOSTILE[4]}, "scores": []},
        "explanations": [{"explainer": "x", "text": None, "reason": "".join(HOSTILE)}],
    }


@pytest.mark.parametrize("has_colour", [True, False])
def test_text_of_a_corpus_is_inert(has_colour: bool) -> None:
    console = Console(file=io.StringIO(), record=True, width=200, force_terminal=has_colour)
    for part in draw_card("a[bold]b", _hostile_card(), has_colour):
        console.print(part)
    text = console.export_text(styles=False)
    text.encode()
    for shown in ("a[bold]b", "[red]x[/red]", "␛[31mred", ":apple:", "\\", "[/]", "�abc", "␍↵", "�2J", "<b>"):
        assert shown in text
    assert not set(text) & {"\x1b", "\u202e", "\ud800", "\r", "\x9b"}


def test_colours_tell_strength_and_sign() -> None:
    card = _hostile_card() | {"max": 4.0, "threshold": 1.0}
    window = {"tokens": ["a", "b", "c"], "activations": [0.0, 1.0, 4.0]}
    for sign in (1, -1):
        spans = draw_window(window, card | {"sign": sign}, has_colour=True).spans
        colours = [span.style.bgcolor.triplet for span in spans]  # type: ignore[union-attr]
        assert [span.start for span in spans] == [1, 2]
        weak, strong = ((c.red, c.blue) if sign > 0 else (c.blue, c.red) for c in colours)  # type: ignore[union-attr]
        assert weak[0] == strong[0] == 255 and strong[1] < weak[1] < 255
    assert draw_window(window, card, has_colour=False).plain == "ab«c»"


@given(st.text())
def test_what_is_shown_can_be_printed(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text) and shown.isprintable()
    assert visible("é 漢 😀") == "é 漢 😀"


def test_sparklines() -> None:
    assert sparkline([0, 1, 1000]) == " ▁█" and sparkline([5]) == "█"
