"""Student's t quantiles in closed form, against scipy's."""

import math

import pytest

from trainers.quantiles import t_quantile


@pytest.mark.parametrize("freedom", [*range(1, 9), 30, 31, 999, 5000])
@pytest.mark.parametrize("probability", [0.5, 0.8, 0.95, 0.975, 0.9999])
def test_the_closed_form_is_scipys_quantile(probability: float, freedom: int) -> None:
    from scipy.special import stdtrit

    expected = float(stdtrit(freedom, probability))
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_without_freedom_there_is_no_quantile() -> None:
    assert math.isnan(t_quantile(0.975, 0))
