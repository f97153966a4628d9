"""What the project's pages share: templates in which all is escaped, one style, figures inside."""

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined


def pages() -> Environment:
    """The templates of this folder."""
    environment = Environment(
        loader=PackageLoader("src.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = as_score
    return environment


def as_url(png: bytes) -> str:
    """A PNG file as an address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def as_score(value: float) -> str:
    """A distance with three significant digits or more, never in powers of ten."""
    if value == 0:
        return "0"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"
