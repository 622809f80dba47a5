"""Checks of methods: of learners, and of the decompositions that they make."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from harness.contracts.decomposition import Codes, Decomposition, load
from harness.contracts.method import Resumable, Stackable
from harness.errors import ConfigError, Undefined
from harness.fitting.together import stack_key
from harness.testing import devices, learners
from harness.testing.checks import Broken, Check, NotChecked, described, seed_globally
from harness.testing.examples import rows
from harness.testing.learners import decoded_if_any
from harness.testing.sae import sets_the_gradients_of_its_loss
from harness.testing.trials import SIZES, MethodUnderTest

_MAX_ROWS = 20_000
_TOLERANCE = 1e-4


def learns(method: MethodUnderTest) -> None:
    """A fit of ordinary rows gives a harness.Decomposition with finite weights."""
    error = method.outcome[1]
    if isinstance(error, (Undefined, ConfigError)):
        sizes = ", ".join(f"{n} x {d}" for n, d in SIZES)
        raise Broken(f"learns from rows of none of the shapes {sizes}: {error} Check it with other parameters.")
    if isinstance(error, BaseException):
        raise error


def codes_are_well_formed(method: MethodUnderTest) -> None:
    """encode(x) of n rows gives Codes: floating values [n, k] with integer indices below n_latents, or [n, m]."""
    fitted, n = method.fitted, len(method.x)
    m = fitted.n_latents
    if not isinstance(m, int) or m < 0:
        raise Broken(f"n_latents is {m!r}; give a whole number.")
    codes = fitted.encode(method.x)
    if not isinstance(codes, Codes):
        raise Broken(f"encode(x) is a {type(codes).__name__}; return harness.Codes(values, indices, n_latents).")
    if codes.values.ndim != 2 or len(codes.values) != n or not codes.values.is_floating_point():
        found = f"{codes.values.dtype} {list(codes.values.shape)}"
        raise Broken(f"encode(x).values is {found} for {n} rows; give floating numbers, one line per row.")
    if codes.indices is None:
        if codes.values.shape[1] != m:
            raise Broken(f"dense codes have {codes.values.shape[1]} columns, n_latents is {m}; they must be equal.")
        return
    if codes.indices.shape != codes.values.shape or codes.indices.is_floating_point():
        found = f"{codes.indices.dtype} {list(codes.indices.shape)}"
        raise Broken(
            f"encode(x).indices is {found}, the values are {list(codes.values.shape)}; give a latent for each."
        )
    if codes.n_latents is not None and codes.n_latents != m:
        raise Broken(f"encode(x).n_latents is {codes.n_latents}, the decomposition's {m}; they must be equal.")
    if codes.indices.numel() and not 0 <= int(codes.indices.min()) <= int(codes.indices.max()) < m:
        low, high = int(codes.indices.min()), int(codes.indices.max())
        raise Broken(f"encode(x).indices go from {low} to {high} with n_latents {m}; they are 0 to n_latents - 1.")


def decodes_to_rows(method: MethodUnderTest) -> None:
    """decode(encode(x)) has the shape of x and is finite; one row alone will do."""
    x = method.x
    for n in (len(x), 1):
        decoded = decoded_if_any(method.fitted, method.fitted.encode(x[:n]))
        if decoded is None:
            raise NotChecked("it says that nothing can be decoded")
        if decoded.shape != (n, x.shape[1]) or not decoded.is_floating_point():
            found = f"{decoded.dtype} {list(decoded.shape)}"
            raise Broken(f"decode(encode(x)) is {found} for x {[n, x.shape[1]]}; give a row for each row.")
        if not decoded.isfinite().all():
            raise Broken("decode(encode(x)) holds NaN or infinite values for ordinary rows.")


def encodes_row_by_row(method: MethodUnderTest) -> None:
    """The codes of a row, and what they decode to, do not depend on the other rows of the batch."""
    x, fitted = method.in_float64()
    codes, decoded = fitted.encode(x).to_dense(fitted.n_latents), decoded_if_any(fitted, fitted.encode(x))
    for part in (slice(0, 7), slice(7, 8), slice(8, len(x))):
        own = fitted.encode(x[part])
        where = f"[{part.start}:{part.stop}]"
        if not _close(own.to_dense(fitted.n_latents), codes[part]):
            raise Broken(
                f"encode(x){where} differs from encode(x{where}): codes of a row must not depend on the other rows of "
                "the batch; take means, norms and thresholds from the fit and keep them."
            )
        if decoded is not None and not _close(fitted.decode(own), decoded[part]):
            raise Broken(
                f"decode(codes){where} differs from decode(codes{where}): a row's reconstruction must come from its "
                "own codes alone."
            )


def bears_a_constant_column(method: MethodUnderTest) -> None:
    """A column that is the same in all rows leads to no NaN; harness.Undefined may refuse such rows."""
    x = method.x
    x[:, 1] = 3.0
    _bears(method, x, "one column is constant", "divide by a standard deviation only where it is above 0")


def bears_equal_rows(method: MethodUnderTest) -> None:
    """Rows that occur many times lead to no NaN; harness.Undefined may refuse such rows."""
    x = method.x
    x[len(x) // 3 :] = x[0]
    _bears(method, x, "two thirds are equal", "a distance or a variance of 0 must not be divided by")


def bears_zero_rows(method: MethodUnderTest) -> None:
    """A row of zeros leads to no NaN, in the fit and in rows that are new."""
    x = method.x
    x[:3] = 0.0
    _finite(method.fitted, x, "encoded with one of zeros", "divide by a row's norm only where it is above 0")
    _bears(method, x, "three are zeros", "divide by a row's norm only where it is above 0")


def ends_with_a_batch_of_one(method: MethodUnderTest) -> None:
    """The last batch of a pass may hold a single row."""
    _ = method.fitted
    learner = method.make()
    n, d = method.x.shape
    n = -(-n // learner.batch_rows) * learner.batch_rows + 1
    if n > _MAX_ROWS:
        raise NotChecked(f"batch_rows is {learner.batch_rows}: too many rows for a quick check")
    _finite(method.fit(rows(n, d)), method.x, "fitted with a last batch of one row", "such a batch has no variance")


def repeats_itself(method: MethodUnderTest) -> None:
    """Two fits of the same rows with the same seed are equal, whatever the state of the global random generators."""
    _ = method.fitted  # which draws too, once
    seed_globally(1)
    first = method.fit()
    seed_globally(2)
    if differs := method.difference(first, method.fit()):
        seed_globally(1)
        if method.difference(first, method.fit()) is None:
            raise Broken(
                f"{differs} depends on the global random state: draw all random numbers with "
                "generator=info.generator('what for'), or seed a generator of numpy's with info.seed."
            )
        raise Broken(
            f"{differs} differs between two fits of the same rows with the same seed: draw random numbers with "
            "info.generator('what for'), and let no clock, set order or memory of an earlier fit have a say."
        )


def takes_its_seed_from_info(method: MethodUnderTest) -> None:
    """Random numbers that are drawn in a fit come from info.generator(name) or info.seed."""
    watch = learners.SeedWatch()
    with watch:
        method.fit(through=watch.around)
    if watch.drawn and not watch.asked_for_seed:
        raise Broken(
            f"random numbers are drawn ({', '.join(sorted(watch.drawn))}), but neither info.generator(name) nor "
            "info.seed was asked for: all seeds would give the same result, and no interval would mean anything. "
            "Draw with generator=info.generator('what for')."
        )


def leaves_its_input_alone(method: MethodUnderTest) -> None:
    """Neither encode nor decode writes into what it is given."""
    x, fitted = method.x, method.fitted
    codes = fitted.encode(x)
    if not torch.equal(x, method.x):
        raise Broken("encode(x) has changed x: others read the same rows. Use x - mean, not x -= mean, or clone first.")
    # A copy, for codes may be views of x.
    copied = Codes(codes.values.clone(), None if codes.indices is None else codes.indices.clone(), codes.n_latents)
    decoded_if_any(fitted, copied)
    same_indices = codes.indices is None or torch.equal(copied.indices, codes.indices)  # type: ignore[arg-type]
    if not torch.equal(copied.values, codes.values) or not same_indices:
        raise Broken("decode(codes) has changed the codes: others read them too. Clone what is written into.")


def keeps_no_batch(method: MethodUnderTest) -> None:
    """Nothing of batch.x is kept after partial_fit: the rows are only lent."""
    _ = method.fitted
    try:
        again = method.fit(through=learners.Overwriting)
    except Exception as error:
        raise Broken(f"{_KEPT} The fit then {described(error)}") from error
    if differs := method.difference(method.fitted, again):
        raise Broken(f"{_KEPT} {differs} is then another one.")


_KEPT = (
    "batch.x was overwritten after each partial_fit, which must not matter: clone what is to be kept, "
    "batch.x[:n].clone(); slices, views and .to() of the same dtype share its memory."
)


def comes_back_from_disk(method: MethodUnderTest) -> None:
    """The decomposition that harness.load reads is equal to the one saved, to the bit, and so after a second time."""
    before = method.fitted
    for time in ("", " a second time"):
        with tempfile.TemporaryDirectory() as folder:
            before.save(folder)
            after = load(Path(folder))
        if differs := method.difference(before, after):
            raise Broken(
                f"{differs} is another one after save() and harness.load(){time}: state() must hold all that encode "
                "and decode use, and from_state() put it back."
            )
        before = after


def is_signed_as_it_says(method: MethodUnderTest) -> None:
    """No code is negative where `signed` is False."""
    if method.fitted.signed:
        return
    for x in (method.x, -method.x):
        values = method.fitted.encode(x).values
        if values.numel() and values.min() < 0:
            raise Broken(
                f"signed is False, but encode(x) holds codes down to {float(values.min()):.3g}: say signed = True, or "
                "clamp(min=0). Latents of signed codes are looked at once for either sign."
            )


def has_the_dictionary_it_decodes_with(method: MethodUnderTest) -> None:
    """The dictionary, if there is one, is [n_latents, d], and a code of 1 for latent j alone adds its row j."""
    fitted, (_, d) = method.fitted, method.x.shape
    if fitted.dictionary is None:
        raise NotChecked("it has no dictionary")
    m = fitted.n_latents
    if fitted.dictionary.shape != (m, d):
        raise Broken(f"dictionary has shape {list(fitted.dictionary.shape)}; give [n_latents, d], here {[m, d]}.")
    latents = torch.arange(min(m, 64))
    if len(latents) == 0:
        return
    is_dense = fitted.encode(method.x[:1]).indices is None
    ones = torch.ones(len(latents), 1)
    codes = Codes(torch.eye(m)[latents]) if is_dense else Codes(ones, latents[:, None], m)
    silent = Codes(torch.zeros_like(codes.values), codes.indices, codes.n_latents)
    added = fitted.decode(codes) - fitted.decode(silent)
    if not _close(added, fitted.dictionary[latents]):
        j = int((added - fitted.dictionary[latents]).abs().amax(dim=1).argmax())
        raise Broken(
            f"decode() of a code of 1 for latent {j} alone is not dictionary[{j}] plus decode() of no code: the "
            "dictionary must be what decoding adds up (transposed? scaled?), or None where decoding is not linear."
        )


def goes_on_from_a_checkpoint(method: MethodUnderTest) -> None:
    """A learner that says it is resumable can be broken off after any batch, and ends with the same bits."""
    _ = method.fitted
    learner = method.make()
    if not (isinstance(learner, Resumable) and learner.resumable):
        raise NotChecked("it does not say that it is resumable")
    resumed = method.fit(through=lambda learner: learners.HandedOver(learner, method.make))
    if differs := method.difference(method.fitted, resumed):
        raise Broken(
            f"{differs} is another one after the fit was broken off and went on: all that was learnt must be in "
            "attributes (tensors, numbers, generators, optimisers), and its objects made in start()."
        )


def learns_the_same_in_a_stack(method: MethodUnderTest) -> None:
    """Learners with a stack_key learn the weights that they would learn alone, to 1e-4."""
    fitted = method.fitted
    if stack_key(method.make()) is None:
        raise NotChecked("it has no stack_key")
    seeds = (0, 0, 1)
    alone = {0: fitted.state()[0], 1: method.fit(seed=1).state()[0]}
    for place, (seed, stacked) in enumerate(zip(seeds, method.fit_stack(seeds), strict=True)):
        for name, tensor in stacked.state()[0].items():
            if not _close(tensor, alone[seed][name]):
                raise Broken(
                    f"the tensor {name!r} of learner {place} in a stack of three, the last of another seed, is another "
                    "one than where it learns alone: no number of a learner in a stack may depend on the others."
                )


def says_whether_it_stacks(method: MethodUnderTest) -> None:
    """A method whose learners have a stack_key says provides=("stacks",) in its Spec; one that can't stack does not."""
    learner = method.make()
    if method.provides is None:
        raise NotChecked("no Spec is at hand")
    says_so = "stacks" in method.provides
    if stack_key(learner) is not None and not says_so:
        raise Broken(
            'its learners have a stack_key, but its Spec does not say provides=("stacks",): several workers would '
            "share them out, and what each learns depends by rounding on which others are with it."
        )
    if says_so and not isinstance(learner, Stackable):
        raise Broken(
            'its Spec says provides=("stacks",), but its learners have no stack_key and stack(): one worker would do '
            "all fits of a site, for nothing. Leave the word out, or give them both."
        )


def follows_the_device(method: MethodUnderTest) -> None:
    """Tensors are all made on info.device, and codes and rows come back on the device of x."""
    _ = method.fitted
    devices.check(method.make, method.x, method.base(method.x.shape[1]))


def _bears(method: MethodUnderTest, x: Tensor, what: str, advice: str) -> None:
    """A fit of unusual rows gives finite codes and rows, or says that they are of no use to it."""
    _ = method.fitted
    try:
        fitted = method.fit(x.clone())
    except Undefined:
        return
    except Exception as error:
        raise Broken(f"a fit of rows of which {what} {described(error)} ({advice})") from error
    _finite(fitted, x, f"fitted on rows of which {what}", advice)


def _finite(fitted: Decomposition, x: Tensor, when: str, advice: str) -> None:
    codes = fitted.encode(x.clone())
    decoded = decoded_if_any(fitted, codes)
    for name, tensor in (("encode(x).values", codes.values), ("decode(encode(x))", decoded)):
        if tensor is not None and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).any(dim=1).sum())
            raise Broken(f"{name} holds NaN or infinite values in {bad} of {len(x)} rows, {when}: {advice}.")


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    scale = float(b.double().abs().max()) if b.numel() else 1.0
    return torch.allclose(a.double(), b.double(), rtol=0, atol=_TOLERANCE * max(scale, 1e-30))


CHECKS: list[Check] = [
    learns,
    codes_are_well_formed,
    decodes_to_rows,
    encodes_row_by_row,
    leaves_its_input_alone,
    is_signed_as_it_says,
    has_the_dictionary_it_decodes_with,
    bears_a_constant_column,
    bears_equal_rows,
    bears_zero_rows,
    ends_with_a_batch_of_one,
    keeps_no_batch,
    repeats_itself,
    takes_its_seed_from_info,
    comes_back_from_disk,
    goes_on_from_a_checkpoint,
    learns_the_same_in_a_stack,
    says_whether_it_stacks,
    sets_the_gradients_of_its_loss,
    follows_the_device,
]
