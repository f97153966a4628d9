import json
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import UserError
from src.config.settings import flatten, load_settings, parse_settings
from tests.conftest import ROOT, set_value


def test_the_committed_parameters_are_valid() -> None:
    settings = load_settings(ROOT / "params.yaml")
    assert settings.data.source == "phantom"
    assert settings.preprocess.image_size == 64


def test_each_committed_parameter_or_the_section_it_stands_in_has_a_comment() -> None:
    """Those of PNEUMONIA are explained by those of NORMAL; sections of sections do not count."""
    text = (ROOT / "params.yaml").read_text()
    lines = text[: text.index("  pneumonia:")] + text[text.index("\nfid:") :]
    sections: list[tuple[int, bool]] = []  # indentation, and whether there is a comment
    before = ""
    bare = []
    for line in lines.splitlines():
        key = line.split("#")[0].strip()
        if key:
            indentation = len(line) - len(line.lstrip())
            sections = [section for section in sections if section[0] < indentation]
            told = "#" in line or before.startswith("#")
            if key.endswith(":"):
                sections.append((indentation, told))
            elif not told and not (sections and sections[-1][1]):
                bare.append(line.strip())
        before = line.strip()
    assert bare == []


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("privacy.near_quantile", 0, "privacy.near_quantile"),
        ("privacy.significance_level", 1.0, "privacy.significance_level"),
        ("privacy.generated_images", 1, "privacy.generated_images"),
        (
            "utility.real_fractions",
            [0.1, 0.5],
            "utility: fractions: 1.0, on which the verdict rests",
        ),
        ("utility.real_fractions", [1.0, 1.0], "utility: fractions: the same one is named twice"),
        ("utility.real_fractions", [0.0, 1.0], "utility.real_fractions"),
        ("utility.batch_size", 30, "utility.batch_size"),
        ("utility.repeats", 1, "utility.repeats"),
        ("utility.image_size", 128, "utility.image_size: 128 is more than the 64 pixels"),
        ("fid.classifier.batch_size", 1, "fid.classifier.batch_size"),
        ("data.sorce", "phantom", "data.sorce: there is no such parameter"),
        ("trian", {}, "trian: there is no such parameter"),
        ("data.source", "nih", "data.source"),
        ("data.sha256", "abc", "data.sha256"),
        (
            "data.medmnist.image_size",
            28,
            "data.medmnist.image_size: Input should be 64, 128 or 224",
        ),
        ("data.max_unpacked_gib", 0, "data.max_unpacked_gib"),
        ("data.source", "folder", "data.path: the folder source needs one"),
        ("data.classes.normal", [], "data.classes.normal: "),
        ("data.classes.normal", [""], "data.classes.normal.0: "),
        ("data.classes.healthy", ["x"], "data.classes.healthy: there is no such parameter"),
        ("data.classes.normal", ["a", "pneumonia"], "data.classes: 'pneumonia' cannot stand for"),
        ("data.names.normal", "", "data.names.normal: "),
        ("data.names.normal", " healthy", "data.names.normal: use one line, without control"),
        ("data.names.normal", "a\nb", "data.names.normal: use one line, without control"),
        ("data.names.normal", "a\u202eb", "data.names.normal: use one line, without control"),
        ("data.names.normal", "x" * 41, "data.names.normal: "),
        ("data.names.normal", 0, "data.names.normal: "),
        ("data.names.normal", "Pneumonia", "data.names: both classes are called 'Pneumonia'"),
        ("data.patient_pattern", "p([0-9]+", "data.patient_pattern: it is no regular expression"),
        ("data.test_share", 1.0, "data.test_share"),
        ("data.test_share", -0.1, "data.test_share"),
        ("data.seed", -1, "data.seed"),
        ("data.phantom.train_per_class", 0, "data.phantom.train_per_class"),
        ("data.phantom.train_per_class", 1.5, "data.phantom.train_per_class"),
        ("data.phantom.train_per_class", True, "data.phantom.train_per_class"),
        ("data.phantom.seed", -1, "data.phantom.seed"),
        ("preprocess.image_size", "64", "preprocess.image_size"),
        ("preprocess.resampling", "sinc", "preprocess.resampling"),
        ("preprocess.fit", "bend", "preprocess.fit: it must be one of stretch, crop, pad"),
        ("preprocess.equalize", "hist", "equalize: it must be one of none, clahe, percentile"),
        ("preprocess.on_bad_image", "ignore", "preprocess.on_bad_image"),
        ("train.normal.batch_size", None, "train.normal.batch_size"),
        ("train.normal.epochs", 0, "train.normal.epochs"),
        (
            "train.normal.generator.negative_slope",
            float("nan"),
            "train.normal.generator.negative_slope",
        ),
        (
            "train.normal.generator.negative_slope",
            float("inf"),
            "train.normal.generator.negative_slope",
        ),
        ("train.normal.discriminator.dropout", 1.0, "train.normal.discriminator.dropout"),
        ("train.normal.discriminator.channels", [], "train.normal.discriminator.channels"),
        ("train.normal.discriminator.strides", [2, 2], "must be of one length"),
        ("train.normal.discriminator.strides", [3, 3, 3, 1], "does not divide"),
        (
            "preprocess.image_size",
            100,
            "(preprocess.image_size); the networks of networks/ are for 64, 128, 256 pixels",
        ),
        (
            "train.pneumonia.generator.strides",
            [3, 3, 3],
            "train.pneumonia: the generator's strides",
        ),
        ("train.normal.generator.kernels", [], "train.normal.generator.kernels"),
        ("train.normal.generator.upsampling", "bilinear", "one of transposed, nearest"),
        ("train.normal.generator.normalization", "layer", "one of none, batch, spectral"),
        ("train.normal.discriminator.normalization", "x", "discriminator.normalization: it must"),
        ("train.normal.initialization", "he", "train.normal.initialization: it must be one of"),
        ("train.pneumonia.loss", "mse", "train.pneumonia.loss: it must be one of bce, hinge"),
        ("train.normal.augmentation", ["flip"], "augmentation: it must be one of brightness"),
        ("train.normal.augmentation", ["cutout", "cutout"], "augmentation: the same one is"),
        ("train.normal.augmentation_strength", 0.0, "train.normal.augmentation_strength"),
        ("train.normal.augmentation_strength", 1.5, "train.normal.augmentation_strength"),
        ("train.normal.optimizer.generator.name", "lamb", "one of adam, rmsprop, sgd"),
        ("train.normal.label_smoothing", 0.5, "train.normal.label_smoothing"),
        ("train.normal.gradient_penalty", -1.0, "train.normal.gradient_penalty"),
        ("train.normal.discriminator_updates", "both", "train.normal.discriminator_updates"),
        ("train.normal.ema_decay", 1.0, "train.normal.ema_decay"),
        ("train.normal.loss", "wasserstein", "gradient_penalty: the wasserstein loss needs one"),
        ("train.normal.optimizer.generator.learning_rate", 0.0, "learning_rate"),
        ("train.normal.optimizer.generator.beta1", 1.0, "beta1"),
        ("fid.extractor", "vgg", "fid.extractor"),
        ("fid.sample_size", 1, "fid.sample_size"),
        ("report.evolution_epochs", 1, "report.evolution_epochs"),
        ("compute.device", "tpu", "compute.device"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(
    params: dict[str, Any], place: str, value: Any, named: str
) -> None:
    set_value(*place.split("."), value=value)(params)
    with pytest.raises(UserError, match=r"params\.yaml: ") as raised:
        parse_settings(params)
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        ({"loss": "hinge", "label_smoothing": 0.1}, "label_smoothing: the hinge loss has no"),
        ({"upsampling": "transposed", "kernels": [4, 1, 4]}, "generator.kernels: a kernel of 1"),
        (
            {"loss": "wasserstein", "gradient_penalty": 10.0, "discriminator_updates": "apart"},
            "discriminator_updates: the wasserstein loss compares",
        ),
        (
            {"gradient_penalty": 1.0, "discriminator": "batch"},
            "gradient_penalty: with batch normalisation",
        ),
    ],
)
def test_choices_that_make_no_sense_together_are_refused_by_name(
    params: dict[str, Any], choices: dict[str, Any], named: str
) -> None:
    train = params["train"]["pneumonia"]
    train["discriminator"]["normalization"] = choices.pop("discriminator", "none")
    for key, value in choices.items():
        (train["generator"] if key in train["generator"] else train)[key] = value
    with pytest.raises(UserError, match=rf"train\.pneumonia\.{named}"):
        parse_settings(params)


def test_a_small_kernel_is_no_matter_behind_a_nearest_neighbour(params: dict[str, Any]) -> None:
    generator = params["train"]["normal"]["generator"]
    generator.update(kernels=[1, 3, 3], upsampling="nearest")
    assert parse_settings(params).train.normal.generator.kernels == (1, 3, 3)


def test_a_missing_parameter_is_refused_by_name(params: dict[str, Any]) -> None:
    del params["train"]["pneumonia"]["seed"]
    with pytest.raises(UserError, match=r"train\.pneumonia\.seed: the parameter is missing"):
        parse_settings(params)


def test_every_fault_is_named_at_once(params: dict[str, Any]) -> None:
    params["fid"]["iterations"] = 0
    params["preprocess"]["image_size"] = -1
    with pytest.raises(UserError, match=r"preprocess\.image_size.*fid\.iterations"):
        parse_settings(params)


@pytest.mark.parametrize(("key", "value"), [
    ("processes", 0), ("processes", 1.5), ("checkpoint_interval_seconds", -1),
    ("collapse_patience", 0),
    ("on_divergence", "ignore"), ("checkpoint_second", 60),
])  # fmt: skip
def test_what_the_trainings_share_is_checked(
    params: dict[str, Any], key: str, value: object
) -> None:
    params["train"][key] = value
    with pytest.raises(UserError, match=rf"params\.yaml: train\.{key}: "):
        parse_settings(params)


def test_processes_share_a_batch_evenly(params: dict[str, Any]) -> None:
    params["train"]["processes"] = 4
    params["train"]["pneumonia"]["batch_size"] = 16
    assert parse_settings(params).train.processes == 4
    params["train"]["pneumonia"]["batch_size"] = 18
    with pytest.raises(
        UserError, match=r"train\.processes: 4 .* train\.pneumonia\.batch_size = 18"
    ):
        parse_settings(params)


def test_inception_has_only_its_own_widths(params: dict[str, Any]) -> None:
    params["fid"].update(extractor="inception", dims=100)
    with pytest.raises(UserError, match="64, 192, 768, 2048"):
        parse_settings(params)
    params["fid"]["dims"] = 768
    assert parse_settings(params).fid.dims == 768


def test_settings_cannot_be_changed_after_they_were_checked(params: dict[str, Any]) -> None:
    settings = parse_settings(params)
    with pytest.raises(ValueError, match="frozen"):
        settings.preprocess.image_size = 32


@pytest.mark.parametrize(
    "text",
    ["", "- 1\n", "data: [", "a: 1\na: 2\n", "data: !!python/object:os.system {}\n", "\x00"],
)
def test_a_file_that_is_no_mapping_of_sections_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml"):
        load_settings(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml"):
        load_settings(tmp_path / "absent.yaml")


def test_overrides_are_yaml_values_of_existing_parameters() -> None:
    path = ROOT / "params.yaml"
    settings = load_settings(
        path, ["train.normal.generator.channels=[8, 8, 8]", "data.path=/a b=c", "fid.weights="]
    )
    assert settings.train.normal.generator.channels == (8, 8, 8)
    assert settings.data.path == "/a b=c"
    assert settings.fid.weights == ""
    for override in ("train.normal.widths=[8]", "train.normal.batch_size", "nothing.at.all=1"):
        with pytest.raises(UserError, match="existing parameter"):
            load_settings(path, [override])


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("1.0e-7", "1e-7")
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert load_settings(path).train.normal.optimizer.generator.epsilon == 1e-7


def test_flattened_parameters_are_complete(params: dict[str, Any]) -> None:
    flat = flatten(parse_settings(params))

    def leaves(tree: Any) -> int:
        return sum(map(leaves, tree.values())) if isinstance(tree, dict) else 1

    assert len(flat) == leaves(params)
    assert json.loads(flat["train.normal.generator.channels"]) == list(
        params["train"]["normal"]["generator"]["channels"]
    )
    assert flat["data.source"] == "phantom"


def test_maps_that_are_too_large_to_be_drawn_again_are_refused(params: dict[str, Any]) -> None:
    """What is trained is read again by the next stage, which trusts no file."""
    params["preprocess"]["image_size"] = 512
    params["train"]["normal"]["generator"].update(
        channels=[512, 512, 512], strides=[4, 4, 4], kernels=[5, 5, 5]
    )
    with pytest.raises(UserError, match=r"train\.normal.*a map of 134217728 values is too large"):
        parse_settings(params)
