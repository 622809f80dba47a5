"""A check is a small function whose docstring states what is asked; running it gives a finding."""

from __future__ import annotations

import inspect
import random
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from harness.errors import bounded, text_of
from harness.registry.isolation import isolated
from harness.testing import limits
from harness.testing.findings import Finding

Check: TypeAlias = Callable[[Any], None]
"""Takes what is checked, and raises `Broken` or `NotChecked`."""

_NOT_THE_PLUGIN = tuple(
    f"{place}/"
    for place in (Path(__file__).parents[1], Path(torch.__file__).parent, Path(np.__file__).parent, "<frozen")
)
_STANDARD_LIBRARY, _PACKAGES = (sysconfig.get_path(name) for name in ("stdlib", "purelib"))


STUCK_ADVICE = (
    "an endless loop? Checks give few rows; what is only slow can be checked with parameters that make it quick."
)


class Broken(AssertionError):
    """A requirement does not hold. Tells the plugin's author what was found, where, and what to do."""


class NotChecked(Exception):
    """Raised by a check that does not apply here; says why."""


def requirement(check: Check) -> str:
    """The requirement that a check states in its docstring, in one line."""
    return " ".join((inspect.getdoc(check) or "").split())


def run_check(check: Check, subject: Any) -> Finding:
    """Run one check; whatever the plugin raises is a finding. After one that did not end no other is begun."""
    name, asked = check.__name__, requirement(check)
    if subject.stuck_in is not None:
        return Finding(name, asked, not_checked=f"`{subject.stuck_in}` did not end")
    try:
        with unchanged(), limits.limited():
            check(subject)
    except KeyboardInterrupt:
        raise
    except NotChecked as reason:
        return Finding(name, asked, not_checked=str(reason))
    except Broken as broken:
        return Finding(name, asked, str(broken))
    except BaseException as error:  # the plugin's own code; it may even call sys.exit
        if isinstance(error, limits.TooLong):
            subject.stuck_in = name
        return Finding(name, asked, described(error))
    return Finding(name, asked)


def described(error: BaseException) -> str:
    """Describe what the plugin raised, and where."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of_plugin(frame.filename)]
    if isinstance(error, SystemExit):
        frames = list(takewhile(lambda frame: frame.filename != _file_of_exit(), frames))
    where = f" in {frames[-1].name} ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r}) was called{where}; raise an exception that says what is wrong instead."
    if isinstance(error, limits.TooLong):
        return f"has not ended after {limits.SECONDS:g} s{where}: {STUCK_ADVICE}"
    return bounded(f"raised {type(error).__name__}{where}: {text_of(error)}")


def _file_of_exit() -> str | None:
    """The file of a sys.exit written in Python: libraries such as wandb put a function of theirs in its place."""
    code = getattr(sys.exit, "__code__", None)
    return None if code is None else code.co_filename


def _is_of_plugin(file: str) -> bool:
    is_standard = file.startswith(f"{_STANDARD_LIBRARY}/") and not file.startswith(f"{_PACKAGES}/")
    return not is_standard and not file.startswith(_NOT_THE_PLUGIN)


@contextmanager
def unchanged() -> Iterator[None]:
    """Put back the settings of the process and all global random states; tiny inputs need no warnings."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with isolated(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def seed_globally(seed: int) -> None:
    """Seed every generator that a plugin must not draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
