"""specutils -> result -> table -> file -> table, and a generator and a regressor in another process."""

import json
import subprocess
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import StdDevUncertainty, VarianceUncertainty
from astropy.table import Table
from specutils import Spectrum, SpectrumList

from stellarhml import save
from stellarhml.inference import results_table
from stellarhml.spectra import ObservedSpectrum, read_spectrum

FORMATS = {"ecsv": "ascii.ecsv", "fits": "fits"}


@pytest.fixture
def spectra(make_star):
    """Orders in nm with errors and a mask; where masked, fluxes are wild and errors zero, as pipelines leave them."""
    star = make_star()
    made = SpectrumList()
    for k, (x, flux, error) in enumerate(zip(*star.spectrum, strict=True)):
        bad = np.arange(len(x)) % 50 == 7
        uncertainty = StdDevUncertainty(np.where(bad, 0, error) * u.ct)
        if k:
            uncertainty = VarianceUncertainty(np.where(bad, 0, error**2) * u.ct**2)
        made.append(
            Spectrum(
                spectral_axis=x / 10 * u.nm,
                flux=np.where(bad, 1e6, flux) * u.ct,
                uncertainty=uncertainty,
                mask=bad,
                meta={"order": 10 + k},
            )
        )
    return made


@pytest.mark.parametrize("suffix", FORMATS)
def test_from_specutils_to_a_table_in_a_file(regressor, make_star, spectra, tmp_path, suffix):
    star = make_star()
    result = regressor.infer(spectra, resolving_power=star.power)
    assert np.abs(star.off(result)).max() < 4.5
    hopeless = (star.wavelength, [flux * np.nan for flux in star.flux], star.error)
    failed = regressor.infer_many([hopeless], resolving_power=star.power, verbose=False)
    table = results_table([result, *failed], names=["good", "none"], kind="astropy")
    path = tmp_path / f"stars.{suffix}"
    table.write(path, format=FORMATS[suffix])
    again = Table.read(path, format=FORMATS[suffix])
    assert again.colnames == table.colnames
    for name in table.colnames:
        assert again[name].unit == table[name].unit, name
        assert again[name].description == table[name].description is not None, name
        np.testing.assert_array_equal(_plain(again[name]), _plain(table[name]))
    assert (again["teff"].unit, again["rv"].unit, again["seconds"].unit) == (u.K, u.km / u.s, u.s)
    assert again["teff"][0] == result.values["teff"]
    assert np.isnan(np.ma.filled(again["teff"].astype(float), np.nan)[1])
    assert "dex" in again["logg"].description


def _plain(column):
    """Values of a column. ECSV takes an empty text, and FITS a NaN, for one that is missing."""
    values = np.ma.asarray(column)
    return values.filled(np.nan) if values.dtype.kind == "f" else values.astype(str).filled("")


@pytest.mark.parametrize("suffix", FORMATS)
def test_units_and_masks_of_a_spectrum_survive_a_file(regressor, make_star, spectra, tmp_path, suffix):
    observed = ObservedSpectrum.from_specutils(spectra, medium="vacuum")
    assert observed.n_masked == sum(int(part.mask.sum()) for part in spectra)
    observed.write(tmp_path / f"star.{suffix}")
    read = read_spectrum(tmp_path / f"star.{suffix}")
    for part, again, order in zip(spectra, read.to_specutils(), read.orders, strict=True):
        np.testing.assert_array_equal(again.mask, part.mask)
        np.testing.assert_array_equal(np.isinf(order.error), part.mask)
        assert again.flux.unit == u.ct
        assert again.meta["order"] == part.meta["order"]
        np.testing.assert_allclose(again.spectral_axis.to_value("nm"), part.spectral_axis.value, rtol=1e-15)
        good = ~part.mask
        np.testing.assert_array_equal(again.flux[good], part.flux[good])
    # all forms of one spectrum give one result
    power = make_star().power
    wanted = regressor.infer(spectra, resolving_power=power).values
    for form in (observed, read, read.to_specutils()):
        found = regressor.infer(form, resolving_power=power).values
        assert list(found.values()) == pytest.approx(list(wanted.values()), rel=1e-6, abs=1e-5)


ELSEWHERE = """
import json, sys
import numpy as np
from stellarhml import BayesianStellarRegressor, load
from stellarhml.spectra import read_spectrum

folder, power = sys.argv[1], float(sys.argv[2])
found = {}
for name in ("generator.asdf", "generator.joblib", "regressor.asdf", "regressor.joblib"):
    for mmap_mode in (None, "r"):
        estimator = load(f"{folder}/{name}", mmap_mode=mmap_mode)
        regressor = estimator
        if name.startswith("generator"):
            regressor = BayesianStellarRegressor.from_generator(estimator)
        result = regressor.infer(read_spectrum(f"{folder}/star.fits"), resolving_power=power)
        flux = regressor.generator_.predict([[5532.0, 4.4, -0.2]])
        found[f"{name} {mmap_mode}"] = [result.values, result.errors, result.flag_names, flux.tobytes().hex()]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_generator_and_regressor_infer_the_same_in_a_new_process(
    mini_generator, regressor, make_star, spectra, tmp_path
):
    star = make_star()
    observed = ObservedSpectrum.from_specutils(spectra, medium="vacuum")
    observed.write(tmp_path / "star.fits")
    for suffix in ("asdf", "joblib"):
        save(mini_generator, tmp_path / f"generator.{suffix}")
        save(regressor, tmp_path / f"regressor.{suffix}")
    here = regressor.infer(observed, resolving_power=star.power)
    flux = mini_generator.predict([[5532.0, 4.4, -0.2]])
    command = [sys.executable, "-W", "error", "-c", ELSEWHERE, str(tmp_path), str(star.power)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 8
    for name, there in found.items():
        assert there == [here.values, here.errors, here.flag_names, flux.tobytes().hex()], name
