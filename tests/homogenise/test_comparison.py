"""Methods are judged on stars that they have not learnt from."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.homogenise.comparison import compare_methods, sparsest, trends
from spectrolabe.homogenise.run import Shared
from tests.homogenise.test_correction import pair


def test_trends_are_medians_of_bins_of_equal_size():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (5000, 2))
    one, other = trends(("a", "b"), x, 0.5 * x[:, 0] + 0.1 * rng.normal(size=5000))
    assert (one.stars == 500).all()
    assert np.allclose(one.middle, 0.5 * one.at, atol=0.02)
    assert np.allclose(other.middle, 0.0, atol=0.07)  # four standard errors
    assert np.allclose(0.5 * (one.high - one.low), 0.1, atol=0.02)


def test_the_sparsest_stars_are_those_alone():
    rng = np.random.default_rng(1)
    points = np.vstack([rng.normal(size=(960, 2)), rng.uniform(8.0, 30.0, (40, 2))])
    assert sparsest(points, 0.04)[960:].mean() > 0.9


@pytest.mark.parametrize("sparse", [False, True])
def test_methods_beat_the_median_where_there_is_a_trend(sparse):
    shared = Shared(*pair(3000, 1), extra={})
    found = compare_methods(shared, "teff", methods=("polynomial", "xgboost"), sparse=sparse)
    by_name = {one.method: one for one in found}
    assert list(by_name) == ["as it is", "median", "polynomial", "xgboost"]
    assert by_name["as it is"].bias < -50.0
    assert by_name["median"].bias == pytest.approx(0.0, abs=1e-9)
    for method in ("polynomial", "xgboost"):
        assert by_name[method].stars == (150 if sparse else pytest.approx(750, abs=80))
        assert by_name[method].rmse < by_name["median"].rmse
        assert by_name[method].trend_rms < 0.6 * by_name["median"].trend_rms
    if sparse:
        assert by_name["polynomial"].flagged > 0.5
    else:
        assert by_name["polynomial"].trend_rms < 2.0 * by_name["polynomial"].noise
