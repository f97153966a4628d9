"""Means and covariances of features in the file format of pytorch-fid.

An ``.npz`` file has the arrays ``mu`` (d,) and ``sigma`` (d, d). This project's files also hold the
number of images and the features in words, which files of other tools may lack.
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
    """The content of a file of statistics."""

    moments: Moments
    images: int | None  # number of images; None if the file does not state it
    features: str | None  # in words; None if the file does not state them


def save_statistics(path: Path, features: FeatureSet, made_by: str) -> None:
    """Write the statistics of a set; ``made_by`` are its features in words."""
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
    """Read a file of statistics of this project or another tool; no code in it is run.

    Raises:
        UserError: if it cannot be read, or does not hold a mean and a covariance.
    """
    try:
        # Open the file here, since NumPy does not close a file that is no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            moments = Moments(_real_numbers(content["mu"]), _real_numbers(content["sigma"]))
            images = int(content["n"]) if "n" in content else None
            features = str(content["features"]) if "features" in content else None
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except KeyError as error:
        raise UserError(
            f"{path}: it holds neither images (arr_0, or one array) nor statistics (mu and sigma): "
            f"{error}"
        ) from error
    except Exception as error:  # whatever a damaged file makes the readers raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: the statistics cannot be used: {reason}") from error
    return Statistics(moments, images, features)


def _real_numbers(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return an array as float64, and refuse complex numbers."""
    if array.dtype.kind == "c":
        raise ValueError("its numbers are complex")
    return np.asarray(array, dtype=np.float64)
