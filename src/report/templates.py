"""What the project's pages share: templates in which all is escaped, one style, figures inside."""

import base64
import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup


def pages() -> Environment:
    """The templates of this folder."""
    return _templates(autoescape=True)


def markdown_texts() -> Environment:
    """The same for texts in Markdown, which are escaped where they become a page."""
    return _templates(autoescape=False)


def _templates(autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = as_score
    environment.filters["markdown"] = from_markdown
    environment.filters["literal"] = as_literal
    return environment


def from_markdown(text: str) -> Markup:
    """Markdown as HTML for a section of a page; HTML in it is shown, not used."""
    renderer = MarkdownIt("js-default")
    shown = str(renderer.render(text))
    # Its headings lie below those of the page's sections.
    for level in (2, 1):
        shown = shown.replace(f"<h{level}>", f"<h{level + 2}>")
        shown = shown.replace(f"</h{level}>", f"</h{level + 2}>")
    return Markup(
        shown.replace("<table>", '<div class="scroll"><table>').replace(
            "</table>", "</table></div>"
        )
    )


def as_literal(text: str) -> str:
    """A text as Markdown that shows it as it is, in one line: no links, images or emphasis."""
    return re.sub(r"([\\`*_\[\]()!<>|#~&])", r"\\\1", " ".join(text.split()))


def as_url(png: bytes) -> str:
    """A PNG file as an address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def as_score(value: float) -> str:
    """A distance with three significant digits or more, in powers of ten only below 0.0001."""
    if value == 0:
        return "0"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"
