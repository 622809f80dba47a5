"""The name that a saved fit gives its class, and the search for that class.

The name is that of the plugin and of the class, `method/pca:PCADecomposition`, so that the class may move between the
plugin's modules. Where no installed plugin knows it, as with a single file, it is `module:Class`, where the module is
the package if that exports the class (`harness:GroupedDecomposition`). Older fits all have that form, and those whose
module is gone are looked for by the name of their class alone.

A saved folder must not be able to import whatever it likes: only modules already imported, or of a package that
registered a plugin, are looked into. Of the harness itself only `harness.plugins` is imported, and no `__main__` is.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from harness.errors import PluginError
from harness.registry.plugin_manager import BUILTINS_MODULE, FILE_MODULE_PREFIX, Registered, load_catalog

_RENAMED = {"plugins": "harness.plugins"}
"""The former names of packages, in fits that were made before these were renamed."""


class NotFound(Exception):
    """The class that a saved fit names is not there; the message goes on from "needs"."""


def class_name(cls: type, method: str | None = None) -> str:
    """The name of this class in a saved fit. Where several methods know the class, `method` is named if it is one."""

    def preference(registered: Registered) -> tuple[bool, bool, str]:
        is_at_home = str(registered.spec.factory).partition(":")[0] == cls.__module__
        return registered.spec.name != method, not is_at_home, registered.spec.name

    for registered in sorted(_methods(), key=preference):
        if _is_loaded(registered) and _known_if_whole(registered, cls.__qualname__) is cls:
            return f"method/{registered.spec.name}:{cls.__qualname__}"
    top = _top(cls.__module__)
    is_public = getattr(sys.modules.get(top), cls.__qualname__, None) is cls
    return f"{top if is_public else cls.__module__}:{cls.__qualname__}"


def find_class(reference: str) -> Any:
    """The object that a saved fit names as its class, or NotFound."""
    place, _, name = reference.partition(":")
    kind, slash, method = place.partition("/")
    if not slash:
        return _in_module(place, name)
    registered = load_catalog().entries.get((kind, method)) if kind == "method" else None
    if registered is None:
        raise NotFound(f"{name} of {place}, which is no installed method.")
    try:
        found = _known_to(registered, name) or _moved(_top(registered.module.__name__), name)
    except PluginError as error:
        raise NotFound(f"{name}. {error}") from error
    if found is None:
        raise NotFound(f"{name} of {place}, which can't be found: it has no such class.")
    return found


def _in_module(module_name: str, name: str) -> Any:
    top, _, rest = module_name.partition(".")
    renamed = [f"{_RENAMED[top]}.{rest}"] if top in _RENAMED else []
    allowed = [place for place in (module_name, *renamed) if place in sys.modules or _top(place) in _known_tops()]
    if not allowed:
        module = module_name.removeprefix(FILE_MODULE_PREFIX)
        raise NotFound(f"{name} of module {module!r}, which is not loaded.")
    why: BaseException | str = "the module has no such class"
    for place in allowed:
        found = None
        if place in sys.modules or _may_be_imported(place):
            try:
                found = _attribute(sys.modules.get(place) or importlib.import_module(place), name)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the plugin's own import; it may even call sys.exit
                why = error
        else:
            why = "a saved fit may not import it"
        found = found or _moved(_top(place), name)
        if found is not None:
            return found
    raise NotFound(f"{module_name}:{name}, which can't be found: {why}.")


def _may_be_imported(module_name: str) -> bool:
    """True for a module, of a package that registered a plugin, that may hold a method and is no program."""
    package = BUILTINS_MODULE if _top(module_name) == _top(BUILTINS_MODULE) else _top(module_name)
    return f"{module_name}.".startswith(f"{package}.") and "__main__" not in module_name.split(".")


def _moved(top: str, name: str) -> Any:
    """The object that a method of the package `top` knows by this name, wherever it is; None if no method does."""
    for registered in sorted(_methods(), key=lambda registered: registered.spec.name):
        if _top(registered.module.__name__) == top and (found := _known_if_whole(registered, name)) is not None:
            return found
    return None


def _methods() -> list[Registered]:
    return [registered for (kind, _), registered in load_catalog().entries.items() if kind == "method"]


def _known_tops() -> set[str]:
    return {_top(registered.module.__name__) for registered in load_catalog().entries.values()}


def _top(module_name: str) -> str:
    return module_name.partition(".")[0]


def _is_loaded(registered: Registered) -> bool:
    factory = registered.spec.factory
    return not isinstance(factory, str) or factory.partition(":")[0] in sys.modules


def _known_to(registered: Registered, name: str) -> Any:
    """The object of this name in the factory's module, or in one that it derives from; None if none has it."""
    return next((found for module in _modules(registered) if (found := _attribute(module, name)) is not None), None)


def _known_if_whole(registered: Registered, name: str) -> Any:
    """Look as `_known_to` does; None also where the plugin can't be imported, which says nothing about the class."""
    try:
        return _known_to(registered, name)
    except PluginError:
        return None


def _modules(registered: Registered) -> Iterator[ModuleType]:
    factory = registered.resolve(registered.spec.factory)
    classes = inspect.getmro(factory) if isinstance(factory, type) else (factory,)
    reference = registered.spec.factory
    named = [reference.partition(":")[0]] if isinstance(reference, str) else []
    for module_name in dict.fromkeys([*named, *(getattr(one, "__module__", "") for one in classes)]):
        if module_name in sys.modules:
            yield sys.modules[module_name]


def _attribute(place: Any, name: str) -> Any:
    for part in name.split("."):
        place = getattr(place, part, None)
    return place
