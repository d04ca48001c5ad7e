"""Pages whose text is elsewhere in the repository, and links that hold here as they do there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "changelog": ROOT / "CHANGELOG.md",
    "kernels": ROOT / "csrc" / "README.md",
    "performance": ROOT / "bench" / "README.md",
}
"""The file that each of these pages consists of."""

_LINK = re.compile(r"\[([^][]*)\]\((?!\w+:|#)([^)#\s]+)")


def relinked(text: str, written_in: Path, page: Path) -> str:
    """Return Markdown whose relative links, right in one folder, are right on a page of the documentation.

    A link to a file that is a page leads to the page; of one to a folder, which no page shows, the text
    remains.
    """

    def link(found: re.Match[str]) -> str:
        target = (written_in / found[2]).resolve()
        if target.is_dir():
            return f"<a>{found[1]}"
        shown = {file: ROOT / "docs" / f"{name}.md" for name, file in PAGES.items()}.get(target, target)
        return f"[{found[1]}]({Path(os.path.relpath(shown, page.parent)).as_posix()}"

    return re.sub(r"<a>(.*?)\)", r"\1", _LINK.sub(link, text))


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    file = PAGES.get(docname, page)
    text = file.read_text("utf-8") if docname in PAGES else source[0]
    source[0] = relinked(text, file.parent, page)
    if docname in PAGES:
        app.env.note_dependency(str(file), docname=docname)


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the text of the pages when they are read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
