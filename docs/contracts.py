"""The page of contracts: what a plugin of each kind must have, which abilities it may have, what it is given and gives.

It is read from the source of `harness/contracts/` and `harness/registry/`, which is not imported. What is public says
`harness/__init__.pyi`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

INTRODUCTION = """
# Contracts

Nothing needs to be subclassed but `harness.Decomposition`: a plugin keeps a contract by having its members. Each is a
`typing.Protocol` under its name in `harness`, so that an editor or mypy says what is missing:

    learner: harness.Learner = Acme(Config())

An ability is what some plugins of a kind have. `isinstance(model, harness.HasHead)` says whether an object has it; the
harness asks no other way. It sees what the object and its class have, not what a `__getattr__` makes up.

The ten kinds come first, each with what its plugins are given and give; then what several kinds have in common, and
how plugins are registered.
""".strip()
_ITEM = re.compile(r" {4}(\w+): (.*)")
# A name, or several in backticks, that a docstring defines in an indented line.
_DEFINED = re.compile(r"( {4,})((?:`[^`]+`(?:, )?)+|\w+): (.*)")
_SPECS = ("metric", "specs")
_NO_MEMBERS = ("Protocol", "ABC", "NamedTuple")


def page(harness: Path, kinds: Sequence[str]) -> str:
    """The page, made of `harness/contracts/`, the files that are named like kinds first, and of specs and metrics."""
    folder = harness / "contracts"
    others = sorted(path.stem for path in folder.glob("*.py") if path.stem not in kinds)
    files = [*(folder / f"{name}.py" for name in (*kinds, *others)), *(harness / f"registry/{n}.py" for n in _SPECS)]
    public = _public(harness / "__init__.pyi")
    return "\n\n".join([INTRODUCTION, *(part for path in files for part in _file(path, public))])


def _public(stub: Path) -> set[str]:
    """The names that `harness` has."""
    found = ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
    return {alias.name for node in found if isinstance(node, ast.ImportFrom) for alias in node.names}


def _file(path: Path, public: Collection[str]) -> Iterator[str]:
    """The sections of a file: its Protocols, and what else of it is public; nothing where there is neither."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    protocols = [node for node in classes if _is_protocol(node)]
    others = [node for node in classes if node not in protocols and node.name in public]
    lines = [f"- `{said}`: {about}" for name, said, about in _named(module) if name in public]
    if not protocols and not others and not lines:
        return
    title, _, more = (ast.get_docstring(module) or "").partition("\n\n")
    yield f"## {path.stem.replace('_', ' ').capitalize()}"
    yield from (part for part in (title, more, "\n".join(lines)) if part)
    for node in (*protocols, *others):
        yield _class(node, may_be_ability=not node.name.startswith(path.stem.capitalize()))


def _named(module: ast.Module) -> Iterator[tuple[str, str, str]]:
    """The functions and aliases of a module: name, signature or value, and meaning."""
    for node, below in pairwise([*module.body, ast.Pass()]):
        match node, below:
            case ast.FunctionDef(name=name), _:
                yield name, _signature(node), _about(node)
            case (
                ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                | ast.Assign(targets=[ast.Name(id=name)], value=value),
                ast.Expr(value=ast.Constant(value=str(meaning))),
            ):
                yield name, f"{name} = {_plain(ast.unparse(value))}", " ".join(meaning.split())


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


def _class(node: ast.ClassDef, may_be_ability: bool) -> str:
    """The section of a class, with a line for each member."""
    above = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id not in _NO_MEMBERS]
    is_ability = any(isinstance(mark, ast.Name) and mark.id == "runtime_checkable" for mark in node.decorator_list)
    fields = dict(_fields(node))
    text, defined = _text(ast.get_docstring(node) or "", {name: said for name, (said, _) in fields.items()})
    parts = [f"### {node.name}" + (" (ability)" if is_ability and may_be_ability else ""), text]
    if above:
        parts.append(f"Has the members of {' and '.join(f'`{name}`' for name in above)}.")
    lines = [_line(said, about) for name, (said, about) in fields.items() if name not in defined]
    lines += [_line(_signature(member), _about(member)) for member in _methods(node)]
    return "\n\n".join(part for part in (*parts, "\n".join(lines)) if part)


def _line(said: str, about: str) -> str:
    return f"- `{said}`" + (f": {about}" if about else "")


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, tuple[str, str]]]:
    """The fields of a data class: name, and (type and default, meaning), which is the string right below."""
    for field, below in pairwise([*node.body, ast.Pass()]):
        match field:
            case ast.AnnAssign(target=ast.Name(id=name)) if "ClassVar" not in ast.unparse(field.annotation):
                match below:
                    case ast.Expr(value=ast.Constant(value=str(meaning))):
                        about = " ".join(meaning.split())
                    case _:
                        about = ""
                yield name, (f"{name}: {_plain(ast.unparse(field.annotation))}{_default(field.value)}", about)


def _default(value: ast.expr | None) -> str:
    """A default as code; nothing for a required field."""
    if not isinstance(value, ast.Call):
        return "" if value is None else f" = {_plain(ast.unparse(value))}"
    made = [f" = {ast.unparse(word.value)}()" for word in value.keywords if word.arg == "default_factory"]
    return "".join(made)


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    """The public methods and properties; of a Protocol, those with two underscores too."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and (_is_protocol(node) or not member.name.startswith("_")):
            del (member.args.posonlyargs or member.args.args)[:1]  # self
            yield member


def _text(docstring: str, fields: Mapping[str, str]) -> tuple[str, set[str]]:
    """A docstring of a class in Markdown, and which of the fields it defines: what it defines in indented lines are
    items of lists.
    """
    lines, defined = [""], set()
    for line in docstring.splitlines():
        if item := _DEFINED.match(line):
            name = item[2] if item[2].startswith("`") else f"`{fields.get(item[2], item[2])}`"
            defined.add(item[2])
            lines += [""] if lines[-1] and not lines[-1].lstrip().startswith("- ") else []
            lines.append(f"{' ' * (len(item[1]) // 2 - 2)}- {name}: {item[3]}")
        elif line.startswith("    "):
            lines[-1] += f" {line.strip()}"
        elif line != "Args:":
            lines += [""] if line and lines[-1].lstrip().startswith("- ") else []
            lines += [line]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), defined


def _signature(member: ast.FunctionDef) -> str:
    result = ast.unparse(member.returns) if member.returns else "None"
    marks = {mark.id for mark in member.decorator_list if isinstance(mark, ast.Name)}
    if marks & {"property", "cached_property"}:
        return f"{member.name}: {_plain(result)}"
    arguments = ast.unparse(member.args)
    return f"{member.name}({_plain(arguments)})" + ("" if result == "None" else f" -> {_plain(result)}")


def _plain(annotation: str) -> str:
    """An annotation as the code has it, with texts in double quotes."""
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
