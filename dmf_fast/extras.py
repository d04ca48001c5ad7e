"""Optional packages, the extras that install them, and the error for missing ones."""

from __future__ import annotations

from importlib.util import find_spec

# Import name of a package: its name in messages, and the extra in pyproject.toml that installs it.
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
    """An optional package is not installed."""


def require(what: str, *packages: str) -> None:
    """Raise a `MissingExtraError` if one of ``packages``, given by import names, is not installed.

    The packages are not imported. ``what``, the feature that needs them, calls this first.

    >>> require("`MatrixCompleter`", "sklearn")
    """
    for package in packages:
        if not is_installed(package):
            raise MissingExtraError(missing(what, package), name=package)


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, and is not just a folder of that name.

    >>> is_installed("no_such_package")
    False
    """
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def missing(what: str, package: str) -> str:
    """Return the message that ``what`` needs a package, with the command that installs it.

    >>> missing("`MatrixCompleter`", "sklearn")
    "`MatrixCompleter` needs scikit-learn: run `pip install 'dmf-fast[sklearn]'`"
    """
    name, extra = PACKAGES[package]
    return f"{what} needs {name}: run `pip install 'dmf-fast[{extra}]'`"
