"""Means and covariances of features in pytorch-fid's file form, which peers' tools read and write.

An ``.npz`` file with the arrays ``mu`` (d,) and ``sigma`` (d, d). Ours also say how many images
they are of and what made the features, which others do not read and theirs may lack.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UserError
from ..common.files import write_file
from .frechet import FeatureSet, Moments


@dataclass(frozen=True)
class Statistics:
    """What a file holds."""

    moments: Moments
    images: int | None  # None in files that do not say
    features: str | None


def save_statistics(path: Path, features: FeatureSet, made_by: str) -> None:
    """Write the statistics of a set; ``made_by`` says what made its features."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mu=features.mean,
        sigma=features.covariance,
        n=np.int64(len(features.features)),
        features=np.str_(made_by),
    )
    write_file(path, buffer.getvalue())


def load_statistics(path: Path) -> Statistics:
    """Read a file of ours or of a peer's; no code in it is run.

    Raises:
        UserError: if it cannot be read, or does not hold a mean and a covariance.
    """
    try:
        # Opened here, since NumPy leaves a file open that is no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            moments = Moments(_real_numbers(content["mu"]), _real_numbers(content["sigma"]))
            images = int(content["n"]) if "n" in content else None
            features = str(content["features"]) if "features" in content else None
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except KeyError as error:
        raise UserError(
            f"{path}: statistics have the arrays mu and sigma; one is missing ({error})"
        ) from error
    except Exception as error:  # whatever a damaged file makes the readers raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: the statistics cannot be used: {reason}") from error
    return Statistics(moments, images, features)


def _real_numbers(array: NDArray[Any]) -> NDArray[np.float64]:
    if array.dtype.kind == "c":
        raise ValueError("its numbers are complex")
    return np.asarray(array, dtype=np.float64)
