"""Temperatures from Gaia's color."""

import pytest

from stellarhml.inference import teff_from_gaia


def test_values_of_the_published_relation():
    # by hand: 5040 / (0.4929 + 0.5092 C - 0.0353 C^2), and 5040 / (0.5323 + 0.4775 C - 0.0344 C^2)
    assert teff_from_gaia(0.82) == pytest.approx((5683.94, 61.0), abs=0.01)
    assert teff_from_gaia(1.23, giant=True) == pytest.approx((4720.95, 83.0), abs=0.01)
    # 0.4929 + 0.5092 - 0.0353 - 0.0192 - 0.0020 + 0.0395 = 0.9851
    assert teff_from_gaia(1.0, -1.0)[0] == pytest.approx(5040 / 0.9851)


def test_errors_add_in_squares():
    plain, color, metals, both = (
        teff_from_gaia(0.9, -0.3, **errors)[1] ** 2 - 61**2
        for errors in (
            {},
            {"bp_rp_error": 0.01},
            {"feh_error": 0.2},
            {"bp_rp_error": 0.01, "feh_error": 0.2},
        )
    )
    assert plain == pytest.approx(0, abs=1e-9)
    assert both == pytest.approx(color + metals)
    change = teff_from_gaia(0.9005, -0.3)[0] - teff_from_gaia(0.8995, -0.3)[0]
    assert color == pytest.approx((10 * change) ** 2, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((2.0, {}), "from 0.39 to 1.5 mag"), ((0.2, {"giant": True}), "giants"), ((1.0, {"feh_error": -1}), "negative")],
)
def test_what_it_cannot_tell(arguments, message):
    color, settings = arguments
    with pytest.raises(ValueError, match=message):
        teff_from_gaia(color, **settings)
