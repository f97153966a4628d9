"""Parameters that had another name before version 0.2.

``settings`` refuses an old name in params.yaml and of `-S`, and names the new one. Generators,
registered models and records from before keep their old names, and are read through this table.
"""

from collections.abc import Mapping
from typing import Any

# Old name by section: the dotted path of the section, the old key, the new key. ``*`` is a class.
RENAMES: dict[str, dict[str, str]] = {
    "data.phantom": {"size": "image_size"},
    "preprocess": {"size": "image_size", "filter": "resampling"},
    "train": {
        "checkpoint_seconds": "checkpoint_interval_seconds",
        "collapse_batches": "collapse_patience",
    },
    "train.*": {"average": "ema_decay", "batch": "batch_size"},
    "train.*.generator": {"latent": "latent_dim", "slope": "negative_slope"},
    "train.*.discriminator": {"slope": "negative_slope"},
    "train.*.optimizer": {"half_life": "learning_rate_half_life"},
    "fid": {"batch": "batch_size"},
    "fid.scores": {"images": "max_images", "neighbours": "nearest_k", "draws": "resamples"},
    "fid.classifier": {"batch": "batch_size", "held_out": "held_out_fraction"},
    "privacy": {
        "images": "generated_images",
        "train_images": "baseline_images",
        "controls": "control_images",
        "quantile": "near_quantile",
        "level": "significance_level",
        "detectable_share": "detectable_fraction",
        "pairs": "shown_pairs",
    },
    "utility": {
        "fractions": "real_fractions",
        "size": "image_size",
        "steps": "training_steps",
        "batch": "batch_size",
        "held_out": "validation_fraction",
        "draws": "resamples",
    },
    "tune": {
        "unit": "budget_unit",
        "checks": "evaluations",
        "startup": "startup_trials",
        "held_out": "held_out_fraction",
        "images": "max_images",
        "top": "top_trials",
        "seeds": "repeat_seeds",
        "lease_seconds": "heartbeat_timeout_seconds",
        "retries": "max_retries",
    },
}
# Parameters that are newer than some of those files, with the value that the code then had.
ADDED: dict[str, dict[str, Any]] = {
    "data": {"names": {"normal": "NORMAL", "pneumonia": "PNEUMONIA"}},
    "train.*": {"augmentation_strength": 1.0},
    "train.*.generator": {"exposure": "learned"},
}
_CLASSES = ("normal", "pneumonia")


def new_name(path: str) -> str | None:
    """Return the present name of a parameter that was renamed.

    Args:
        path: dotted, as ``train.normal.average``, or below a class, as ``generator.latent``.

    Returns:
        the whole path with its last key renamed; None if ``path`` is no old name.
    """
    section, _, key = path.rpartition(".")
    parts = ["*" if part in _CLASSES else part for part in section.split(".")]
    for pattern in (".".join(parts), ".".join(["train", "*", *parts]).rstrip(".")):
        if key in RENAMES.get(pattern, {}):
            renamed = RENAMES[pattern][key]
            return f"{section}.{renamed}" if section else renamed
    return None


def with_new_names(tree: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Rename the old keys of a tree from an older version, and add newer ones; the rest stays.

    Args:
        tree: the content of a section, as plain dicts, lists and values.
        section: its dotted path, as ``train.*`` for one class; empty for the whole file.
    """
    names = RENAMES.get(section, {})
    renamed: dict[str, Any] = dict(ADDED.get(section, {}))
    for key, value in tree.items():
        part = "*" if section == "train" and key in _CLASSES else key
        inner = f"{section}.{part}" if section else part
        name = names.get(key, key)
        renamed[name] = with_new_names(value, inner) if isinstance(value, Mapping) else value
    return renamed
