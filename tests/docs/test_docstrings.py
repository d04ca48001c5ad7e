"""Every public name has a docstring that says what a user must know."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.docs.public import Public, with_members

# Annotations of arrays; bare Any is anything that can be made one.
ARRAY = re.compile(r"\b(Tensor|ndarray|NDArray|ArrayLike)\b|^Any\b")
OTHER = re.compile(r"\b(Callable|Mapping|dict)\b")
# How a docstring states a shape: ``(m, n)``, in a word, or by where the same argument is described.
SHAPE = re.compile(
    r"``\(|\bshape|\bscalar|\bmatri|\bvector|\[W_1|\bone (for every|value|number)\b|\bas (for|in)\b|\bsee `"
)
ENTRY = re.compile(r"^    (\*{0,2}\w[\w*, ]*): (.*(?:\n(?: {5}.*)?)*)", re.MULTILINE)

PUBLIC = list(with_members())


def sections(docstring: str) -> dict[str, str]:
    """Return the sections of a docstring by their headings."""
    _, *parts = re.split(r"^(\w+):\n", docstring, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def entries(section: str) -> dict[str, str]:
    """Return what a section says about every name; several may share an entry."""
    return {name.strip(" *"): text for names, text in ENTRY.findall(section) for name in names.split(",")}


def arrays(annotations: Mapping[str, Any]) -> list[str]:
    """Return the names of what holds arrays."""
    texts = {name: str(kind) for name, kind in annotations.items()}
    return [name for name, kind in texts.items() if ARRAY.search(kind) and not OTHER.search(kind)]


def arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of the arguments that have names."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.annotation for one in parameters if one.kind in named and one.name != "self"}


def given(value: Any) -> tuple[str, dict[str, Any], Any]:
    """Return the section that describes what an object is given, the annotations of that, and its result."""
    if inspect.isclass(value) and "__dataclass_fields__" in vars(value):
        fields = value.__dataclass_fields__.values()
        return "Attributes", {one.name: one.type for one in fields if not one.name.startswith("_")}, None
    if inspect.isclass(value):
        return "Args", arguments(value.__init__) if "__init__" in vars(value) else {}, None
    function = value.fget if isinstance(value, property) else inspect.unwrap(value)
    return "Args", arguments(function), inspect.signature(function).return_annotation


def faults(one: Public) -> Iterator[str]:
    """Yield what the docstring of a public object leaves out."""
    text = inspect.getdoc(one.value) or ""
    if not text.partition("\n\n")[0].rstrip().endswith((".", ":")):
        yield "a summary that is a sentence"
    heading, annotations, result = given(one.value)
    described = entries(sections(text).get(heading, ""))
    for name in arrays(annotations):
        if name not in described:
            yield f"`{name}` in {heading}"
        elif not SHAPE.search(described[name]):
            yield f"the shape of `{name}`"
    if heading == "Args" and arrays(annotations) and "Raises" not in text:
        yield "Raises"
    if re.search(r"Tensor|ndarray|NDArray", str(result)) and not SHAPE.search(text):
        yield "the shape of the result"


@pytest.mark.parametrize("one", PUBLIC, ids=[one.name for one in PUBLIC])
def test_a_docstring_has_a_summary_and_states_shapes_and_errors_of_arrays(one: Public) -> None:
    assert list(faults(one)) == []
