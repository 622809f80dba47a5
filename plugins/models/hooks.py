"""Hooks that read and replace tensors within a forward pass. Whatever happens, the model is left as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.utils._pytree import tree_map

Slot: TypeAlias = int | str
Side: TypeAlias = Literal["input", "output"]


@dataclass(frozen=True)
class Tap:
    """One tensor of the forward pass: an argument or result of a module's `number`-th call, times `scale`."""

    module: nn.Module
    number: int
    side: Side
    slot: Slot
    scale: float = 1.0


@dataclass(eq=False)
class Call:
    """One call of a module that was watched; the tensors are copies, made when it began and when it ended.

    `inputs` and `outputs` are on the CPU: not every accelerator has float64. `output` is the whole of what was
    returned, its tensors on the meta device.
    """

    module: nn.Module
    path: str
    number: int
    parent: Call | None
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    inputs: dict[Slot, Tensor]
    outputs: dict[Slot, Tensor] = field(default_factory=dict)
    output: Any = None

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else 1 + self.parent.depth


class Done(Exception):
    """Raised by an act: ends the forward pass, as all that was wanted has been seen."""


class _Raised(Exception):
    """Carries what an act has raised through the model, which explains errors of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


Act: TypeAlias = Callable[[Tensor], Tensor]
"""A function from the tensor at a tap to what goes on in its place, which may be the tensor itself."""


def run(acts: Sequence[tuple[Tap, Act]], forward: Callable[[], Any]) -> Any:
    """The result of one forward pass with acts at taps, those of one tap in their order; None if one is `Done`."""
    n_calls: Counter[nn.Module] = Counter()

    def act_on(module: nn.Module, side: Side, find: Callable[[Any], Mapping[Slot, Tensor]], values: Any) -> Any:
        for tap, act in acts:
            if tap.module is module and tap.side == side and tap.number == n_calls[module]:
                old = find(values)[tap.slot]
                new = _called(act, old)
                if new is not old:
                    values = _exchanged(values, old, new, side)
        return values

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return act_on(module, "input", lambda given: argument_tensors(*given), (args, kwargs))

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        output = act_on(module, "output", output_tensors, output)
        n_calls[module] += 1
        return output

    try:
        with _hooks({tap.module for tap, _ in acts}, before, after):
            return forward()
    except _Raised as raised:
        if isinstance(raised.error, Done):
            return None
        raise raised.error from raised.error.__cause__


def _called(act: Act, tensor: Tensor) -> Tensor:
    try:
        return act(tensor)
    except Exception as error:
        raise _Raised(error) from error


def _exchanged(values: Any, old: Tensor, new: Tensor, side: Side) -> Any:
    """Arguments or a result with `new` in the place of `old`."""
    if side == "output":
        return tree_map(lambda value: new if value is old else value, values)
    args, kwargs = values
    # Not inside containers: blocks may share one, to leave things in it for each other.
    return tuple(new if a is old else a for a in args), {k: new if a is old else a for k, a in kwargs.items()}


def read(taps: Mapping[str, Tap], forward: Callable[[], Any]) -> dict[str, Tensor]:
    """The tensors at `taps`; the forward pass ends at the last of them."""
    found: dict[str, Tensor] = {}

    def take(name: str, tap: Tap, tensor: Tensor) -> Tensor:
        # A copy: some blocks go on to write into the very tensor.
        found[name] = tensor.detach().clone() if tap.scale == 1 else tensor * tap.scale
        if len(found) == len(taps):
            raise Done
        return tensor

    run([(tap, partial(take, name, tap)) for name, tap in taps.items()], forward)
    return found


def watch(modules: Mapping[nn.Module, str], forward: Callable[[], Any]) -> list[Call]:
    """Record every call of `modules`, given with their paths, in one forward pass, in the order in which they ended."""
    ended: list[Call] = []
    running: list[Call] = []
    n_calls: Counter[nn.Module] = Counter()

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arguments = tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, (args, kwargs))
        inputs = {slot: tensor.cpu() for slot, tensor in argument_tensors(*arguments).items()}
        parent = running[-1] if running else None
        running.append(Call(module, modules[module], n_calls[module], parent, arguments, inputs))
        n_calls[module] += 1

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = running.pop()
        call.outputs.update({slot: tensor.detach().clone().cpu() for slot, tensor in output_tensors(output).items()})
        call.output = tree_map(lambda value: value.to("meta") if isinstance(value, Tensor) else value, output)
        ended.append(call)

    with _hooks(modules, before, after):
        forward()
    return ended


Answers: TypeAlias = Mapping[nn.Module, Mapping[int, Callable[[], Any]]]
"""Functions that make the result of a call, by module and number of the call."""


@contextmanager
def stub(answers: Answers) -> Iterator[None]:
    """Give these answers in place of the calls, which do not run, in one forward pass inside."""
    own = {module: vars(module).get("forward") for module in answers}  # accelerate too puts one into the instance
    try:
        for module in answers:
            module.forward = partial(_answer, answers[module], count(), module.forward)
        yield
    finally:
        for module, forward in own.items():
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward


def _answer(
    answers: Mapping[int, Callable[[], Any]], n_calls: Iterator[int], run: Any, *args: Any, **kwargs: Any
) -> Any:
    number = next(n_calls)
    return answers[number]() if number in answers else run(*args, **kwargs)


@contextmanager
def _hooks(modules: Iterable[nn.Module], before: Callable[..., Any], after: Callable[..., Any]) -> Iterator[None]:
    handles = []
    try:
        for module in modules:
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()


def argument_tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Slot, Tensor]:
    """The floating-point tensors among arguments, by place or name."""
    items: list[tuple[Slot, Any]] = [*enumerate(args), *kwargs.items()]
    return {slot: value for slot, value in items if isinstance(value, Tensor) and value.is_floating_point()}


def output_tensors(output: Any) -> dict[Slot, Tensor]:
    if isinstance(output, Mapping):
        return argument_tensors((), output)
    return argument_tensors(output if isinstance(output, (tuple, list)) else (output,), {})
