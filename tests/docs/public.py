"""What is public: the names that packages export and those of public modules."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import dmf_fast

# What users are not meant to import; a new module is public unless it stands here.
INTERNAL = {"checks", "cli", "cuda", "extras", "figure_style", "files", "html", "lazy", "ops", "options"}
INTERNAL |= {"page", "reference", "sharding", "threads", "version"}


@dataclass(frozen=True)
class Public:
    """A public object: where it is exported from, what it is, and where it is written."""

    name: str
    value: Any

    @property
    def documented(self) -> bool:
        """Whether it is something that can have a docstring of its own."""
        return inspect.isclass(self.value) or inspect.isroutine(self.value)

    @property
    def file(self) -> str:
        """The file that it is written in, from the root of the repository."""
        found = inspect.getsourcefile(inspect.unwrap(getattr(self.value, "fget", None) or self.value))
        assert found is not None
        return str(Path(found).relative_to(Path(dmf_fast.__path__[0]).parent))


def modules() -> list[ModuleType]:
    """Return the package, and every public module and package right below it."""
    folder = Path(dmf_fast.__path__[0])
    paths = [path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    names = sorted({path.stem for path in paths} - INTERNAL)
    return [dmf_fast, *(import_module(f"dmf_fast.{name}") for name in names if not name.startswith("_"))]


def names_of(module: ModuleType) -> list[str]:
    """Return what a module exports: its ``__all__``, or else the public names that it defines."""
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]
    return [name for name in names if not name.startswith("_")]


def objects() -> list[Public]:
    """Return all public objects, each once for every name that it has, without modules."""
    found = [
        Public(f"{module.__name__}.{name}", getattr(module, name))
        for module in modules()
        for name in names_of(module)
    ]
    return [one for one in found if not inspect.ismodule(one.value)]


def with_members() -> Iterator[Public]:
    """Yield public classes and functions, each once, and the methods and properties that classes define."""
    seen: set[int] = set()
    for one in objects():
        if not one.documented or id(one.value) in seen:
            continue
        seen.add(id(one.value))
        yield one
        if inspect.isclass(one.value):
            for member in inspect.classify_class_attrs(one.value):
                method = getattr(member.object, "__func__", member.object)
                ours = member.defining_class.__module__.startswith("dmf_fast")
                known = member.name.startswith("_") or id(method) in seen
                if ours and not known and isinstance(method, property | FunctionType):
                    seen.add(id(method))
                    yield Public(f"{one.name}.{member.name}", method)
