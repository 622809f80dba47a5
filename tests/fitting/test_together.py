"""One stream, many learners: each gets what it would get alone, and what one does wrong costs it alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness.capturing import activations
from harness.capturing.activations import Stream
from harness.fitting.feed import Fitted
from harness.fitting.together import fed_together, fit_together, state_bytes
from tests.support.parts import Offset, OrderSensitive, Stackable, rows_of_text, stream_of

CPU = torch.device("cpu")
X = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))


def _offset(fitted: Fitted) -> torch.Tensor:
    assert fitted.error is None, fitted.traceback
    assert isinstance(fitted.decomposition, Offset)
    return fitted.decomposition.offset


def _has_its_rows(batch: harness.Batch) -> bool:
    rows = rows_of_text(len(X))
    places = {key: i for i, key in enumerate(zip(rows["document"], rows["end"], strict=True))}
    return torch.equal(batch.x, X[[places[key] for key in zip(batch.rows["document"], batch.rows["end"], strict=True)]])


learners = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([7, 33, 100, 333, 5000])), max_size=4)


@settings(max_examples=15, deadline=None)
@given(learners, st.sampled_from([333, 64]), st.sampled_from([17, 256, 4096]))
def test_fed_together_is_bit_equal_to_fed_alone(shapes: list[tuple[int, int]], n: int, block_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stream = stream_of(X[:n])
        alone = [fit_together({"a": OrderSensitive(*shape)}, stream, CPU)["a"] for shape in shapes]
        patch.setattr(activations, "BLOCK_ROWS", block_rows)  # blocks arrive differently, batches must not
        together = fit_together({str(i): OrderSensitive(*shape) for i, shape in enumerate(shapes)}, stream, CPU)
    for i, (passes, _) in enumerate(shapes):
        assert torch.equal(_offset(together[str(i)]), _offset(alone[i]))
        assert together[str(i)].rows_seen == passes * n


def test_the_toy_learner_notices_order_and_batches() -> None:
    # Else the test above would show nothing.
    results = [
        _offset(fit_together({"a": OrderSensitive(passes, batch_rows)}, stream_of(X, seed=seed), CPU)["a"])
        for passes, batch_rows, seed in ((1, 100, 0), (1, 101, 0), (2, 100, 0), (1, 100, 1))
    ]
    assert len({tuple(result.tolist()) for result in results}) == len(results)


def test_batches_have_the_learners_own_size_and_the_identities_of_their_rows() -> None:
    learner = OrderSensitive(passes=2, batch_rows=300)
    matches: list[bool] = []
    learner.touch = lambda batch: matches.append(_has_its_rows(batch))
    _offset(fit_together({"a": learner}, stream_of(X), CPU)["a"])
    assert learner.sizes == [300, 300, 300, 100] * 2
    assert len(matches) == 8 and all(matches)


def test_a_pass_is_every_row_once_newly_shuffled() -> None:
    learner = OrderSensitive(passes=3, batch_rows=1000)
    fit_together({"a": learner}, stream_of(X), CPU)
    orders = [tuple(zip(rows["document"], rows["end"], strict=True)) for rows in learner.seen]
    assert len(set(orders)) == 3 and len({frozenset(order) for order in orders}) == 1


def test_fit_takes_the_first_pass_in_the_order_given() -> None:
    learner = OrderSensitive(passes=2, batch_rows=400)
    harness.fit(learner, X)
    seen = pd.concat(learner.seen)["position"].tolist()
    assert seen[:1000] == list(range(1000))
    assert sorted(seen[1000:]) == list(range(1000)) and seen[1000:] != seen[:1000]


@dataclass
class Wrong(OrderSensitive):
    """Does something wrong in one of its steps."""

    where: str = ""
    wrong: Callable[[], None] = lambda: None
    n_batches: int = 0

    def start(self, info: harness.Info) -> None:
        super().start(info)
        self.go_wrong_in("start")

    def partial_fit(self, batch: harness.Batch) -> None:
        self.n_batches += 1
        super().partial_fit(batch)
        if self.n_batches == 3:
            self.go_wrong_in("partial_fit")

    def finish(self) -> harness.Decomposition:
        self.go_wrong_in("finish")
        return super().finish()

    def go_wrong_in(self, step: str) -> None:
        if step == self.where:
            self.wrong()


def _divide() -> None:
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize("where", ["start", "partial_fit", "finish"])
@pytest.mark.parametrize(("wrong", "error"), [(_divide, ZeroDivisionError), (lambda: sys.exit(3), SystemExit)])
def test_a_learner_that_fails_costs_only_itself(where: str, wrong: Callable[[], None], error: type) -> None:
    alone = fit_together({"good": OrderSensitive(2, 77)}, stream_of(X), CPU)["good"]
    learners = {"bad": Wrong(3, 100, where=where, wrong=wrong), "good": OrderSensitive(2, 77)}
    fitted = fit_together(learners, stream_of(X), CPU)
    assert type(fitted["bad"].error) is error and fitted["bad"].decomposition is None
    assert "wrong()" in fitted["bad"].traceback  # leads to the plugin's own line
    assert learners["bad"].n_batches == {"start": 0, "partial_fit": 3, "finish": 30}[where]  # type: ignore[attr-defined]
    assert torch.equal(_offset(fitted["good"]), _offset(alone))


def test_an_interrupt_is_the_users_and_ends_the_fit() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_together({"a": Wrong(where="partial_fit", wrong=interrupt, batch_rows=10)}, stream_of(X), CPU)


def test_a_learner_may_spoil_its_batch() -> None:
    alone = fit_together({"good": OrderSensitive(2, 100)}, stream_of(X), CPU)["good"]
    before = X.clone()
    spoil = lambda batch: batch.x.zero_()  # noqa: E731
    names = {
        "before": OrderSensitive(2, 100, spoil),
        "good": OrderSensitive(2, 100),
        "after": OrderSensitive(2, 64, spoil),
    }
    fitted = fit_together(names, stream_of(X), CPU)
    assert torch.equal(_offset(fitted["good"]), _offset(alone))
    harness.fit(OrderSensitive(2, 1000, spoil), X)
    assert torch.equal(X, before)


class Returns(OrderSensitive):
    """A learner whose finish gives whatever it is told to."""

    def __init__(self, result: object, **attributes: object) -> None:
        super().__init__()
        self.result = result
        vars(self).update(attributes)

    def finish(self) -> harness.Decomposition:
        return self.result  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (Returns({"weights": 1}), r"Returns\.finish\(\) returned dict, not a harness\.Decomposition"),
        (Returns(None), "returned NoneType"),
        (Returns(Offset(torch.tensor([0.0, float("nan")]))), r"Offset\.offset holds NaN or infinite values"),
        (Returns(Offset(torch.tensor([0.0, float("inf")]))), r"Offset\.offset holds NaN or infinite values"),
        (Returns(None, batch_rows=0), "Returns.batch_rows is 0; give a whole number from 1 on"),
        (Returns(None, passes=1.5), "Returns.passes is 1.5"),
        (Returns(None, passes=None), "Returns.passes is None"),
    ],
)
def test_a_learner_that_breaks_the_contract_is_told_how(learner: Returns, message: str) -> None:
    with pytest.raises(harness.PluginError, match=message):
        harness.fit(learner, X)


def test_fit_refuses_rows_that_are_not_finite_and_names_the_first() -> None:
    x = X.clone()
    x[41, 3], x[77, 0], x[78] = float("nan"), float("inf"), float("nan")
    with pytest.raises(harness.ConfigError, match="3 rows of x hold NaN or infinite values, the first is row 41"):
        harness.fit(OrderSensitive(), x)


@pytest.mark.parametrize(
    ("x", "rows", "message"),
    [
        (X[0], None, r"shape \(8,\); give \[n rows, d\]"),
        (X, rows_of_text(999), "1000 rows in x, 999 in rows"),
        (X[:0], None, "x has no rows"),
        (X, rows_of_text(1000).drop(columns="window"), "rows lacks window; harness.make_rows"),
    ],
)
def test_fit_says_what_is_wrong_with_its_input(x: torch.Tensor, rows: pd.DataFrame | None, message: str) -> None:
    with pytest.raises(harness.ConfigError, match=message):
        harness.fit(OrderSensitive(), x, rows)


@pytest.mark.parametrize(
    ("given", "used"), [(torch.float64, torch.float64), (torch.float32,) * 2, (torch.bfloat16, torch.float32)]
)
def test_fit_works_in_float64_only_where_x_does(given: torch.dtype, used: torch.dtype) -> None:
    dtypes = set()
    learner = OrderSensitive(touch=lambda batch: dtypes.add(batch.x.dtype))
    assert harness.fit(learner, X.to(given)).offset.dtype == used  # type: ignore[attr-defined]
    assert dtypes == {used}


def test_the_learners_own_time_is_counted_and_no_other() -> None:
    slow = OrderSensitive(batch_rows=500, touch=lambda batch: time.sleep(0.2))
    fitted = fit_together({"slow": slow, "quick": OrderSensitive(batch_rows=500)}, stream_of(X), CPU)
    assert fitted["slow"].fit_seconds >= 0.4
    assert 0 < fitted["quick"].fit_seconds < 0.2


def test_processor_time_leaves_out_what_a_learner_waits_for() -> None:
    learners = {"sleeps": OrderSensitive(batch_rows=500, touch=lambda batch: time.sleep(0.2))}
    learners["works"] = OrderSensitive(batch_rows=500, touch=lambda batch: _work(0.2))
    fitted = fit_together(learners, stream_of(X), CPU)
    assert 0 < fitted["sleeps"].fit_cpu_seconds < 0.2
    assert fitted["works"].fit_cpu_seconds >= 0.4


def _work(cpu_seconds: float) -> None:
    ends = time.process_time() + cpu_seconds
    while time.process_time() < ends:
        pass


def test_candidates_are_the_rows_of_the_stream_where_there_are_atoms() -> None:
    decomposition = Offset(torch.zeros(8))
    decomposition.atoms = rows_of_text(2)
    stream = activations.Stream(stream_of(X).activations, torch.arange(1000)[10:20], seed=0)
    fitted = fit_together({"a": Returns(decomposition), "b": OrderSensitive()}, stream, CPU)
    candidates = fitted["a"].decomposition.candidates  # type: ignore[union-attr]
    wanted = rows_of_text(1000).iloc[10:20].reset_index(drop=True)
    pd.testing.assert_frame_equal(candidates, wanted[list(candidates.columns)])  # type: ignore[union-attr,arg-type]
    assert fitted["b"].decomposition.n_candidates is None  # type: ignore[union-attr]


def test_state_bytes_counts_shared_storage_once() -> None:
    class Holder:
        pass

    holder, pool = Holder(), torch.zeros(100, 4)
    module = torch.nn.Linear(4, 3)
    holder.pool, holder.view, holder.part = pool, pool[:10], pool.T  # type: ignore[attr-defined]
    holder.nested = {"a": [module, (torch.zeros(5, dtype=torch.float64),)], "self": holder}  # type: ignore[attr-defined]
    holder.optimiser = torch.optim.SGD(module.parameters(), lr=0.1)  # type: ignore[attr-defined]
    assert state_bytes(holder) == 100 * 4 * 4 + (4 * 3 + 3) * 4 + 5 * 8


def test_generators_are_independent_repeatable_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    info, other = (harness.Info(8, 10, seed, CPU, torch.float32, mean=lambda: torch.zeros(8)) for seed in (0, 1))
    draws = {
        name: torch.randn(4000, generator=info.generator(name)) for name in ("weights", "rows", "weights2", "0/weights")
    }
    draws["other seed"] = torch.randn(4000, generator=other.generator("weights"))
    assert torch.equal(draws["weights"], torch.randn(4000, generator=info.generator("weights")))
    correlations = torch.corrcoef(torch.stack(list(draws.values()))) - torch.eye(len(draws))
    assert correlations.abs().max() < 0.08  # 5 standard errors
    assert torch.equal(torch.rand(3), expected)


class Careless(OrderSensitive):
    """Changes what belongs to the process."""

    def partial_fit(self, batch: harness.Batch) -> None:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(7)
        torch.set_grad_enabled(False)
        super().partial_fit(batch)


def test_settings_of_the_process_are_put_back() -> None:
    stream = stream_of(torch.randn(200, 3))
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    fitted = fit_together({"a": Careless(1, 64), "b": OrderSensitive(1, 64)}, stream, CPU)
    assert fitted["a"].error is None and fitted["b"].error is None
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert torch.equal(torch.randn(2), expected)


class OtherStackable(Stackable):
    pass


def test_learners_of_one_class_and_key_learn_in_one_computation() -> None:
    learners = {
        "a": Stackable(2, 64),
        "plain": OrderSensitive(2, 64),
        "other key": Stackable(2, 64, stack_key=("other", 1)),
        "b": Stackable(2, 64),
        "no key": Stackable(2, 64, stack_key=None),
        "other class": OtherStackable(2, 64),
    }
    alone = _offset(fit_together({"plain": OrderSensitive(2, 64)}, stream_of(X), CPU)["plain"])
    fitted = fit_together(learners, stream_of(X), CPU)
    assert list(fitted) == list(learners)
    assert all(torch.equal(_offset(one), alone) and one.rows_seen == 2000 for one in fitted.values())
    together = {name: learner.stacked_with for name, learner in learners.items() if isinstance(learner, Stackable)}
    assert together == {"a": 2, "other key": 1, "b": 2, "no key": 1, "other class": 1}
    assert {name: one.n_stacked for name, one in fitted.items()} == {**together, "plain": 1}


def test_what_a_stack_took_is_shared_equally() -> None:
    learners = {"a": Stackable(batch_rows=500), "b": Stackable(batch_rows=500)}
    learners["a"].touch = lambda batch: _work(0.2)
    fitted = fit_together(learners, stream_of(X), CPU)
    assert all(0.2 <= one.fit_cpu_seconds < 0.35 and one.fit_seconds >= 0.2 for one in fitted.values())
    assert [one.state_bytes for one in fitted.values()] == [2 * 8 * 4] * 2  # the stack's offsets, and those of a member


def test_a_stack_that_fails_costs_its_members_and_one_that_fails_in_finish_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learners = {"bad": Stackable(touch=lambda batch: _divide()), "beside": Stackable(), "good": OrderSensitive()}
    fitted = fit_together(learners, stream_of(X), CPU)
    assert [type(one.error) for one in fitted.values()] == [ZeroDivisionError, ZeroDivisionError, type(None)]
    learners["bad"] = Stackable(touch=lambda batch: None)
    monkeypatch.setattr(learners["bad"], "finish", _divide)
    fitted = fit_together(learners, stream_of(X), CPU)
    assert [type(one.error) for one in fitted.values()] == [ZeroDivisionError, type(None), type(None)]
    assert torch.equal(_offset(fitted["beside"]), _offset(fitted["good"]))


def _of_seeds(seeds: Mapping[str, int]) -> dict[str, Stream]:
    streams = {seed: stream_of(X, seed=seed) for seed in seeds.values()}
    return {name: streams[seed] for name, seed in seeds.items()}


def test_learners_of_several_seeds_learn_in_one_computation_and_beside_others() -> None:
    seeds = {"a0": 0, "plain1": 1, "b1": 1, "c0": 0, "short2": 2}
    made = {name: Stackable(3, 64) if name[0] in "abc" else OrderSensitive(int(name[-1]), 90) for name in seeds}
    streams = _of_seeds(seeds)
    assert fed_together(made, streams) == [["a0", "b1", "c0"], ["plain1"], ["short2"]]
    fitted = fit_together(made, streams, CPU)
    assert [one.n_stacked for one in fitted.values()] == [3, 1, 3, 3, 1]
    for name, seed in seeds.items():
        alone = OrderSensitive(made[name].passes, made[name].batch_rows)
        wanted = fit_together({"alone": alone}, stream_of(X, seed=seed), CPU)["alone"]
        assert torch.equal(_offset(fitted[name]), _offset(wanted)), name
        assert fitted[name].rows_seen == wanted.rows_seen


def test_members_of_one_seed_are_given_the_same_batch_with_its_rows() -> None:
    seen: dict[str, list[harness.Batch]] = {"a": [], "b": [], "c": []}
    made = {name: Stackable(2, 64, batches.append) for name, batches in seen.items()}
    fit_together(made, _of_seeds({"a": 1, "b": 0, "c": 0}), CPU)
    for a, b, c in zip(*seen.values(), strict=True):
        assert b is c and a is not b
        assert _has_its_rows(a) and _has_its_rows(b)
        assert not torch.equal(a.x, b.x)


def test_learners_of_several_seeds_are_fed_apart_unless_some_learn_in_one_computation() -> None:
    seeds = {"a": 0, "b": 1, "c": 0}
    plain = {name: OrderSensitive() for name in seeds}
    assert fed_together(plain, _of_seeds(seeds)) == [["a", "c"], ["b"]]
    apart = {name: Stackable(stack_key=("of seed", seed)) for name, seed in seeds.items()}
    assert fed_together(apart, _of_seeds(seeds)) == [["a", "c"], ["b"]]
