"""Scorers that ask the subject model: its answers against the model run by hand, and latents whose scores are known."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import harness
from harness.asking.respondents import Respondents
from harness.planning.cells import Cell
from harness.registry.plugin_manager import Catalog, Registered
from harness.running.session import Session
from harness.stages import scoring
from harness.storage.activation_store import write_shard
from harness.storage.store import Store
from tests.support.tiny_models import TEXTS, OnlyRuns, save_tiny_language_model, save_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
LAST, FIRST = "resid_post.2", "resid_pre.0"
TOKEN = 260
"""Whose direction is planted; token 270 is that of the other latent."""
HEAD = 8.0
"""How much larger than at random the head is: sure of what it says."""


class Products(harness.Decomposition):
    """Codes are products with the rows of a dictionary; negative ones too."""

    signed = True

    def __init__(self, dictionary: Tensor) -> None:
        self.dictionary = dictionary

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(x @ self.dictionary.T)

    def decode(self, codes: harness.Codes) -> Tensor:
        raise AssertionError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save_tiny_language_model("llama", tmp_path_factory.mktemp("llama"))
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    model.lm_head.weight.data *= HEAD
    model.save_pretrained(path)
    save_tiny_model("gpt2", path / "gpt2")
    save_tiny_model("bert", path / "bert")
    return path


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).requires_grad_(False)


@pytest.fixture(scope="module")
def dictionaries(reference: Any) -> dict[str, Tensor]:
    """By site: what the head reads of two tokens, or what stands for them at the start; and what means nothing."""
    random = torch.nn.functional.normalize(torch.randn(1, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    made = {LAST: reference.lm_head.weight, FIRST: reference.model.embed_tokens.weight}
    rows = {site: torch.nn.functional.normalize(weight[[TOKEN, 270]], dim=1) for site, weight in made.items()}
    return {site: torch.cat([own, random]) for site, own in rows.items()}


@pytest.fixture
def session(tmp_path: Path, dictionaries: dict[str, Tensor]) -> Session:
    store = Store(tmp_path / "results", tmp_path / "cache")
    for site, dictionary in dictionaries.items():
        Products(dictionary).save(store.work_folder("fit", site))
        store.commit("fit", site, {})
    for name, norm in {"large": 1e6, "small": 1.0}.items():
        x = torch.full((4, 32), norm / 32**0.5)
        rows = harness.make_rows({"document": ["d"] * 4, "window": [0] * 4, "position": range(4)})
        work = store.work_folder("capture", name)
        work.mkdir(parents=True)
        write_shard(work, 0, x, rows)
        store.commit("capture", name, {"n_rows": 4, "width": 32})
    catalog = Catalog()
    for spec in harness.catalog():
        catalog.entries[spec.kind, spec.name] = Registered(spec, sys.modules[__name__], "here", "1")
    return Session(store, catalog, torch.device("cpu"), "logs/x.txt", emit=lambda event: None)


def _work(folder: Path, site: str = LAST, fit_capture: str = "large", **changes: Any) -> dict[str, Any]:
    source = {"model": {"name": "hf", "params": {"path": str(folder), "device": "cpu"}}, "site": site, "context": 64}
    subject = {"source": source, "fit_capture": fit_capture, "max_norm_multiple": 10.0}
    return {"fit": site, "encoder": None, "subject": subject, "seed": 0} | changes


def _window(tokens: tuple[str, ...], peak: int | None, name: str = "d") -> harness.LatentWindow:
    activations = tuple(2.0 * (place == peak) for place in range(len(tokens)))
    return harness.LatentWindow(name, tokens, activations, peak is not None, "random" if peak is not None else "silent")


def _latent(index: int, direction: Tensor, token: str, sign: int = 1, threshold: float = 0.0) -> harness.Latent:
    """Active on a token, among signs that the tokenizer joins with nothing."""
    active = [_window(("(", token, str(i)), 1, f"a{i}") for i in range(6)]
    silent = [_window(("(", ")", "="), None, f"s{i}") for i in range(6)]
    windows = (*active, *silent)
    return harness.Latent(index, sign, threshold, windows, windows, direction)


def _ask(session: Session, work: Any, latent: harness.Latent, *requests: Any) -> list[Any]:
    respondents = Respondents(work, session)
    respondents.prepare([(latent, request) for request in requests])
    return respondents.answer(latent, list(requests))


@pytest.mark.parametrize("sign, family", [(1, "."), (-1, "."), (1, "gpt2")])
def test_activations_are_those_of_captured_rows(
    session: Session, folder: Path, dictionaries: dict[str, Tensor], sign: int, family: str
) -> None:
    latent = _latent(0, dictionaries[LAST][0], "x", sign)
    (found,) = _ask(session, _work(folder / family), latent, harness.Activate(tuple(TEXTS)))
    model = harness.create("model", "hf", path=str(folder / family), device="cpu")
    captured = harness.capture(model, TEXTS, [LAST], context=64)
    values = (sign * captured.x[LAST] @ dictionaries[LAST][0]).clamp(min=0)
    for number, (text, response) in enumerate(zip(TEXTS, found, strict=True)):
        assert "".join(response.tokens) == text
        activations = torch.tensor(response.activations)
        if family == "gpt2":  # puts no special token before a window: its first token is no row
            starts_window = torch.arange(len(activations)) % 64 == 0
            assert not activations[starts_window].any()
            activations = activations[~starts_window]
        own = torch.from_numpy(captured.rows["document"].to_numpy() == number)
        torch.testing.assert_close(activations, values[own], rtol=1e-5, atol=1e-5)
    assert any(a > 0 for response in found for a in response.activations)


def test_what_is_asked_together_has_the_bits_of_what_is_asked_alone(
    session: Session, folder: Path, dictionaries: dict[str, Tensor]
) -> None:
    """Other latents are beside it, and more of them than are run at once."""
    latents = [_latent(index % 2, dictionaries[LAST][0], "x", (1, -1)[index % 3 == 0]) for index in range(20)]
    texts = [" ".join(TEXTS[0].split()[: 3 + 2 * place]) for place in range(40)]
    asked = [
        (latent, harness.Activate(tuple(texts[number : number + 1 + number % 5])))
        for number, latent in enumerate(latents)
    ]
    together = Respondents(_work(folder), session)
    together.prepare(asked)
    for latent, request in asked:
        assert together.answer(latent, [request]) == _ask(session, _work(folder), latent, request)


def test_rows_far_beyond_the_median_are_masked(session: Session, folder: Path, dictionaries: Any) -> None:
    latent = _latent(0, dictionaries[FIRST][0], "x")
    texts = harness.Activate((TEXTS[0],))
    ((whole,),) = _ask(session, _work(folder, FIRST), latent, texts)
    ((masked,),) = _ask(session, _work(folder, FIRST, "small", fit=FIRST), latent, texts)
    work = _work(folder, FIRST, "small")
    work["subject"]["max_norm_multiple"] = 1e-3
    ((none,),) = _ask(session, work, latent, texts)
    assert any(whole.activations) and whole == masked and not any(none.activations)


@torch.no_grad()
def test_steering_adds_on_the_last_token(session: Session, folder: Path, reference: Any, dictionaries: Any) -> None:
    site, prompt = "resid_post.0", "From my experience,"
    additions = 3 * dictionaries[LAST]
    (found,) = _ask(session, _work(folder, site), _latent(0, additions[0], "x"), harness.Steer(prompt, additions))
    ids = transformers.AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")["input_ids"]
    for addition, log_probabilities in zip(additions, found, strict=True):

        def add(module: Any, args: Any, output: Any, addition: Tensor = addition) -> Any:
            stream = output[0] if isinstance(output, tuple) else output
            stream[:, -1] += addition
            return output

        handle = reference.model.layers[0].register_forward_hook(add)
        expected = reference(input_ids=ids).logits[0, -1].double().log_softmax(dim=0)
        handle.remove()
        torch.testing.assert_close(log_probabilities, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=0.1)


@torch.no_grad()
def test_promoted_tokens_are_those_of_the_logit_lens(session: Session, folder: Path, reference: Any) -> None:
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    (found,) = _ask(session, _work(folder), _latent(0, directions[0], "x"), harness.Unembed(directions, 5))
    logits = reference.lm_head(reference.model.norm(directions))  # nothing comes of nothing: there are no biases
    for promoted, own in zip(found, logits, strict=True):
        assert promoted.ids.tolist() == own.topk(5).indices.tolist()
        assert torch.equal(promoted.unembedding, reference.lm_head.weight[promoted.ids])
    texts = harness.create("model", "hf", path=str(folder), device="cpu").token_texts(found[0].ids.tolist())
    assert list(found[0].texts) == texts


def _scores(session: Session, name: str, work: Any, latent: harness.Latent) -> dict[str, float | None]:
    scorer = harness.create("scorer", name)
    requests = scorer.plan(latent)
    rows = scorer.reduce(latent, requests, _ask(session, work, latent, *requests))
    return {row.metric: row.value for row in rows}


def test_what_the_head_reads_is_said_and_what_means_nothing_is_not(
    session: Session, folder: Path, dictionaries: dict[str, Tensor]
) -> None:
    (token,) = harness.create("model", "hf", path=str(folder), device="cpu").token_texts([TOKEN])
    planted, other, random = dictionaries[LAST]
    latent = dataclasses.replace(_latent(0, planted, token), other=_latent(1, other, "q"))
    scores = {name: _scores(session, name, _work(folder), latent) for name in ("output_score", "input_score")}
    assert scores["output_score"]["output_score"] > 0.9
    assert scores["output_score"]["output_score_random_explanation"] < 0.1
    assert scores["input_score"]["input_score"] == 1.0
    assert scores["input_score"]["input_score_random_explanation"] == 0.0
    swapped = dataclasses.replace(latent, direction=-planted)  # the sign is the direction's to have
    assert _scores(session, "input_score", _work(folder), swapped)["input_score"] == 0.0
    alone = _scores(session, "output_score", _work(folder), _latent(0, random, token))
    assert alone["output_score_random_explanation"] is None


@torch.no_grad()
def test_random_directions_give_the_chance_of_the_input_score(session: Session, folder: Path, reference: Any) -> None:
    (token,) = harness.create("model", "hf", path=str(folder), device="cpu").token_texts([TOKEN])
    latent = _latent(0, torch.randn(32, generator=torch.Generator().manual_seed(1)), token)
    found = _scores(session, "input_score", _work(folder), latent)["input_score_random_direction"]
    directions = torch.randn(1000, 32, generator=torch.Generator().manual_seed(2))
    top = reference.lm_head(reference.model.norm(directions)).topk(20).indices
    of_token = float((top == TOKEN).any(dim=1).double().mean())
    assert found is not None and abs(found - of_token) < 4 * (of_token * (1 - of_token) / 100) ** 0.5
    assert 0 < found < 0.3  # of some hundred tokens 20 are no rare catch


def test_coherence_is_in_deviations_of_random_directions(session: Session, folder: Path, reference: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    found = [
        _scores(session, "vocab_coherence", _work(folder), _latent(i, torch.randn(32, generator=generator), "x"))
        for i in range(12)
    ]
    values = torch.tensor([scores["vocab_coherence"] for scores in found])
    assert abs(values.mean()) < 4 / 12**0.5 and 0.3 < values.std() < 2.5
    assert len({scores["mean_cosine_random_directions"] for scores in found}) == 1


def test_a_latent_of_a_token_is_active_in_any_context(session: Session, folder: Path, dictionaries: Any) -> None:
    model = harness.create("model", "hf", path=str(folder), device="cpu")
    (token,), site = model.token_texts([TOKEN]), FIRST
    length = float((model.module.embed_tokens.weight[TOKEN]).norm())
    latent = _latent(0, dictionaries[site][0], token, threshold=0.9 * length)
    scores = _scores(session, "context_dependence", _work(folder, site), latent)
    assert scores == {"active_out_of_context": 1.0, "active_out_of_context_random_token": 0.0}
    deaf = dataclasses.replace(latent, threshold=1.1 * length)
    assert _scores(session, "context_dependence", _work(folder, site), deaf)["active_out_of_context"] == 0.0


@dataclasses.dataclass
class ToyConfig:
    path: str
    device: str


class Toy(OnlyRuns):
    """A model of one's own that runs texts and has no more abilities."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(harness.create("model", "hf", path=config.path, device=config.device))


def test_a_model_without_replay_is_named(session: Session, folder: Path, dictionaries: dict[str, Tensor]) -> None:
    spec = harness.ModelSpec("toy", 1, "runs texts", Toy, ToyConfig)
    session.catalog.entries["model", "toy"] = Registered(spec, sys.modules[__name__], "here", "1")
    work = _work(folder)
    work["subject"]["source"]["model"]["name"] = "toy"
    steer = harness.Steer("The quick brown fox", torch.zeros(1, 32))
    latent = _latent(0, dictionaries[LAST][0], "x")
    with pytest.raises(harness.Undefined, match=r"^its model, Toy, has no replay\(\): see harness\.HasHead$"):
        _ask(session, work, latent, steer)


def test_without_a_head_or_a_model_cells_are_skipped(session: Session, folder: Path) -> None:
    items = [dataclasses.asdict(window) for window in _latent(0, torch.zeros(1), "x").test]
    windows = {"explain": items, "test": items}
    card = {
        "index": 0,
        "sign": 1,
        "stratum": "density_1",
        "weight": 1.0,
        "density": 0.1,
        "active_share": 0.01,
    } | windows
    card |= {"threshold": 0.0, "source": None}
    work = session.store.work_folder("latents", "latents")
    work.mkdir(parents=True)
    (work / "cards.json").write_text(json.dumps({"cards": [card]}))
    session.store.commit("latents", "latents", {})
    reasons = []
    for name in ("output_score", "input_score"):
        work = _work(folder / "bert", scorer={"name": name, "params": {}}, latents="latents")
        cell = Cell("scoring", name, name, "g", work, {"method": "x", "scorer": name})
        scoring.run([cell], session)
        record = session.store.record(cell.key)
        assert record is not None and record.status == "skipped", record
        reasons.append(record.error)
    assert all("bert has no language-model head" in str(reason) for reason in reasons)
    unasked = dataclasses.replace(cell, key="unasked", work=work | {"subject": None})
    scoring.run([unasked], session)
    record = session.store.record("unasked")
    assert record is not None and "needs=('model',)" in str(record.error)
