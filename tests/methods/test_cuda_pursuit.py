"""The pursuit in Triton against the textbook and against the forms for a CPU; interpreted where there is no card."""

from __future__ import annotations

import warnings

import pytest
import torch

import harness
from harness.plugins.methods import matching_pursuit, pursuit_loops
from harness.plugins.methods.cpu import pursuit as in_numba
from harness.plugins.methods.cuda import availability
from harness.plugins.methods.matching_pursuit import MatchingPursuit, Pursuit, unit_rows
from tests.support.literal import mixture, pursue, pursue_upwards

pytest.importorskip("triton")
from harness.plugins.methods.cuda import pursuit as in_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def in_triton_if_float32(atoms: torch.Tensor) -> pursuit_loops.CompiledLoops | None:
    """Kernels for tensors on any device."""
    return in_triton if atoms.dtype == torch.float32 else None


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching_pursuit, "loops_for", in_triton_if_float32)


def encode(x: torch.Tensor, atoms: torch.Tensor, k: int, tolerance: float | None = None, **variant: bool) -> Pursuit:
    pursuit = MatchingPursuit(atoms.to(DEVICE), k, **variant)
    assert pursuit.is_compiled
    found = pursuit.encode(x.to(DEVICE), tolerance)
    return Pursuit(found.values.cpu(), found.indices.cpu(), found.error.cpu())


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize(
    ("n", "d", "m", "k"), [(3, 7, 1, 1), (6, 33, 65, 1), (5, 20, 150, 6), (3, 65, 1030, 3), (3, 9, 4, 8)]
)
@pytest.mark.usefixtures("interpreted")
def test_it_takes_the_picks_of_the_textbook(n: int, d: int, m: int, k: int, non_negative: bool) -> None:
    generator = torch.Generator().manual_seed(m)
    x, atoms = (unit_rows(torch.randn(size, d, generator=generator)) for size in (n, m))
    found = encode(3 * x, atoms, k, non_negative=non_negative)
    for i in range(n):
        values, picks, residual = (pursue_upwards if non_negative else pursue)(x[i].double(), atoms.double(), k)
        n_large = int((torch.tensor(values).abs() > 1e-4).cumprod(0).sum())  # below, float32 fits its own rounding
        assert found.indices[i, :n_large].tolist() == picks[:n_large]
        expected = 3 * torch.tensor(values[:n_large]).double()
        assert torch.allclose(found.values[i, :n_large].double(), expected, atol=3e-6)
        assert found.error[i].item() == pytest.approx(float(residual @ residual), abs=1e-5)


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("tolerance", [None, 0.3, 1.0])
def test_it_does_what_the_loops_for_a_cpu_do(
    non_negative: bool, tolerance: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are zero, tied, spanned or no numbers among others, whose mean hides what they differ in."""
    x, atoms = (mixture(15, d=24) + 1).float(), unit_rows((mixture(90, d=24, seed=1) + 1).float())
    atoms[70], atoms[80] = atoms[3], -atoms[4]
    x[0], x[1], x[2, 3] = 0, torch.nan, torch.inf
    x[3], x[4], x[5], x[6] = 5 * atoms[70], -2 * atoms[80], 1e-20 * atoms[9], 0.6 * atoms[3] - 0.5 * atoms[70]
    expected = MatchingPursuit(atoms, 5, non_negative=non_negative).encode(x, tolerance)
    monkeypatch.setattr(matching_pursuit, "loops_for", in_triton_if_float32)
    found = encode(x, atoms, 5, tolerance, non_negative=non_negative)
    assert torch.equal(found.indices[3:], expected.indices[3:])  # before them nothing can be told apart
    assert torch.allclose(found.values, expected.values, atol=1e-5, equal_nan=True)
    assert torch.allclose(found.error, expected.error, atol=1e-6, equal_nan=True)
    if tolerance != 1:  # else no row takes a step
        assert found.indices[3:5, 0].tolist() == [3, 4]  # of equals the first


@pytest.mark.usefixtures("interpreted")
def test_float32_takes_the_picks_of_float64() -> None:
    """The rows' mean is far larger than their deviations: the first step leaves its rounding errors to the others."""
    x, atoms = (mixture(12, d=32) + 10).float(), unit_rows((mixture(120, d=32, seed=1) + 10).float())
    exact = MatchingPursuit(atoms.double(), 12).encode(x.double())
    found = encode(x, atoms, 12)
    assert torch.equal(found.indices, exact.indices)
    assert torch.allclose(found.error.double(), exact.error, rtol=1e-3)
    assert encode(x[:0], atoms, 12).values.shape == (0, 12)


def test_near_ties_are_decided_in_float64(interpreted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two atoms closer than float32 correlations can tell apart."""
    d, n = 64, 30
    base = unit_rows(mixture(1, d=d, seed=3))[0]
    x = (base + 1e-3 * unit_rows(mixture(n, d=d, seed=4))).float()
    nudged = unit_rows((base + 3e-7 * unit_rows(mixture(n, d=d, seed=5))).float())
    pairs = [torch.stack([base.float(), one]) for one in nudged]
    exact = [int((row.double() @ atoms.double().T).argmax()) for row, atoms in zip(x, pairs, strict=True)]

    def n_right() -> int:
        found = [encode(row[None], atoms, 1).indices[0, 0] for row, atoms in zip(x, pairs, strict=True)]
        return sum(int(pick) == best for pick, best in zip(found, exact, strict=True))

    assert n_right() == n
    monkeypatch.setattr(matching_pursuit, "_DOUBT_EPS", -1.0)
    assert n_right() < n - 3


@pytest.mark.parametrize("non_negative", [False, True])
def test_rows_of_which_next_to_nothing_is_left_are_done_in_torch(
    non_negative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Correlations are below their rounding errors then, and all atoms as strong as the strongest."""
    atoms = unit_rows((mixture(200, d=24, seed=1) - mixture(1, d=24)).float())
    x, generator = mixture(8, d=24).float(), torch.Generator().manual_seed(0)
    few = [1, 4, 6]
    x[few] = 3 * atoms[[50, 60, 70]] + 4e-6 * torch.randn(3, 24, generator=generator)
    pursuit = MatchingPursuit(atoms.to(DEVICE), 4, non_negative=non_negative)
    pursuit.may_be_compiled = False
    expected = pursuit.encode(x.to(DEVICE))
    monkeypatch.setattr(matching_pursuit, "loops_for", in_triton_if_float32)
    monkeypatch.setattr(in_triton, "_MOST_NEAR", 20)
    redone, in_torch = [], pursuit._pursue
    monkeypatch.setattr(pursuit, "_pursue", lambda rows, limits: (redone.append(rows), in_torch(rows, limits)))
    pursuit.may_be_compiled = True
    found = pursuit.encode(x.to(DEVICE))
    is_one_of_few = (redone[0].residual.cpu()[:, None] == unit_rows(x[few])).all(dim=2).any(dim=1)
    assert len(is_one_of_few) >= 2 and is_one_of_few.all()  # some may stop before
    assert torch.equal(found.indices, expected.indices)
    assert torch.allclose(found.values, expected.values, atol=1e-5)
    assert torch.allclose(found.error, expected.error, rtol=1e-3)
    assert (found.values[few, 1].abs() > 0).sum() >= 2


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("threshold", [0.1, 0.2])
def test_it_judges_as_the_loops_for_a_cpu_do(
    non_negative: bool, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = unit_rows(mixture(40, d=16).float())
    atoms[36] = atoms[26]
    expected = MatchingPursuit(atoms, 3, non_negative=non_negative).judge(25, threshold)
    monkeypatch.setattr(matching_pursuit, "loops_for", in_triton_if_float32)
    pursuit = MatchingPursuit(atoms.to(DEVICE), 3, non_negative=non_negative)
    assert torch.equal(pursuit.judge(25, threshold).cpu(), expected)
    assert 3 < expected.sum() < 22 and not expected[21]
    assert not len(pursuit.judge(0, threshold))


def itda(x: torch.Tensor, **params: float | bool) -> harness.Decomposition:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="itda: the (dictionary was full|mean of the rows)")
        return harness.fit(harness.create("method", "itda", batch_rows=16, **params), x)


@pytest.mark.parametrize("params", [{"k": 3, "max_atoms": 100}, {"k": 4, "max_atoms": 14, "non_negative": True}])
def test_itda_finds_the_atoms_that_it_finds_in_torch(params: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    x = mixture(46, d=12).float()
    x[0], x[30] = 0, x[29]
    found = []
    for loops in (in_triton, None):
        monkeypatch.setattr(matching_pursuit, "loops_for", lambda atoms, loops=loops: loops)
        found.append(itda(x.to(DEVICE), threshold=0.05, **params))
    places = [one.atoms["position"].tolist() for one in found]
    assert places[0] == places[1] and 12 <= len(places[0]) < 45


def test_one_place_chooses_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = torch.eye(3)
    assert pursuit_loops.loops_for(atoms) is in_numba
    assert pursuit_loops.loops_for(atoms.double()) is None
    assert pursuit_loops.loops_for(atoms.to("meta")) is None
    monkeypatch.setattr(pursuit_loops, "runs_kernels", lambda device: True)
    assert pursuit_loops.loops_for(atoms.to("meta")) is in_triton


def test_other_cards_and_an_absent_triton_leave_the_steps_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(device: str) -> bool:
        availability._has_kernels.cache_clear()
        return availability.runs_kernels(torch.device(device))

    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(availability, "_triton_starts", lambda: True)
    assert runs("cuda") and not runs("mps")
    with monkeypatch.context() as context:
        context.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        assert not runs("cuda")
    with monkeypatch.context() as context:
        context.setattr(torch.version, "hip", "6.2")
        assert not runs("cuda")
    monkeypatch.setattr(availability, "find_spec", lambda name: None)
    assert not runs("cuda")
    availability._has_kernels.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton starts where there is a card")
def test_a_triton_that_does_not_start_is_a_warning() -> None:
    availability._triton_starts.cache_clear()
    with pytest.warns(RuntimeWarning, match="Triton does not start .*It needs a C compiler"):
        assert not availability._triton_starts()
    assert not availability._triton_starts()  # said once
    availability._triton_starts.cache_clear()


def test_correlations_of_tensor_cores_lead_to_the_same_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = unit_rows((mixture(9, d=40) + 1).float()), unit_rows((mixture(140, d=40, seed=1) + 1).float())
    exact = MatchingPursuit(atoms.double(), 4).encode(x.double())
    monkeypatch.setattr(matching_pursuit, "loops_for", in_triton_if_float32)
    monkeypatch.setattr(in_triton, "pays", lambda x, atoms: True)
    monkeypatch.setattr(MatchingPursuit, "_correlate", None)
    found = encode(x, atoms, 4)
    assert torch.equal(found.indices, exact.indices)
    assert torch.allclose(found.values.double(), exact.values, atol=1e-5)


def planted(n: int, m: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of a few atoms each and noise, and the atoms, whose mean is far from 0."""
    generator = torch.Generator("cuda").manual_seed(seed)
    atoms = unit_rows(torch.randn(m, d, generator=generator, device="cuda") + 0.3)
    rows = 0.01 * torch.randn(n, d, generator=generator, device="cuda")
    for _ in range(8):
        chosen = torch.randint(m, (n,), generator=generator, device="cuda")
        rows += torch.rand(n, 1, generator=generator, device="cuda") * atoms[chosen]
    return rows, atoms


@pytest.mark.gpu
@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize(("n", "m", "d", "k"), [(8192, 4096, 576, 40), (2048, 16384, 2304, 40), (512, 20000, 768, 9)])
def test_a_card_takes_the_picks_of_float64_as_often_as_torch(
    n: int, m: int, d: int, k: int, non_negative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, atoms = planted(n, m, d)
    monkeypatch.setattr(matching_pursuit, "MAX_GRAM_BYTES", 8 * m * m)
    exact = MatchingPursuit(atoms.double(), k, non_negative=non_negative).encode(x.double())
    pursuit = MatchingPursuit(atoms, k, non_negative=non_negative)
    assert pursuit.is_compiled
    found = pursuit.encode(x)
    pursuit.may_be_compiled = False
    in_torch = pursuit.encode(x)
    same, same_in_torch = (
        ((one.indices == exact.indices) | ((one.values.abs() < 1e-4) & (exact.values.abs() < 1e-4))).all(dim=1)
        for one in (found, in_torch)
    )
    assert same.sum() >= max(0.98 * n, int(same_in_torch.sum()) - 0.002 * n)
    assert torch.allclose(found.values[same].double(), exact.values[same], rtol=1e-4, atol=1e-5)
    assert torch.allclose(found.error.double(), exact.error, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
def test_a_card_does_without_a_gram_matrix_what_it_does_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = planted(4096, 4096, 576)
    with_gram = MatchingPursuit(atoms, 20).encode(x)
    monkeypatch.setattr(matching_pursuit, "MAX_GRAM_BYTES", 0)
    pursuit = MatchingPursuit(atoms, 20)
    assert not pursuit.is_compiled
    without = pursuit.encode(x)
    assert (with_gram.indices == without.indices).all(dim=1).sum() >= 4096 - 8
    assert torch.allclose(with_gram.error, without.error, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(("non_negative", "threshold"), [(False, 0.05), (True, 0.25)])
def test_a_card_judges_as_a_cpu_does(non_negative: bool, threshold: float) -> None:
    atoms = unit_rows(planted(2300, 100, 576)[0])
    found = MatchingPursuit(atoms, 20, non_negative=non_negative).judge(300, threshold)
    expected = MatchingPursuit(atoms.cpu(), 20, non_negative=non_negative).judge(300, threshold)
    assert (found.cpu() != expected).sum() <= 1  # whose error is at the threshold but for rounding
    assert 10 < expected.sum() < 290


@pytest.mark.gpu
def test_itda_finds_the_atoms_on_a_card_that_it_finds_on_a_cpu() -> None:
    rows = planted(20_000, 100, 576)[0]
    found, expected = (itda(x, k=20, max_atoms=4096, threshold=0.15) for x in (rows, rows.cpu()))
    assert found.atoms["position"].tolist() == expected.atoms["position"].tolist()
    assert found.n_latents > 500
