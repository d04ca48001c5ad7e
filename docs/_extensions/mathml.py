"""Formulas as MathML, which browsers render by themselves: no script, no image and no download."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

# In TeX these stretch only after \left and \right, and bars are on either side of what they enclose.
_FENCES = {
    '<mo class="mathopen">(.)</mo>': r'<mo form="prefix" stretchy="false">\1</mo>',
    "<mo>([‖|])</mo>": r'<mo form="postfix" stretchy="false">\1</mo>',
    "<mo>([⟨⟩])</mo>": r'<mo stretchy="false">\1</mo>',
}


def _mathml(node: nodes.math | nodes.math_block, *, block: bool) -> str:
    try:
        found = tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        logging.getLogger(__name__).warning("%s in %s", error, node.astext(), location=node)
        return ""
    for pattern, fence in _FENCES.items():
        found = re.sub(pattern, fence, found)
    return found


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node, block=False))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer that `html_math_renderer` names."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
