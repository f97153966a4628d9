"""Jinja templates of the project's pages and cards, with the filters that they share."""

import base64
import re
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markdown_it import MarkdownIt
from markupsafe import Markup

from .wording import with_class_names


def html_templates() -> Environment:
    """Return this folder's templates of pages, which escape every value."""
    return _environment(autoescape=True)


def markdown_templates() -> Environment:
    """Return this folder's templates of Markdown, which is escaped when it becomes HTML."""
    return _environment(autoescape=False)


def _environment(autoescape: bool) -> Environment:
    """Make an environment of this folder's templates, with the filters."""
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=as_score,
        percent=as_percent,
        interval=as_interval,
        markdown=markdown_to_html,
        literal=escape_markdown,
        named=_named,
    )
    return environment


@pass_context
def _named(context: Context, text: str) -> str:
    """Put the classes' names, which a template gets as ``class_names``, into a text."""
    return with_class_names(text, context["class_names"])


def markdown_to_html(text: str) -> Markup:
    """Render Markdown as HTML for a section of a page; HTML in it is escaped."""
    renderer = MarkdownIt("js-default")
    html = str(renderer.render(text))
    # Its headings lie below those of the page's sections.
    for level in (2, 1):
        html = html.replace(f"<h{level}>", f"<h{level + 2}>")
        html = html.replace(f"</h{level}>", f"</h{level + 2}>")
    return Markup(
        html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    )


def escape_markdown(text: str) -> str:
    """Escape a text for Markdown, in one line: no links, images, emphasis or lists."""
    escaped = re.sub(r"([\\`*_\[\]()!<>|#~&])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^(\d*)([-+.])", r"\1\\\2", escaped)


def as_data_url(png: bytes) -> str:
    """Encode a PNG file as a data URL, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def as_score(value: float) -> str:
    """Format a score with three significant digits or more; exponents only below 0.0001."""
    if value == 0:
        return "0"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"


def as_percent(share: float, digits: int = 0) -> str:
    """Format a share as a percentage, never as a negative zero."""
    return f"{round(100 * share, digits) + 0.0:.{digits}f}%"


def as_interval(values: Sequence[float], digits: int = 3, sign: str = "") -> str:
    """Format (value, low, high) as "value (low to high)", without negative zeros.

    Args:
        values: the value and the bounds of its interval.
        digits: decimals of each.
        sign: "+" to show the signs of positive numbers.
    """
    value, low, high = (f"{round(value, digits) + 0.0:{sign}.{digits}f}" for value in values)
    return f"{value} ({low} to {high})"
