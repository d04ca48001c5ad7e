"""Packages whose names are imported when they are first asked for, so that ``dmf-fast --help`` is quick."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from inspect import getsource
from types import ModuleType
from typing import Any


def import_lazily(package: str) -> None:
    """Have ``package`` import the names under its ``if TYPE_CHECKING:`` when they are first asked for.

    >>> import_lazily(__name__)
    """
    module = sys.modules[package]
    guarded = [node for node in ast.parse(getsource(module)).body if isinstance(node, ast.If)]
    sources = {
        alias.asname or alias.name: (node.module, alias.name)
        for block in guarded
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    module.__class__ = _LazyPackage
    module.__dict__["_sources"] = sources


class _LazyPackage(ModuleType):
    _sources: dict[str, tuple[str, str]]

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__["_sources"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        source, original = self._sources[name]
        try:
            if source == self.__name__:
                value: Any = import_module(f"{source}.{original}")
            else:
                value = getattr(import_module(source), original)
        except AttributeError as error:  # which Python would take for a name that does not exist
            raise ImportError(f"{source} cannot be imported: {error}") from error
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Python makes a submodule an attribute of its package; a function of the same name goes first.
        if not (isinstance(value, ModuleType) and name in self._sources):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self._sources})
