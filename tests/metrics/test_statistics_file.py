from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.metrics.frechet import FeatureSet, frechet_distance
from src.metrics.statistics_file import load_statistics, save_statistics

X = FeatureSet(np.random.default_rng(1).standard_normal((20, 4)))


def test_what_is_saved_is_read_again_and_by_peers(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    save_statistics(path, X, "4 features")
    found = load_statistics(path)
    assert (found.images, found.features) == (20, "4 features")
    assert frechet_distance(found.moments, X) == pytest.approx(0, abs=1e-9)
    with np.load(path) as content:  # as pytorch-fid does
        np.testing.assert_allclose(content["mu"][:], X.features.mean(axis=0))
        np.testing.assert_allclose(content["sigma"][:], np.cov(X.features, rowvar=False))


def test_a_peers_file_does_not_say_how_many_images_it_is_of(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, mu=X.mean.astype(np.float32), sigma=X.covariance)
    found = load_statistics(path)
    assert found.images is None
    assert found.moments.mean.dtype == np.float64


def test_files_that_hold_no_statistics_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(UserError, match="there is no such file"):
        load_statistics(path)
    for content in (b"", b"text", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.npz: the statistics cannot be used"):
            load_statistics(path)
    np.savez(path, mu=np.zeros(3))
    with pytest.raises(UserError, match=r"neither images .* nor statistics"):
        load_statistics(path)
    np.savez(path, mu=np.zeros(3), sigma=np.eye(4))
    with pytest.raises(UserError, match=r"must be \(d,\) and \(d, d\)"):
        load_statistics(path)
    np.savez(path, mu=np.array([print, print, print], dtype=object), sigma=np.eye(3))
    with pytest.raises(UserError, match="cannot be used"):
        load_statistics(path)
