"""Packages whose names are imported on first access, so that ``dmf-fast --help`` is fast."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from inspect import getsource
from types import ModuleType
from typing import Any

from dmf_fast.extras import is_installed, require


def import_lazily(package: str, **needs: str) -> None:
    """Make ``package`` import the names under its ``if TYPE_CHECKING:`` on first access.

    ``needs`` maps a name to an optional package. Without that package, accessing the name raises a
    `MissingExtraError`, and ``dir``, ``import *`` and ``help`` omit it.

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
    hidden = {name for name, needed in needs.items() if not is_installed(needed)}
    module.__class__ = _LazyPackage
    module.__dict__.update(_sources=sources, _needs=needs, _hidden=hidden)
    if hidden:
        module.__dict__["__all__"] = [name for name in module.__dict__["__all__"] if name not in hidden]


class _LazyPackage(ModuleType):
    _sources: dict[str, tuple[str, str]]
    _needs: dict[str, str]
    _hidden: set[str]

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__["_sources"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        source, original = self._sources[name]
        if name in self._needs:
            require(f"`{name}`", self._needs[name])
        try:
            if source == self.__name__:
                value: Any = import_module(f"{source}.{original}")
            else:
                value = getattr(import_module(source), original)
        except AttributeError as error:  # Python would take it for a missing name
            raise ImportError(f"{source} cannot be imported: {error}") from error
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Python makes a submodule an attribute of its package; a function of the same name takes precedence.
        if not (isinstance(value, ModuleType) and name in self._sources):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self._sources} - self._hidden)
