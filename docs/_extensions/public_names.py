"""Every public object is documented once, under its shortest name; links under any of its names find it."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docstrings import prepare_docstring
from sphinx.util.nodes import make_refnode

import dmf_fast


def _skip(app: Sphinx, what: str, name: str, value: Any, skip: bool, _: Any) -> bool | None:
    """Leave out what others' bases bring, and of a package what the top level exports, which pages name."""
    home = getattr(getattr(value, "__objclass__", value), "__module__", None) or "dmf_fast"
    if what in ("class", "exception") and not home.startswith("dmf_fast"):
        return True
    module = app.env.current_document.autodoc_module
    exported = name in dmf_fast.__all__ and getattr(dmf_fast, name) is value
    return True if what == "module" and module != "dmf_fast" and exported else None


def _object(name: str) -> Any:
    """Return what a dotted name means; None for nothing."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            find = inspect.getattr_static if inspect.isclass(value) else getattr
            value = find(value, part, None)
        return value
    return None


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Node) -> nodes.Node | None:
    """Link another name of a documented object to it; what exists but is not public is no link."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    found = _object(target) or _object(f"{node.get('py:module')}.{target}")
    name = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
    place = env.domains.python_domain.objects.get(name)
    if place is not None:
        return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, text)
    return text if found is not None else None


def _link(app: Sphinx, doctree: nodes.document) -> None:
    """Make code that is a full name, such as `dmf_fast.fit`, refer to what it names; object is no base."""
    for line in list(doctree.findall(nodes.paragraph)):
        if line.astext() == "Bases: object":
            line.parent.remove(line)
    for node in list(doctree.findall(nodes.literal)):
        name = node.astext()
        if re.fullmatch(r"dmf_fast(\.\w+)+", name) and isinstance(node.parent, nodes.paragraph | nodes.entry):
            place = {"refdomain": "py", "reftype": "obj", "reftarget": name, "refdoc": app.env.docname}
            node.replace_self(pending_xref("", node.deepcopy(), refwarn=True, refexplicit=False, **place))


def _document_data(app: Sphinx, what: str, name: str, value: Any, _: Any, lines: list[str]) -> None:
    """Take the docstring of a constant from the module that defines it."""
    if what != "data":
        return
    package, _, attribute = name.rpartition(".")
    module = vars(import_module(package)).get("_sources", {}).get(attribute, (package,))[0]
    docs = ModuleAnalyzer.for_module(module).find_attr_docs()
    lines[:] = docs.get(("", attribute), [])


def _tidy(app: Sphinx, what: str, name: str, value: Any, _: Any, lines: list[str]) -> None:
    """Let a name in backticks end within a word, as in `Tensor`s, and a colon of a property be a colon."""
    if (
        what == "property" and value.__doc__
    ):  # of which napoleon takes what stands before a colon for the type
        lines[:] = GoogleDocstring(prepare_docstring(value.__doc__), app.config, app, "method", name).lines()
    lines[:] = [re.sub(r"(?<!`)(`[^`]+`)(?=\w)", r"\1\\ ", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hooks."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _document_data, priority=400)
    app.connect("autodoc-process-docstring", _tidy, priority=600)
    app.connect("doctree-read", _link)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
