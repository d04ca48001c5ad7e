"""What tests of pages share: a page as a browser sees it."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text outside style sheets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._style else data

    def values(self, *names: str) -> list[str]:
        return [value or "" for _, attrs in self.tags for name, value in attrs.items() if name in names]


def assert_self_contained(page: Page) -> None:
    """Check that a page loads nothing, runs no script and only links to its own parts."""
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "img", "object", "embed", "image"}
    assert all(link.startswith("#") for link in page.values("src", "href", "xlink:href", "srcset", "action"))
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not [value for value in page.values("style") if "url(" in value and "url(#" not in value]
