"""The page of contracts: what a plugin of each kind must have, and which abilities it may have besides.

It is read from the source of `harness/contracts/`, which is not imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

INTRODUCTION = """
# Contracts

Nothing needs to be subclassed but `harness.Decomposition`: a plugin keeps a contract by having its members. Each is a
`typing.Protocol` under its name in `harness`, so that an editor or mypy says what is missing:

    learner: harness.Learner = Acme(Config())

An ability is what some plugins of a kind have. `isinstance(model, harness.HasHead)` says whether an object has it; the
harness asks no other way. It sees what the object and its class have, not what a `__getattr__` makes up.
""".strip()
_ITEM = re.compile(r" {4}(\w+): (.*)")


def page(folder: Path, kinds: Sequence[str]) -> str:
    """The page, made of the files of a folder that are named like the kinds of plugins."""
    parts = [INTRODUCTION]
    for kind in kinds:
        module = ast.parse((folder / f"{kind}.py").read_text(encoding="utf-8"))
        title, _, more = (ast.get_docstring(module) or "").partition("\n\n")
        parts += [f"## {kind.capitalize()}", title, *([more] if more else [])]
        found = [node for node in module.body if isinstance(node, ast.ClassDef) and _is_protocol(node)]
        parts += [_protocol(node, may_be_ability=not node.name.startswith(kind.capitalize())) for node in found]
    return "\n\n".join(parts)


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


def _protocol(node: ast.ClassDef, may_be_ability: bool) -> str:
    """The section of a Protocol, with a line for each member."""
    above = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id != "Protocol"]
    is_ability = any(isinstance(mark, ast.Name) and mark.id == "runtime_checkable" for mark in node.decorator_list)
    parts = [f"### {node.name}", ast.get_docstring(node) or ""]
    if above:
        parts.append(f"Has the members of {' and '.join(f'`{name}`' for name in above)}.")
    if members := list(_members(node)):
        parts.append("\n".join(members))
    if is_ability and may_be_ability:
        parts[0] += " (ability)"
    return "\n\n".join(part for part in parts if part)


def _members(node: ast.ClassDef) -> Iterator[str]:
    for member in node.body:
        if isinstance(member, ast.FunctionDef):
            about = _about(member)
            yield f"- `{_signature(member)}`" + (f": {about}" if about else "")


def _signature(member: ast.FunctionDef) -> str:
    result = ast.unparse(member.returns) if member.returns else "None"
    marks = {mark.id for mark in member.decorator_list if isinstance(mark, ast.Name)}
    if "property" in marks:
        return f"{member.name}: {_plain(result)}"
    del (member.args.posonlyargs or member.args.args)[:1]  # self
    arguments = ast.unparse(member.args)
    return f"{member.name}({_plain(arguments)})" + ("" if result == "None" else f" -> {_plain(result)}")


def _plain(annotation: str) -> str:
    """An annotation as the code has it, with shapes in double quotes."""
    return annotation.replace("'", '"')


def _about(member: ast.FunctionDef) -> str:
    """The docstring in one line, each argument and error a sentence."""
    said, heading = [], ""
    for line in (ast.get_docstring(member) or "").splitlines():
        if line in ("Args:", "Raises:"):
            heading = line
        elif item := _ITEM.match(line) if heading else None:
            said.append(f"{'Raises ' if heading == 'Raises:' else ''}`{item[1]}`: {item[2]}")
        elif line:
            said.append(line.strip())
    return " ".join(said)
