"""What needs more than ``pip install dmf-fast`` brings, and the command that installs it."""

from __future__ import annotations

from importlib.util import find_spec

# By the name under which a package is imported: what it is called, and the extra of pyproject.toml.
PACKAGES = {
    "click": ("click", "cli"),
    "rich": ("rich", "cli"),
    "yaml": ("PyYAML", "cli"),
    "jinja2": ("Jinja2", "cli"),
    "sklearn": ("scikit-learn", "sklearn"),
    "optuna": ("Optuna", "tune"),
    "matplotlib": ("Matplotlib", "plots"),
    "duckdb": ("DuckDB", "prepare"),
    "huggingface_hub": ("huggingface_hub", "hub"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "skimage": ("scikit-image", "images"),
    "lenskit": ("LensKit", "lenskit"),
}


class MissingExtraError(ModuleNotFoundError):
    """A package is not installed that only a part of dmf_fast needs."""


def require(what: str, *packages: str) -> None:
    """Raise a `MissingExtraError` if one of ``packages``, by their import names, is not installed.

    Imports none of them: ``what`` calls this before it begins, and imports them where it uses them.

    >>> require("`MatrixCompleter`", "sklearn")
    """
    for package in packages:
        if not is_installed(package):
            raise MissingExtraError(missing(what, package), name=package)


def is_installed(package: str) -> bool:
    """Return whether a package can be imported; a folder that only has its name cannot.

    >>> is_installed("no_such_package")
    False
    """
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def missing(what: str, package: str) -> str:
    """Return the sentence that says what needs a package, and how to install it.

    >>> missing("`MatrixCompleter`", "sklearn")
    "`MatrixCompleter` needs scikit-learn: run `pip install 'dmf-fast[sklearn]'`"
    """
    name, extra = PACKAGES[package]
    return f"{what} needs {name}: run `pip install 'dmf-fast[{extra}]'`"
