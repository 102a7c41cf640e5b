"""What `infer_many` takes for one star, a star whose worker is killed, and names in the table of results."""

import os
import signal

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table

from stellarhml.flags import InferenceFlag
from stellarhml.inference import results_table
from stellarhml.spectra import ObservedSpectrum


def _one_star(star):
    wavelength, flux, error = (np.concatenate(part) for part in (star.wavelength, star.flux, star.error))
    yield wavelength, flux, error
    yield wavelength, flux
    yield [wavelength, flux, error]
    yield [wavelength.tolist(), flux.tolist()]
    yield star.wavelength, star.flux, star.error
    yield np.stack([wavelength, flux, error])
    yield ObservedSpectrum(list(zip(*star.spectrum, strict=True)))
    specutils = pytest.importorskip("specutils")
    yield specutils.Spectrum(spectral_axis=star.wavelength[0] * u.AA, flux=star.flux[0] * u.one)


def test_one_spectrum_is_no_list_of_spectra(regressor, make_star):
    """Each of its arrays, or of its pixels, would be a star."""
    for one in _one_star(make_star()):
        with pytest.raises(TypeError, match=r"but a list of spectra is needed. Pass \[spectrum\] for one star"):
            regressor.infer_many(one, resolving_power=30_000, verbose=False)


def test_any_sequence_of_spectra_is_taken(regressor, make_star):
    star = make_star()
    arrays, spectrum = star.spectrum, ObservedSpectrum(list(zip(*star.spectrum, strict=True)))
    (expected,) = regressor.infer_many([star.spectrum], resolving_power=star.power, verbose=False)
    for many in ([arrays], (arrays,), iter([arrays]), (spectrum,), (part for part in [spectrum])):
        (result,) = regressor.infer_many(many, resolving_power=star.power, verbose=False)
        assert result.values == expected.values
    assert regressor.infer_many([], resolving_power=star.power, verbose=False) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_star_that_kills_its_worker_is_failed_and_the_others_go_on(regressor, make_star):
    here = os.getpid()

    class Deadly:  # of a function: the workers cannot import a test
        ndim = 1

        def __array__(self, dtype=None, copy=None):
            assert os.getpid() != here
            os.kill(os.getpid(), signal.SIGKILL)

    stars = [make_star(seed=seed) for seed in range(3)]
    spectra = [star.spectrum for star in stars]
    deadly = spectra[1][0][0], Deadly()
    mixed = [spectra[0], deadly, spectra[2]]
    found = list(regressor.infer_each(mixed, resolving_power=stars[0].power, n_jobs=2, verbose=False))
    assert [bool(result.flags & InferenceFlag.FAILED) for result in found] == [False, True, False]
    assert "item 2 was killed, and again when" in found[1].messages[0]
    assert "\n" not in found[1].messages[0]
    for k in (0, 2):
        assert found[k].values == regressor.infer(spectra[k], resolving_power=stars[k].power).values


def test_names_of_files_that_are_no_text(regressor, make_star, tmp_path):
    """Escaped as JSON does, so that the table can be written in any format."""
    star = make_star()
    result = regressor.infer(star.spectrum, resolving_power=star.power)
    names = ["\udce9toile", "a\nb", "#c", "é"]
    table = results_table([result] * 4, names)
    assert table["star"].tolist() == [r"\udce9toile", r"a\nb", "#c", "é"]
    table.to_csv(tmp_path / "t.csv")
    table = results_table([result] * 4, names, kind="astropy")
    table.write(tmp_path / "t.ecsv")
    # astropy takes a line that begins with # for a comment
    assert Table.read(tmp_path / "t.ecsv")["star"].tolist() == [r"\udce9toile", r"a\nb", r"\x23c", "é"]
    table[:3].write(tmp_path / "t.fits")
    assert len(Table.read(tmp_path / "t.fits")) == 3
