"""Check that a method follows the device of the rows: on an accelerator or, without one, on a device that is made up.

Its tensors say that they are on `meta` and lie on the CPU, where all work is done. What an accelerator refuses, that
tensors of two devices meet in one operation, is refused here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from harness.api import fit
from harness.contracts.decomposition import Decomposition
from harness.contracts.method import Batch, Info, Learner
from harness.contracts.rows import bare_rows
from harness.testing.checks import Broken, NotChecked, described
from harness.testing.learners import decoded_if_any

_ADVICE = "make tensors with device=info.device in the fit, and with x.new_zeros(...) or device=x.device after it"
_REFUSED = "Expected all tensors to be on the same device"
_MAY_CROSS = {"copy_", "_to_copy", "set_", "index", "index_put", "index_put_", "_index_put_impl_"}


def check(make: Callable[[], Any], x: Float[Tensor, "n d"], base: Decomposition) -> None:
    """Raise Broken where the rows' device is not followed."""
    if torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
        assert device is not None  # one is available
        _check_there(lambda rows: fit(make(), rows, base=base.to(device)), x.to(device))
        return
    with _MadeUpDevice(), _TensorsFromNumbers():
        _check_there(lambda rows: _fit_by_hand(make(), rows, base.to(rows.device)), x.to("meta"))


def _check_there(learn: Callable[[Tensor], Decomposition], x: Float[Tensor, "n d"]) -> None:
    """Fit, encode and decode where the rows are."""
    try:
        fitted = learn(x)
        for name, tensor in fitted.state()[0].items():
            _same_place(f"the tensor {name!r} of the decomposition", tensor, x)
        codes = fitted.encode(x)
        _same_place("encode(x).values", codes.values, x)
        if (decoded := decoded_if_any(fitted, codes)) is not None:
            _same_place("decode(encode(x))", decoded, x)
    except (Broken, KeyboardInterrupt):
        raise
    except Exception as error:
        if _REFUSED in str(error):
            raise Broken(f"with rows on {_named(x)} it {described(error)}. Tip: {_ADVICE}.") from error
        if x.device.type != "meta":
            raise
        reason = str(error).strip().partition("\n")[0]
        raise NotChecked(f"no accelerator here, and the one made up can't do all that is asked: {reason}") from error


def _same_place(name: str, tensor: Tensor, x: Tensor) -> None:
    if tensor.device.type != x.device.type:
        raise Broken(f"{name} is on {tensor.device} with rows on {_named(x)}: {_ADVICE}.")


def _named(x: Tensor) -> str:
    return "an accelerator" if x.device.type == "meta" else str(x.device)


class _Elsewhere(Tensor):
    """A tensor of the made-up device, and where it really is."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> _Elsewhere:
        made: _Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=torch.device("meta")
        )
        made.here = here
        return made

    def tolist(self) -> Any:
        """Torch's own refuses subclasses."""
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # as torch's documentation has it
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        with _MadeUpDevice():
            return func(*args, **(kwargs or {}))


class _MadeUpDevice(TorchDispatchMode):
    """Does on the CPU what is asked of the made-up device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        elsewhere = {id(tensor.here): tensor for tensor in given if isinstance(tensor, _Elsewhere)}
        name, device = func.overloadpacket.__name__, (kwargs or {}).get("device")
        # Single numbers may come from the CPU.
        if elsewhere and name not in _MAY_CROSS and any(t.ndim for t in given if not isinstance(t, _Elsewhere)):
            raise RuntimeError(f"{_REFUSED}, but {name} was given one of the CPU and one of the accelerator")
        own = [id(tensor) for tensor in given]
        args, kwargs = tree_map(_here, (args, kwargs or {}))
        is_elsewhere = device.type == "meta" if device is not None else bool(elsewhere)

        def place(found: Any) -> Any:
            if not isinstance(found, Tensor) or id(found) in own:
                return found
            return elsewhere.get(id(found)) if id(found) in elsewhere else _Elsewhere(found) if is_elsewhere else found

        return tree_map(place, func(*args, **kwargs))


class _TensorsFromNumbers(TorchFunctionMode):
    """Makes them on the CPU first: torch would leave the numbers out on `meta`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        return func(*args, **kwargs)


def _here(value: Any) -> Any:
    if isinstance(value, _Elsewhere):
        return value.here
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _fit_by_hand(learner: Learner, x: Float[Tensor, "n d"], base: Decomposition) -> Decomposition:
    """The engine's fit would wait for the accelerator."""
    n, d = x.shape
    learner.start(Info(d, n, 0, x.device, x.dtype, lambda: x.double().mean(dim=0), base))
    for _ in range(learner.passes):
        for part in x.split(learner.batch_rows):
            learner.partial_fit(Batch(part, lambda part=part: bare_rows(len(part))))  # type: ignore[misc]
    decomposition = learner.finish()
    assert isinstance(decomposition, Decomposition)  # the first check has seen to that
    return decomposition
