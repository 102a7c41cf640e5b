"""Air and vacuum wavelengths, Doppler shifts."""

import numpy as np
import pytest

from stellarhml.physics.wavelength import SPEED_OF_LIGHT, air_to_vacuum, doppler_shift, vacuum_to_air

# NIST Atomic Spectra Database, observed wavelengths in air and in vacuum [angstrom]: Na I D2 and D1 (both listed to
# 1e-6). NIST converts by Peck & Reeder (1972) at 15 C without CO2 enrichment: 1e-8 in n, 1e-4 angstrom.
NIST_AIR_VACUUM = [(5889.950954, 5891.583264), (5895.924237, 5897.558147)]


@pytest.mark.parametrize(("air", "vacuum"), NIST_AIR_VACUUM)
def test_sodium_doublet_agrees_with_nist(air, vacuum):
    assert air_to_vacuum(air) == pytest.approx(vacuum, abs=2e-4)
    assert vacuum_to_air(vacuum) == pytest.approx(air, abs=2e-4)


def test_air_and_vacuum_undo_each_other():
    vacuum = np.linspace(2100.0, 25000.0, 4001)
    # three fixed-point steps of contraction 1e-4 or better: rounding is all that is left, a few ulp of 2.5e4
    np.testing.assert_allclose(air_to_vacuum(vacuum_to_air(vacuum)), vacuum, rtol=1e-15, atol=0)


def test_air_wavelengths_are_shorter_and_keep_their_order():
    vacuum = np.linspace(2100.0, 25000.0, 4001)
    air = vacuum_to_air(vacuum)
    assert np.all(air < vacuum)
    assert np.all(np.diff(air) > 0)
    # n - 1 of air in the visible and infrared is 2.7e-4 to 3.3e-4
    assert np.all((vacuum / air - 1 > 2.7e-4) & (vacuum / air - 1 < 3.3e-4))


@pytest.mark.parametrize("convert", [air_to_vacuum, vacuum_to_air])
def test_far_ultraviolet_is_refused(convert):
    with pytest.raises(ValueError, match=r"2000 angstrom on, but the smallest here is 1215"):
        convert(np.array([1215.0, 3000.0]))


@pytest.mark.parametrize("convert", [air_to_vacuum, vacuum_to_air])
def test_empty_input_gives_empty_output(convert):
    assert convert(np.empty(0)).shape == (0,)


def test_doppler_shift_is_proportional_to_velocity():
    lam = np.array([8542.0, 12000.0])
    np.testing.assert_allclose(doppler_shift(lam, 30.0) / lam - 1, 30.0 / SPEED_OF_LIGHT, rtol=1e-11)
    assert np.all(doppler_shift(lam, 1.0) > lam)  # away is red


def test_doppler_shift_there_and_back_is_identity_to_first_order():
    lam = np.linspace(8038.0, 12849.0, 7)
    # (1 + b)(1 - b) = 1 - b^2, b = 1e-4
    np.testing.assert_allclose(
        doppler_shift(doppler_shift(lam, 30.0), -30.0), lam, rtol=1.1 * (30 / SPEED_OF_LIGHT) ** 2
    )
