"""`stellarhml predict` on each file of ../shared/data/observed: a result that is flagged, or a refusal and why."""

import json

import numpy as np
import pytest

from stellarhml import SpectrumGenerator, VoigtLineDecomposer, save
from stellarhml.cli.main import main
from stellarhml.datasets import load_mini_grid
from stellarhml.spectra import mask_tellurics, read_spectrum, read_transmission


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data.DATA / "observed"


@pytest.fixture(scope="module")
def solar_generator(tmp_path_factory):
    """Solar-type stars, 5000 to 6000 K: every second Teff and every third pixel of the packaged grid."""
    grid = load_mini_grid()
    kept = grid.labels[:, 0] % 200 == 0
    flux = grid.flux[kept, ::3] / np.percentile(grid.flux[kept, ::3], 99, axis=1)[:, None]
    quick = VoigtLineDecomposer(n_rounds=0, subsample=6)
    generator = SpectrumGenerator(wavelength=grid.wavelength[::3], decomposer=quick).fit(grid.labels[kept], flux)
    return save(generator, tmp_path_factory.mktemp("solar") / "solar.asdf")


@pytest.mark.slow
def test_each_file_is_flagged_or_refused(folder, solar_generator, tmp_path, capsys):
    start = ["predict", "--generator", str(solar_generator), "--json"]
    dwarf, standard = (str(folder / name) for name in ("hpf_GJ699.fits", "hpf_goldilocks_A0V_HR4829.fits"))
    figures = ["--figures", str(tmp_path)]
    # the generator has 8450 to 8700 angstrom, and these orders 8416 to 8525 and 8534 to 8645
    assert main([*start, "--orders", "3,4", *figures, dwarf, standard]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row in rows:
        # an M dwarf of 3222 K and a star of 9600 K lie outside of 5000 to 6000 K
        assert row["status"] == "flagged"
        assert "AT_BOUND" in row["flags"]
        assert "may lie" in row["message"]
        assert row["reduced_chi2"] > 10
        assert (tmp_path / row["figure"]).stat().st_size > 10_000
    igrins, air = str(folder / "igrins_S1063.npz"), str(folder / "telluric_hpf.npz")
    assert main([*start, "--format", "igrins", igrins]) == 2
    assert "lies within the generator's band" in json.loads(capsys.readouterr().out)[0]["message"]
    assert main([*start, igrins]) == 2
    assert "`medium` is None" in capsys.readouterr().err
    assert main([*start, air]) == 2
    assert "which are a transmission of the atmosphere" in capsys.readouterr().err


def test_air_does_not_move_with_the_star(folder):
    """The transmission and HPF's wavelengths are both those of the telescope: measured in order 24, full of water."""
    wavelength, transmission = read_transmission(folder / "telluric_hpf.npz")
    for name in ("hpf_goldilocks_A0V_HR4829.fits", "hpf_GJ699.fits"):
        x, flux, error = read_spectrum(folder / name, sky=None).orders[24]
        good = np.isfinite(error) & (flux > 0)
        seen = _flat(x[good], np.log(flux[good]))
        shifts = np.arange(-5, 5.1, 0.5)
        moved = [np.interp(x[good] / (1 + v / 299792.458), wavelength, transmission) for v in shifts]
        match = [np.corrcoef(seen, _flat(x[good], np.log(np.clip(t, 0.02, 1))))[0, 1] for t in moved]
        assert abs(shifts[int(np.argmax(match))]) <= 0.5
        assert max(match) > 0.9


def _flat(x, y):
    return y - np.polynomial.Polynomial.fit(x, y, 6)(x)


def test_the_sky_of_hpf(folder):
    path = folder / "hpf_GJ699.fits"
    with_sky, without, less = (read_spectrum(path, **sky) for sky in ({"sky": None}, {}, {"sky_scale": 0.5}))
    assert "Sky not subtracted." in with_sky.meta["notes"]
    for orders in zip(with_sky.orders, less.orders, without.orders, strict=True):
        good = np.logical_and.reduce([np.isfinite(order.error) for order in orders])
        full, half, none = (order.flux[good] for order in orders)
        np.testing.assert_allclose(full - half, half - none, atol=1e-9 * full.max())
        assert np.any(full != none)


def test_the_shared_transmission_masks_water_and_leaves_clear_air(folder):
    spectrum = read_spectrum(folder / "hpf_GJ699.fits")
    masked = mask_tellurics(spectrum, *read_transmission(folder / "telluric_hpf.npz"))
    share = {k: np.isinf(masked.orders[k].error).mean() for k in (5, 24)}
    assert share[5] < 0.1  # 8656 to 8768 angstrom
    assert share[24] > 0.2  # 11882 to 12034
