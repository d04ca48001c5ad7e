"""How Sphinx builds the documentation: `make docs` writes it to build/docs and treats warnings as errors.

Nothing is loaded from the network, neither by the build nor by the pages.
"""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "dmf_fast"
author = "The dmf_fast authors"
copyright = f"2026, {author}"
release = version = version_of("dmf-fast")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_pages",
    "mathml",
    "option_docs",
    "pages_from_elsewhere",
    "public_names",
]
exclude_patterns = ["_extensions"]

# Pages: MyST Markdown that GitHub renders as well; those with a Jupytext header are notebooks.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
smartquotes_action = "D"  # dashes of Sphinx's own; quotes stay as they are typed
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True

# The reference: short signatures, with the types in the list of arguments.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "inherited-members": "object,Options",
    "show-inheritance": True,
}
autosummary_generate = False
napoleon_use_ivar = True
strip_signature_backslash = True  # napoleon then keeps the underscore at the end of scikit-learn's attributes
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# A name in backticks is a link if it is one of ours. Ours must exist; without a network, others' cannot be
# looked up.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!dmf_fast\b).*")]

html_theme = "furo"
html_title = f"dmf_fast {release}"
html_static_path = ["_static"]
html_css_files = ["dmf_fast.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
