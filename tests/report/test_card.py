import html
from typing import Any

import pytest

from src.report.card import render_card
from src.report.findings import differing_splits
from src.report.templates import markdown_to_html
from tests.report.test_pages import HOSTILE, NAMES, copies, findings, of_both, page

IDS = dict(zip(NAMES, NAMES, strict=True))


def card(**changes: Any) -> str:
    return " ".join(render_card(findings(**changes)).split())


def test_the_card_tells_what_whoever_gets_a_generator_must_know() -> None:
    found = card()
    for part in (
        "Not for diagnosis",
        "procedural chest phantoms, not patients; licence MIT",
        "Train images: 24 NORMAL of 24 patients, 24 PNEUMONIA of 24 patients.",
        f"| NORMAL | `{'a' * 64}` | 24 | 3 | 8 | bce | 2,704,897 |",
        "| NORMAL | Fréchet distance | 24 | 0.450 | 0.350 to 0.550 | 11 | 0.500 | 0.200 | 0.210 |",
        "| NORMAL | recall | 6 | 0.625 | too few | | | too few | |",
        "| sd of pixels | 0.500 | 1.000 | 0.900 to 1.100 | 0.500 | 1.000 | 0.900 to 1.100 |",
        "64 features of classifier",
        "The hypothesis holds",
        "**NORMAL.** No sign of copying: 1.0%.",
        "Generated images did not improve the classifier",
        "the excess of the Fréchet distance is 50%",
        "`CITATION.cff`",
    ):
        assert part in found


def test_the_card_calls_the_classes_by_their_names_alone() -> None:
    ids, names = (render_card(of_both(class_names=given)) for given in (IDS, NAMES))
    assert ids.replace("NORMAL", "healthy").replace("PNEUMONIA", "COVID-19") == names
    for sentence in (
        "one for each class (healthy, COVID-19)",
        "24 healthy of 24 patients",
        "The COVID-19 splits differ in these features",
        "- healthy: 50% of the real test images lie where generated images lie (recall)",
    ):
        assert sentence in names


@pytest.mark.parametrize("names", HOSTILE)
def test_names_of_classes_are_shown_as_they_are(names: dict[str, str]) -> None:
    """In Markdown, which would make emphasis, links, cells or lists of them."""
    shown, ids = (
        str(markdown_to_html(render_card(of_both(class_names=given)))) for given in (names, IDS)
    )
    for label, name in names.items():
        ids = ids.replace(label, html.escape(name))
    assert shown == ids


def test_real_data_are_credited_and_a_copying_generator_is_called_so() -> None:
    found = card(
        source="kermany",
        privacy={"NORMAL": copies() | {"verdict": "copies", "sentence": "Copies!"}},
    )
    assert found.count("Kermany, Zhang and Goldbaum, Mendeley Data, doi:10.17632/rscbjbr9sj") == 2
    assert "CC BY 4.0" in found
    assert "chest X-rays of children" in found
    assert "phantom" not in found
    assert "**NORMAL.** Copies!" in found


def test_both_say_whose_images_nobody_knows() -> None:
    told = "The patients of 7 images are not known"
    assert told not in card() + page()
    quality = {**findings().quality, "images_without_patient": 7}
    assert told in card(quality=quality)
    assert told in page(quality=quality)


def test_both_say_where_the_test_images_are_no_fair_measure() -> None:
    """Else a generator is blamed for what its train images are."""
    told = (
        "The NORMAL splits differ in these features: real train and test images are 0.5 apart "
        "(11 a side), 50% of the way from the floor to the other class"
    )
    fair = findings()
    scores = {
        "NORMAL": {"frechet": {**fair.scores["NORMAL"]["frechet"], "train_test_at_floor_n": 0.5}},
        "PNEUMONIA": {"frechet": {"value": 0.4, "n_real": 4, "n_fake": 4}},
    }
    assert told in card(scores=scores)
    assert told in " ".join(page(scores=scores).split())
    assert "splits differ" not in card() + page()
    for extractor, reason in (
        ("inception", "A perfect model of the train images would score the same."),
        (
            "classifier",
            "most of these train images, which may explain a part of it.",
        ),
    ):
        assert [sentence.endswith(reason) for sentence in differing_splits(scores, extractor)] == [
            True
        ]


def test_all_say_where_generated_images_are_unlike_real_ones() -> None:
    """The distances of noise may agree with the hypothesis; the verdict is not green then."""
    told = "The generated NORMAL images are unlike real ones: 0% of them lie among real images"
    fair = findings()
    normal = {**fair.scores["NORMAL"], "precision": {"value": 0.0, "n_real": 4, "n_fake": 4}}
    scores = {**fair.scores, "NORMAL": normal}
    pixels = {"name": "pixels", "dims": 64}
    assert told in card(scores=scores)
    noise, usual, blind = (
        " ".join(text.split())
        for text in (page(scores=scores, extractor=pixels), page(extractor=pixels), page())
    )
    assert told in noise
    assert 'class="verdict good">The hypothesis holds' in usual
    assert 'class="verdict neutral">The hypothesis holds' in noise
    assert "unlike real ones" not in usual + card()
    # The classifier finds noise near, which no score of its features shows.
    assert 'class="verdict neutral">The hypothesis holds' in blind
    told = "it may take images for near that are unlike any X-ray"
    assert told in blind
    assert told not in usual
