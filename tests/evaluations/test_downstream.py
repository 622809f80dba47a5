"""The evaluation `downstream` against literal patching: one window at a time, a plain hook, the sums written out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import harness
from harness.plugins.evaluations import downstream
from tests.support.declared import assert_declared
from tests.support.tiny_models import TEXTS, save_tiny_language_model, save_tiny_model

CONTEXT = 16
BLOCKS = {
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "llama": "model.layers",
    "gemma2": "model.layers",
    "gemma3": "model.layers",
    "qwen3": "model.layers",
    "opt": "model.decoder.layers",
    "bloom": "transformer.h",
    "falcon": "transformer.h",
    "mixtral": "model.layers",
}
METRICS = {
    "ce_clean": None,
    "ce_increase": False,
    "kl": False,
    "ce_increase_zero_ablation": None,
    "loss_recovered_zero_ablation": True,
    "ce_increase_mean_ablation": None,
    "loss_recovered_mean_ablation": True,
}


class Shrink(harness.Decomposition):
    """Moves every row towards zero, by a different share in each dimension."""

    def __init__(self, width: int) -> None:
        self.factor = torch.linspace(0.2, 1.1, width)
        self.n_latents = width

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(x * self.factor)

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.values


class Same(Shrink):
    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(x)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model both ways, and rows to fit on."""

    model: Any
    reference: Any
    family: str
    fit_x: Tensor

    def context(self, **changes: Any) -> harness.EvaluationContext:
        options = {"context": CONTEXT, "fit_x": self.fit_x, "max_norm_multiple": 1.15}
        return harness.evaluation_context(self.model, TEXTS, "resid_post.1", **(options | changes))


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    loaded: dict[str, Case] = {}

    def get(family: str) -> Case:
        if family not in loaded:
            folder = save_tiny_language_model(family, tmp_path_factory.mktemp(family))
            model = harness.create("model", "hf", path=str(folder))
            reference = transformers.AutoModelForCausalLM.from_pretrained(folder)
            fit_x = harness.capture(model, TEXTS[:2], ["resid_post.1"], context=CONTEXT).x["resid_post.1"]
            loaded[family] = Case(model, reference, family, fit_x)
        return loaded[family]

    return get


def evaluate(decomposition: harness.Decomposition, context: harness.EvaluationContext) -> dict[str, harness.TableRow]:
    rows = harness.create("evaluation", "downstream").evaluate(decomposition, context)
    assert_declared("downstream", rows)
    assert [row.metric for row in rows] == list(METRICS)
    for row in rows:
        assert (row.value is None) == (row.reason is not None) == (row.documents is None)
        if row.documents is not None:
            assert row.higher_is_better is METRICS[row.metric]
            assert len(row.documents.numerator) == len(row.documents.denominator) == context.n_documents
            assert sum(row.documents.numerator) / sum(row.documents.denominator) == pytest.approx(row.value)
    return {row.metric: row for row in rows}


class Literal:
    """Somebody's own patching, on the whole window and nothing shared; `wrong` names a mistake to make."""

    def __init__(self, case: Case, wrong: str = "") -> None:
        self.case, self.wrong = case, wrong
        self.threshold = 1.15 * float(case.fit_x.double().norm(dim=1).quantile(0.5))
        self.sums: dict[str, float] = dict.fromkeys(("n", "clean", "patched", "zero", "mean", "kl"), 0.0)
        self.n_masked = 0
        for text in TEXTS:
            for ids, special in self.windows(text):
                self.add(ids, special)

    def windows(self, text: str) -> list[tuple[list[int], list[bool]]]:
        """By hand: llama, gemma and opt start every window with <s>."""
        bos = [0] if self.case.family in ("llama", "gemma2", "gemma3", "opt") else []
        ids = self.case.model.tokenizer(text, add_special_tokens=False)["input_ids"]
        size = CONTEXT - len(bos)
        parts = [ids[i : i + size] for i in range(0, len(ids), size)]
        return [(bos + part, [True] * len(bos) + [False] * len(part)) for part in parts]

    def forward(self, ids: list[int], change: Callable[[Tensor], Tensor]) -> Tensor:
        def hook(module: Any, args: Any, output: Any) -> Any:
            return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])

        handle = self.case.reference.get_submodule(BLOCKS[self.case.family])[1].register_forward_hook(hook)
        with torch.no_grad():
            logits = self.case.reference(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        handle.remove()
        return torch.log_softmax(logits.double(), dim=-1)

    def add(self, ids: list[int], special: list[bool]) -> None:
        seen: list[Tensor] = []
        clean = self.forward(ids, lambda x: seen.append(x.clone()) or x)
        x = seen[0][0]
        allowed = ~torch.tensor(special)
        allowed[0] = False
        sinks = x.double().norm(dim=1) > self.threshold
        self.n_masked += int((allowed & sinks).sum())
        patch = allowed & ~sinks

        def put(value: Callable[[Tensor], Tensor], where: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda x: torch.where(where[:, None], value(x), x)

        shrink = Shrink(x.shape[1])
        mean = self.case.fit_x.double().mean(dim=0).float()
        ablated = allowed if self.wrong == "ablation ignores the mask" else patch
        if self.wrong == "ablation of the first":
            ablated = patch | (torch.arange(len(ids)) == 0)
        runs = {
            "clean": clean,
            "patched": self.forward(ids, put(lambda x: x * shrink.factor, patch)),
            "zero": self.forward(ids, put(torch.zeros_like, ablated)),
            "mean": self.forward(ids, put(lambda x: mean.expand_as(x), ablated)),
        }
        shift = 0 if self.wrong == "targets not shifted" else 1
        for t in range(len(ids) - 1):
            if (patch[t] or self.wrong == "all counted") and not special[t + 1]:
                self.sums["n"] += 1
                for name, log_probabilities in runs.items():
                    self.sums[name] -= float(log_probabilities[t, ids[t + shift]])
                p = clean[t].exp()
                self.sums["kl"] += float((p * (clean[t] - runs["patched"][t])).sum())

    def metrics(self) -> dict[str, float]:
        ce = {name: value / self.sums["n"] for name, value in self.sums.items()}
        found = {"ce_clean": ce["clean"], "ce_increase": ce["patched"] - ce["clean"], "kl": ce["kl"]}
        for name in ("zero", "mean"):
            found[f"ce_increase_{name}_ablation"] = ce[name] - ce["clean"]
            found[f"loss_recovered_{name}_ablation"] = (ce[name] - ce["patched"]) / (ce[name] - ce["clean"])
        return found


@pytest.mark.parametrize("family", BLOCKS)
def test_equals_literal_patching(family: str, load: Any) -> None:
    case = load(family)
    rows, literal = evaluate(Shrink(32), case.context()), Literal(case)
    assert 0 < literal.n_masked < literal.sums["n"]
    for name, value in literal.metrics().items():
        if "recovered" in name and rows[name].value is None:
            assert literal.metrics()[name.replace("loss_recovered", "ce_increase")] < 0.01
            continue
        # Logits in float32 have errors of some 1e-6; what was recovered is divided by 0.01 nats or more.
        assert rows[name].value == pytest.approx(value, abs=1e-4 if "recovered" in name else 1e-6, rel=1e-6)
        assert rows[name].n == literal.sums["n"]


@pytest.mark.parametrize(
    ("wrong", "metric"),
    [
        ("ablation ignores the mask", "ce_increase_zero_ablation"),
        ("ablation of the first", "ce_increase_zero_ablation"),
        ("targets not shifted", "ce_clean"),
        ("all counted", "ce_clean"),
    ],
)
def test_literal_patching_with_a_common_mistake_differs(wrong: str, metric: str, load: Any) -> None:
    case = load("llama")
    value = evaluate(Shrink(32), case.context())[metric].value
    assert abs(value - Literal(case, wrong).metrics()[metric]) > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mixtral"])
def test_identity_changes_nothing_at_all(family: str, load: Any) -> None:
    rows = evaluate(Same(32), load(family).context())
    assert rows["ce_increase"].value == 0.0 and rows["kl"].value == 0.0
    for name in ("zero", "mean"):
        assert rows[f"loss_recovered_{name}_ablation"].value in (1.0, None)


def test_the_mean_recovers_nothing_of_mean_ablation(load: Any) -> None:
    case = load("gpt2")
    mean = harness.fit(harness.create("method", "mean"), case.fit_x)
    rows = evaluate(mean, case.context())
    assert rows["ce_increase"].value == pytest.approx(rows["ce_increase_mean_ablation"].value, abs=1e-6)


def test_documents_add_up_from_documents_alone(load: Any) -> None:
    case = load("llama")
    together = evaluate(Shrink(32), case.context())["ce_increase"].documents
    assert together is not None
    for number, text in enumerate(TEXTS):
        options = {"context": CONTEXT, "fit_x": case.fit_x, "max_norm_multiple": 1.15}
        alone = evaluate(Shrink(32), harness.evaluation_context(case.model, [text], "resid_post.1", **options))
        assert together.denominator[number] == alone["ce_increase"].n
        assert together.numerator[number] == pytest.approx(
            alone["ce_increase"].value * alone["ce_increase"].n, abs=1e-4
        )


def test_clean_runs_and_ablations_are_shared(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = load("gpt2")
    context = case.context()
    evaluate(Shrink(32), context)
    ran: list[str] = []
    handles = [
        block.call.module.register_forward_hook(lambda *_, layer=layer: ran.append(f"{layer}"))
        for layer, block in enumerate(case.model.blocks)
    ]
    inner = case.model.blocks[0].call.module.mlp.register_forward_hook(lambda *_: ran.append("inside 0"))
    first = evaluate(Shrink(32), context)
    for handle in (*handles, inner):
        handle.remove()
    assert context.replays is not None
    n_batches = len(list(context.replays()))
    # Stubs count as calls: one pass over the blocks for each batch, the patched one.
    assert "inside 0" not in ran and len(ran) == 3 * n_batches
    monkeypatch.setattr("harness.capturing.replays.MAX_KEPT_BYTES", 0)
    monkeypatch.setattr("harness.plugins.evaluations.downstream._MAX_CLEAN_BYTES", 0)
    remade = evaluate(Shrink(32), case.context())
    assert {name: row.value for name, row in remade.items()} == {name: row.value for name, row in first.items()}


def test_what_is_not_known_is_null_with_the_reason(load: Any) -> None:
    rows = evaluate(Shrink(32), load("gpt2").context(fit_x=None))
    assert rows["loss_recovered_mean_ablation"].reason == "the fit rows are not known"
    assert rows["ce_increase_zero_ablation"].value is not None
    short = harness.evaluation_context(load("gpt2").model, ["ab"], "resid_post.1", context=2)
    for row in evaluate(Shrink(32), short).values():
        assert row.value is None and row.reason in (
            "no replaced row has a token of text after it",
            "the fit rows are not known",
        )


def test_an_ablation_that_costs_nothing_gives_no_loss_recovered() -> None:
    sums = {"positions": [10.0], "clean": [30.0], "patched": [30.05], "zero": [30.09], "mean": [31.0], "kl": [0.1]}
    exact = {name: torch.tensor(values, dtype=torch.float64) for name, values in sums.items()}
    rows = {row.metric: row for row in downstream._table_rows(exact)}
    assert rows["loss_recovered_zero_ablation"].reason == "the ablation costs 0.009 nats, less than 0.01"
    assert rows["loss_recovered_mean_ablation"].value == pytest.approx(0.95, abs=1e-12)


def test_divergence_is_exact_where_tokens_are_ruled_out_and_where_they_are_unlikely() -> None:
    clean = torch.tensor([[0.0, 1.0, -math.inf, -200.0]])
    patched = torch.tensor([[0.5, 0.0, -math.inf, -900.0]])
    _, divergence = downstream._compare(clean, patched, torch.tensor([0]))
    p = [1 / (1 + math.e), math.e / (1 + math.e)]
    q = [math.exp(0.5) / (1 + math.exp(0.5)), 1 / (1 + math.exp(0.5))]
    assert float(divergence) == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), rel=1e-12)
    _, same = downstream._compare(clean, clean, torch.tensor([0]))
    assert float(same) == 0.0


@pytest.mark.parametrize("decoded", [lambda x: x[:, :3], lambda x: x / 0])
def test_a_broken_decomposition_is_named(decoded: Callable[[Tensor], Tensor], load: Any) -> None:
    broken = Same(32)
    broken.decode = lambda codes: decoded(codes.values)  # type: ignore[method-assign]
    with pytest.raises(harness.PluginError, match=r"Same\.decode returned"):
        evaluate(broken, load("gpt2").context())


def test_rows_of_another_model_or_corpus_are_refused(load: Any) -> None:
    context, other = load("gpt2").context(), load("gpt2").context()
    replays: Any = context.replays
    replays.load_model = lambda: load("gpt_neox").model
    with pytest.raises(harness.StoreError, match=r"resid_post\.1: the model's activations differ from the captured"):
        evaluate(Shrink(32), context)
    replays = other.replays
    replays.documents = lambda: (harness.Document(str(i), text) for i, text in enumerate(reversed(TEXTS)))
    with pytest.raises(harness.StoreError, match="the corpus has another one there"):
        evaluate(Shrink(32), other)


def test_a_model_without_a_head_is_undefined(tmp_path: Path) -> None:
    model = harness.create("model", "hf", path=str(save_tiny_model("bert", tmp_path)))
    with pytest.raises(harness.Undefined, match="bert has no language-model head"):
        evaluate(Shrink(32), harness.evaluation_context(model, TEXTS, "resid_post.1"))
    with pytest.raises(harness.Undefined, match="no model to run on"):
        evaluate(Shrink(32), harness.context_of(torch.randn(4, 32)))


def test_predictions_are_compared_alike_however_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, patched = torch.randn(2, 70, 90, generator=generator)
    ids = torch.randint(90, (70,), generator=generator)
    found = downstream._compare(clean, patched, ids)
    monkeypatch.setattr(downstream, "_CHUNK_ROWS", {})
    for one, other in zip(found, downstream._compare(clean, patched, ids), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.equal(downstream._cross_entropies(patched, ids), found[0])
