"""The pages in a real browser, as their readers see them."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from src.data.grids import png
from src.report.card import render_card
from src.report.comparison import known_experiments
from src.report.experiments import compare, render_experiments
from src.report.pages import render_report
from tests.report.test_experiments import shown
from tests.report.test_pages import FIGURES, LINK, findings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Opens a page; complaints and calls for other files fail the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(html: str, width: int = 1300, dark: bool = False) -> Page:
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((file.as_uri(), "data:"))
                else complaints.append(request.url)
            ),
        )
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def report(**changes: Any) -> str:
    found = findings(**changes)
    picture = png(np.random.default_rng(1).integers(0, 256, (300, 900), dtype=np.uint8))
    samples = {
        "NORMAL": {1: picture, 5: picture, 30: picture},
        "PNEUMONIA": {2: picture},
    }
    return render_report(
        found, dict.fromkeys(FIGURES, picture), samples, render_card(found), LINK, True
    )


def column(page: Page, table: str, number: int) -> list[str]:
    return page.locator(f"{table} tbody tr td:nth-child({number})").all_inner_texts()


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_its_window_and_can_be_read(opened: Any, width: int, dark: bool) -> None:
    page = opened(report(), width, dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = (
        page.evaluate(f"getComputedStyle(document.body).{name}")
        for name in ("color", "backgroundColor")
    )
    assert contrast(ink, paper) > 7  # WCAG's AAA
    link = page.evaluate("getComputedStyle(document.querySelector('nav a')).color")
    assert contrast(link, paper) > 4.5
    assert page.evaluate("[...document.images].filter(i => i.src && !i.alt).length") == 0


def contrast(first: str, second: str) -> float:
    """The contrast of two colours, as WCAG 2 defines it."""

    def light(colour: str) -> float:
        values = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_tables_are_sorted_by_a_heading(opened: Any) -> None:
    page = opened(report())
    table = "table:has(caption:has-text('Distances of this run'))"
    before = column(page, table, 1)
    head = page.locator(table).locator("th button", has_text="mean")
    head.click()
    means = [float(text) for text in column(page, table, 4)]
    assert means == sorted(means)
    head.press("Enter")  # by keyboard, the other way round
    means = [float(text) for text in column(page, table, 4)]
    assert means == sorted(means, reverse=True)
    cell = page.locator(table).locator("th", has_text="mean")
    assert cell.get_attribute("aria-sort") == "descending"
    page.locator(table).locator("th button", has_text="pair").click()
    assert column(page, table, 1) == sorted(before)
    assert cell.get_attribute("aria-sort") is None


def test_the_slider_goes_through_the_epochs(opened: Any) -> None:
    page = opened(report())
    box = page.locator(".epochs").first
    slider, told = box.locator("input"), box.locator("output")

    def seen() -> list[str]:
        captions = box.locator("figcaption").all()
        return [caption.inner_text() for caption in captions if caption.is_visible()]

    assert told.inner_text() == "epoch 30"
    assert seen() == ["NORMAL after epoch 30"]
    slider.press("ArrowLeft")
    assert told.inner_text() == "epoch 5"
    slider.press("Home")
    assert seen() == ["NORMAL after epoch 1"]
    # One grid alone needs no slider.
    other = page.locator(".epochs").nth(1)
    assert not other.locator("input").is_visible()
    assert other.locator("figure").is_visible()


def test_figures_are_enlarged_and_put_back(opened: Any) -> None:
    page = opened(report())
    figure = page.locator("figure img").first
    dialog = page.locator("dialog")
    assert not dialog.is_visible()
    figure.click()
    assert dialog.is_visible()
    assert dialog.locator("img").get_attribute("alt") == figure.get_attribute("alt")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    figure.focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    dialog.click()
    assert not dialog.is_visible()


def test_every_link_of_the_contents_leads_to_its_section(opened: Any) -> None:
    page = opened(report())
    for link in page.locator("nav a").all():
        link.click()
        place = link.get_attribute("href")
        top = page.locator(place).evaluate("node => node.getBoundingClientRect().top")
        at_end = page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2")
        assert 0 <= top < 120 or at_end
        assert page.locator(place).is_visible()


def test_hostile_names_do_nothing(opened: Any) -> None:
    hostile = "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"
    parameters = {"data.path": hostile, "preprocess.image_size": hostile, "data.source": "phantom"}
    page = opened(report(title=hostile, parameters=parameters))
    assert page.title() == hostile
    assert page.locator("h1").inner_text() == hostile


def test_the_comparison_of_experiments_is_sorted(opened: Any) -> None:
    page = opened(render_experiments(compare(known_experiments(shown()))))
    page.locator("th button", has_text="train.normal.batch_size").click()
    assert column(page, "table", 3) == ["16", "32", "32", "64"]
