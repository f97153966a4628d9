import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from src.config.registry import VARIETY
from src.metrics.hypothesis import COMPARED_PAIRS, Difference, HypothesisResult
from src.metrics.protocol import KINDS, describe
from src.metrics.thesis import published_description
from src.metrics.verdict import thesis_statistic
from src.privacy.perturbations import PERTURBATIONS
from src.report.card import render_card
from src.report.findings import Findings
from src.report.pages import render_report
from src.report.templates import as_interval, as_percent, as_score
from src.report.wording import MEMBERSHIP_ATTACKS, SECTIONS

LINK = "http://127.0.0.1:5000/#/experiments/1/runs?searchFilter=x"
FIGURES = (
    "distance_boxes",
    "real_beside_generated",
    "sample_evolution",
    "loss_curves",
    "nearest_ratios",
    "closest_pairs",
    "classifier_scores",
)

MEASURE = {"value": 0.5, "real": 1.0, "low": 0.9, "high": 1.1, "n": 24, "range_n": 11}
VARIETIES = dict.fromkeys(VARIETY, MEASURE) | {
    "vendi": {"value": 0.75, "real": 1.0, "n": 24},
    "ms_ssim": MEASURE | {"value": 0.63, "real": 0.51, "low": 0.49, "high": 0.53},
}


DIFFERENCES = tuple(Difference(*pairs, 1.0, 0.25, 1.75) for pairs in COMPARED_PAIRS)


def copies(**changes: Any) -> dict[str, Any]:
    """What privacy_eval finds of one class."""
    counted = {"images": 100, "below": 1, "share": 0.01, "p": 0.6}
    attack = {"auc": 0.52, "low": 0.45, "high": 0.59, "members": 80, "others": 90}
    seen = dict.fromkeys(PERTURBATIONS, counted | {"below": 98, "share": 0.98})
    space = {
        "threshold": 0.7,
        "caught": {"train": counted, "held_out": counted, "generated": counted, **seen},
        "detectable": dict.fromkeys(PERTURBATIONS, 0.034),
        "median_ratio": {"train": 0.95, "held_out": 0.94, "generated": 0.97},
        "authentic": {"held_out": 0.6, "generated": 0.7},
        "c_t_control": 0.3,
        "attack": attack,
        "attack_control": attack,
    }
    found = {"verdict": "no sign of copying", "sentence": "No sign of copying: 1.0%."}
    return found | {"spaces": {"pixels": space | changes}}


def membership(**changes: float) -> dict[str, Any]:
    """What privacy_eval finds with ``privacy.membership``."""
    row = {"auc": 0.521, "low": 0.487, "high": 0.555, "members": 120, "others": 90}
    row |= {"tpr_at_1_percent": 0.013, "tpr_low": 0.0, "tpr_high": 0.031} | changes
    attacks = dict.fromkeys(MEMBERSHIP_ATTACKS, row)
    return {"sentence": "A clean attack tells.", "spaces": {"pixels": attacks}}


UTILITY = {
    "beaten": False,
    "sentence": "Generated images did not improve the classifier: 0 of 12.",
    "images": {"fit": 40, "validation": 8, "test": 32, "generated": 40},
    "repeats": 3,
    "accuracies": {"LeNet-5": {"gan_train": 0.71, "gan_test": 0.83, "real": 0.94}},
    "prevalence": 0.625,
    "scarcity": None,
    "imbalance": None,
}
COMPARISON = {
    "network": "residual",
    "arm": "real + both",
    "fraction": 0.05,
    "patients": 57.0,
    "difference": 0.012,
    "low": 0.001,
    "high": 0.023,
    "p": 0.04,
    "p_corrected": 0.04,
    "is_primary": True,
    "is_control": False,
}
SCARCITY = {
    "sentence": "Generated images improved the classifier where real images are few.",
    "comparisons": [COMPARISON],
    "ways": {"real + both": {"0.25, filter none": 3, "0.5, filter confident": 2}},
    "repeats": 5,
}


CALIBRATIONS = ("calibration_error", "prior_corrected_calibration_error")


def arms(value: str) -> pd.DataFrame:
    """The scores or the differences of one arm."""
    place = {"network": "LeNet-5", "arm": "real + generated", "fraction": 0.2}
    scores = {
        "roc_auc": 0.81,
        "average_precision": 0.75,
        "balanced_accuracy": 0.7,
        "sensitivity": 0.6,
    }
    rows = [
        place | {"metric": metric, value: score, "low": score - 0.05, "high": score + 0.05}
        for metric, score in (scores | dict.fromkeys(CALIBRATIONS, 0.1)).items()
    ]
    return pd.DataFrame(rows)


def findings(**changes: Any) -> Findings:
    rows = [
        {"iteration": i, "pair": pair, "distance": 1 + (kind == "different") + i / 10, "n": 20}
        for i in range(3)
        for pair, kind in KINDS.items()
    ]
    distances = pd.DataFrame(rows)
    losses = {"g": 0.7, "d1": 0.6, "d2": 0.5}
    training = {
        "images": 24,
        "epochs": 3,
        "batches_per_epoch": 3,
        "batch": 8,
        "generator_parameters": 2704897,
        "discriminator_parameters": 2099457,
        "mflop_per_image": 1820.3,
        "loss": "bce",
        "last_losses": losses,
    }
    counts = {s: dict.fromkeys(("NORMAL", "PNEUMONIA"), 24) for s in ("train", "test")}
    values: dict[str, Any] = {
        "title": "A run",
        "source": "phantom",
        "class_names": {"NORMAL": "NORMAL", "PNEUMONIA": "PNEUMONIA"},
        "counts": counts,
        "patients": counts,
        "quality": {
            "bad_images": 3,
            "identical_within": 4,
            "identical_across": 5,
            "patients_across": 6,
            "images_without_patient": 0,
        },
        "verdict": HypothesisResult(DIFFERENCES, 11, thesis_statistic(distances)),
        "description": describe(distances),
        "published": published_description(),
        "scores": {
            "NORMAL": {
                "frechet": {
                    "value": 0.45,
                    "n_real": 24,
                    "n_fake": 24,
                    "low": 0.35,
                    "high": 0.55,
                    "floor_n": 11,
                    "floor": 0.2,
                    "score_at_floor_n": 0.5,
                    "train_test": 0.21,
                    "train_test_at_floor_n": 0.22,
                    "other_class": 0.8,
                    "excess": 0.5,
                    "means_part": 0.125,
                    "covariances_part": 0.325,
                },
                "recall": {"value": 0.625, "n_real": 6, "n_fake": 6},
            }
        },
        "variety": {"NORMAL": VARIETIES, "PNEUMONIA": VARIETIES},
        "privacy": {"NORMAL": copies()},
        "quantile": 0.01,
        "utility": UTILITY,
        "classifiers": arms("value"),
        "differences": arms("difference"),
        "extractor": {
            "name": "classifier",
            "dims": 64,
            "held_out_accuracy": 0.91,
            "held_out_images": 50,
        },
        "training": {"NORMAL": training, "PNEUMONIA": training},
        "generators": {"NORMAL": "a" * 64, "PNEUMONIA": "b" * 64},
        "parameters": {"data.source": "phantom", "preprocess.image_size": "64"},
    }
    return Findings(**values | changes)


def test_a_clean_membership_attack_stands_first_and_in_a_table_or_its_command() -> None:
    command = "make real EXPERIMENTS=1 runs it on real images. It trains two generators"
    assert f"A clean membership attack: not run; {command}" in text(page())
    found = text(page(privacy={"NORMAL": copies() | {"membership": membership()}}))
    assert command not in found
    assert found.index("NORMAL, membership: A clean attack tells.") < found.index("Distances")
    numbers = "0.52 (0.49 to 0.56) 1.3% (0.0% to 3.1%) 120 90"
    for attack, words in MEMBERSHIP_ATTACKS.items():
        assert " ".join(["NORMAL pixels", attack, *words, numbers]) in found
    card = render_card(findings(privacy={"NORMAL": copies() | {"membership": membership()}}))
    assert "No sign of copying: 1.0%. A clean attack tells.\n" in card


NAMES = {"NORMAL": "healthy", "PNEUMONIA": "COVID-19"}
# Names that HTML, Markdown or its lists would show as something else.
HOSTILE = [
    {"NORMAL": "A & <b> *x* | `y`", "PNEUMONIA": "1. [q](http://x) _z_"},
    {"NORMAL": "- none", "PNEUMONIA": "+ &amp; \\_"},
]


def of_both(**changes: Any) -> Findings:
    """Findings with scores and copies of both classes, whose splits differ."""
    frechet = findings().scores["NORMAL"]["frechet"] | {"train_test_at_floor_n": 0.5}
    recall = {"value": 0.5, "n_real": 6, "n_fake": 6, "train_test": 0.75}
    both = {
        "scores": {label: {"frechet": frechet, "recall": recall} for label in NAMES},
        "privacy": {label: copies() for label in NAMES},
    }
    return findings(**both | changes)


def page(**changes: Any) -> str:
    return page_of(findings(**changes))


def page_of(found: Findings) -> str:
    samples = {"NORMAL": {1: b"first", 30: b"last"}, "PNEUMONIA": {2: b"only"}}
    return render_report(
        found, dict.fromkeys(FIGURES, b"png"), samples, render_card(found), LINK, False
    )


def text(html: str) -> str:
    shown = re.sub(r"(?s)<(style|script|dialog).*?</\1>", "", html)
    return " ".join(re.sub(r"<[^>]+>", " ", shown).split())


def test_the_first_lines_say_that_the_data_are_phantoms() -> None:
    start = text(page())[:400]
    assert "procedural phantoms, not patients" in start
    assert "The hypothesis holds" in start
    assert "phantoms" not in text(page(source="kermany")).replace("procedural chest phantoms", "x")
    assert "10.17632/rscbjbr9sj" in text(page(source="kermany"))[:400]


def test_the_page_shows_each_difference_that_decides_the_hypothesis() -> None:
    words = text(page())
    assert "of 11 images of each set" in words
    assert (
        "RNxRP - RNxFN 1.000 0.250 to 1.750 "
        "real NORMAL images are nearer to generated NORMAL images than to real PNEUMONIA images"
    ) in words
    assert words.count("0.250 to 1.750") == 6


def test_the_colour_of_the_head_is_that_of_the_verdict() -> None:
    base = findings().verdict
    for low, high, colour, start in (
        (0.1, 2, "good", "The hypothesis holds"),
        (-0.1, 2, "neutral", "It is undecided whether the hypothesis holds"),
        (-2, -0.1, "bad", "The hypothesis does not hold"),
    ):
        changed = (replace(DIFFERENCES[0], low=low, high=high), *DIFFERENCES[1:])
        html = page(verdict=replace(base, differences=changed))
        assert f'<p class="verdict {colour}">{start}' in html


def test_without_differences_the_page_says_why_and_shows_no_table() -> None:
    none = replace(findings().verdict, differences=(), n=0, reason="there are few images")
    html = page(verdict=none)
    assert "undecided whether the hypothesis holds: there are few images." in html
    assert "that decide the hypothesis" not in html


def test_the_page_needs_no_other_file() -> None:
    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("link", "iframe")
            for name, value in attrs:
                if name in ("src", "href"):
                    assert tag != "script"
                    assert value is not None
                    assert value.startswith(("data:image/png;base64,", "#")) or value == LINK

    Links().feed(page())
    assert "url(" not in page()


def test_every_section_is_in_the_contents() -> None:
    html = page()
    assert re.findall(r'<h2 id="(\w+)">', html) == list(SECTIONS)
    for place in SECTIONS:
        assert f'<a href="#{place}">' in html


def test_every_sample_grid_and_the_card_are_there() -> None:
    html = page()
    assert re.findall(r'data-epoch="(\d+)"', html) == ["1", "30", "2"]
    assert f'<a href="{LINK}">' in html
    assert "while make ui runs" in text(html)
    words = text(html)
    assert "Model card: A run" in words
    assert "Not for diagnosis" in words


def test_every_pair_and_floor_is_shown_beside_the_thesis() -> None:
    words = text(page())
    for pair in KINDS:
        assert pair in words
    assert "4.467" in words  # the thesis's RNxRP
    assert "0.581" in words  # its RNxFN relative to RNxRP
    assert "Compare only the order of the pairs and the relative distances" in words


def test_the_extractor_is_named_with_its_bias() -> None:
    assert "balanced accuracy is 91.0%" in text(page())
    assert "favour the hypothesis" in text(page())
    inception = {"name": "inception", "dims": 768, "weights_sha256": "abc"}
    inception |= {"resize": "clean-fid", "input_scaling": "standard"}
    assert "Inception network" in text(page(extractor=inception))
    assert "as clean-fid does" in text(page(extractor=inception))
    assert "scaled twice" not in text(page(extractor=inception))
    assert "scaled twice" in text(page(extractor=inception | {"input_scaling": "twice"}))
    assert "a weak baseline" in text(page(extractor={"name": "pixels", "dims": 64}))
    module = {"name": "module", "dims": 9, "weights_sha256": "abc"}
    assert "given as a file, SHA-256 abc" in text(page(extractor=module))
    own = {"name": "my features", "dims": 9}
    assert "The 9 features are those of my features." in text(page(extractor=own))


def test_every_score_stands_beside_its_interval_size_and_floor() -> None:
    words = text(page())
    assert "NORMAL Fréchet distance 24, 24 0.450 0.350 to 0.550 11 0.500 0.200 50% 0.210" in words
    assert "NORMAL recall 6, 6 0.625 too few too few" in words


def test_variety_stands_beside_what_real_halves_have() -> None:
    words = text(page())
    assert "sd of pixels 0.500 1.000 0.900 to 1.100 0.500 1.000 0.900 to 1.100" in words
    assert "MS-SSIM of random pairs 0.630 0.510 0.490 to 0.530" in words
    assert "Vendi score 0.750 1.000 too few" in words
    assert "Images a side: 24 NORMAL, 24 PNEUMONIA." in words
    assert "two parts: NORMAL 0.125 of the means and 0.325 of the covariances." in words


def test_the_verdict_on_copies_stands_first_and_with_its_controls() -> None:
    words = text(page())
    assert "NORMAL, copies: No sign of copying: 1.0%." in words[:700]
    assert "NORMAL pixels 1 of 100 0.600 1 of 100 98% 98% 98% 98% 3.4%" in words
    assert "NORMAL pixels 70% 60% too few 0.3 0.52 (0.45 to 0.59)" in words
    blind = copies(detectable={"shifted": 0.034})
    assert "98% 98% 98% 98% not all" in text(page(privacy={"NORMAL": blind}))


def test_the_use_for_a_classifier_is_told_beside_what_the_generator_saw() -> None:
    words = text(page())
    verdict = "Generated images did not improve the classifier: 0 of 12."
    assert f"Use for a classifier: {verdict}" in words[:900]
    assert "The generators saw all train images" in words
    assert "LeNet-5 real + generated 20% +0.810 (+0.760 to +0.860)" in words
    assert "LeNet-5 real + generated 20% 0.810 (0.760 to 0.860)" in words
    assert "LeNet-5 71.0% 83.0% 94.0%" in words


def test_an_experiment_is_told_first_or_how_to_run_it() -> None:
    words = text(page())
    assert "Few real images: not run; make real EXPERIMENTS=1 runs it" in words
    assert "Rare PNEUMONIA: not run; make real EXPERIMENTS=1 runs it" in words
    assert "By chance the average precision is 0.62" in words
    words = text(page(utility=UTILITY | {"scarcity": SCARCITY}))
    assert f"Few real images: {SCARCITY['sentence']}" in words[:1100]
    assert "Few real images: not run" not in words
    assert "residual real + both 5.0% 57 +0.012 (+0.001 to +0.023) 0.04 primary" in words
    assert "real + both: 0.25, filter none (3), 0.5, filter confident (2)." in words
    assert "scarcity_gains" not in page()


def test_the_page_calls_the_classes_by_their_names_alone() -> None:
    ids, names = text(page_of(of_both())), text(page_of(of_both(class_names=NAMES)))
    assert ids.replace("NORMAL", "healthy").replace("PNEUMONIA", "COVID-19") == names
    assert not re.findall("normal|pneumonia", names, re.IGNORECASE)
    for sentence in (
        "real test images of healthy and COVID-19",
        "real healthy images are nearer to generated healthy images than to real COVID-19 images",
        "The healthy splits differ in these features",
        "COVID-19, copies: No sign of copying",
        "COVID-19 after epoch 2",
        "scores an image of COVID-19 higher than one of healthy",
    ):
        assert sentence in names


@pytest.mark.parametrize("names", HOSTILE)
def test_names_of_classes_are_shown_as_they_are(names: dict[str, str]) -> None:
    found = page_of(of_both(class_names=names))
    shown = text(found.partition('id="card"')[0])
    ids = text(page_of(of_both()).partition('id="card"')[0])
    for label, name in names.items():
        ids = ids.replace(label, html.escape(name).replace("&#x27;", "&#39;"))
    assert shown == ids


def test_what_comes_from_parameters_is_escaped() -> None:
    hostile = {"data.path": "<img src=x>", "preprocess.image_size": "64"}
    title = "<script>alert(1)</script>[a](javascript:alert(2)) ![b](https://example.org/b.png) *c*"
    html = page(title=title, parameters=hostile)
    assert "<script>alert" not in html
    assert "<img src=x>" not in html
    assert 'href="javascript:' not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "![b](https://example.org/b.png) *c*" in html.partition('id="card"')[2]
    assert 'src="https://' not in html


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.0123456, "0.0123"), (7.5, "7.500"), (123.4567, "123.457")]
)
def test_scores_have_three_digits_or_more(value: float, shown: str) -> None:
    assert as_score(value) == shown


def test_shares_and_intervals_have_no_negative_zero() -> None:
    assert as_percent(-0.0001) == "0%"
    assert as_percent(0.0345, 1) == "3.5%"
    assert as_interval((-0.0001, -0.25, 0.1), 2) == "0.00 (-0.25 to 0.10)"
    assert as_interval((0.0123, -0.0004, 0.1), sign="+") == "+0.012 (+0.000 to +0.100)"
