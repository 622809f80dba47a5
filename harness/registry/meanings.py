"""The meaning of each field of a dataclass: the string that stands right below it in the source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap


def meanings(config: type) -> dict[str, str]:
    """Field name to meaning, in one line; fields of base classes too, which a subclass may explain anew.

    Empty where the source can't be read, as that of a class typed into a console; a field without a string is left out.
    """
    found: dict[str, str] = {}
    for base in reversed([base for base in config.__mro__ if dataclasses.is_dataclass(base)]):
        for field, below in itertools.pairwise(_body(base)):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _body(cls: type) -> list[ast.stmt]:
    try:
        (statement,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # not from a file, or the file is another one by now
        return []
    return statement.body if isinstance(statement, ast.ClassDef) else []
