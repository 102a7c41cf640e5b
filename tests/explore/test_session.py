"""The session that all pages share."""

import copy

import numpy as np
import pytest

from stellarhml.explore.fit_jobs import FitStoppedError, TooManyFitsError
from stellarhml.explore.session import ExplorerSession
from stellarhml.spectra.observed_spectrum import ObservedSpectrum


@pytest.fixture(scope="module")
def session(regressor):
    generator = regressor.generator_
    wavelength = generator.wavelength_[5:-5:3]
    flux = generator.observe(generator.interpolator_.bounds_.mean(axis=1)[None], wavelength, resolving_power=4e4)[0]
    good = np.isfinite(flux)
    order = (wavelength[good], 3.0 * flux[good], np.full(good.sum(), 0.03))
    star = ObservedSpectrum([order], {"resolving_power": 40_000.0, "order_numbers": [112]})
    return ExplorerSession(generator, "small", [("star.fits", star), ("bad.fits", "bad.fits is damaged.")])


def test_spectrum_that_cannot_be_read_has_a_message(session):
    assert [name for name, *_ in session.spectra] == ["star.fits"]
    assert session.problems == ["bad.fits is damaged."]


def test_new_page_shows_the_spectrum_at_its_resolving_power(session):
    state, problems = session.read_address({})
    assert not problems
    assert state.power == 40_000.0
    assert state.window == session.ranges(state)[0]
    assert session.read_address(dict(session.address(state))) == (state, [])
    sharp, _ = session.read_address({"power": "none"})
    assert sharp.power is None
    assert session.read_address(dict(session.address(sharp))) == (sharp, [])


def test_orders_have_the_numbers_of_their_file(session):
    (name,) = session.order_names(session.read_address({})[0])
    assert name.startswith("112: ")


def test_table_has_all_pixels_of_the_window(session):
    low = session.band[0] + 20
    state, _ = session.read_address({"low": f"{low}", "high": f"{low + 10}"})
    table = session.table(state)
    own = table[table["order"] == "generator"]
    inside = (session.generator.wavelength_ >= low) & (session.generator.wavelength_ <= low + 10)
    np.testing.assert_allclose(own["wavelength"], session.generator.wavelength_[inside])
    # orders have the numbers of their file, as in the messages of a fit
    seen = table[table["order"] == 112]
    assert len(seen) == pytest.approx(len(own) / 3, abs=1)
    # noise-free, at the very labels: data over continuum are the model
    np.testing.assert_allclose(seen["flux"], seen["model"], atol=2e-3)


def test_generator_alone(regressor):
    session = ExplorerSession(regressor.generator_, "alone")
    state, _ = session.read_address({})
    assert session.compare(state) is None
    assert session.ranges(state) == session.order_names(state) == []
    assert set(session.table(state)["order"]) == {"generator"}


def test_closing_the_session_stops_all_fits(regressor, session):
    name, spectrum, _ = session.spectra[0]
    own = ExplorerSession(regressor.generator_, "closed", [(name, spectrum)])
    jobs = [own.fit(own.read_address({})[0]) for _ in range(6)]  # two run, four wait
    with pytest.raises(TooManyFitsError, match="2 fits run and 4 wait"):
        own.fit(own.read_address({})[0])
    own.close()
    assert all(job.done for job in jobs)
    assert any(isinstance(job.error, FitStoppedError) for job in jobs)
    with pytest.raises(RuntimeError):
        own.fit(own.read_address({})[0])


def test_label_with_a_reserved_name_is_refused(regressor):
    generator = copy.copy(regressor.generator_)
    generator.label_names_ = ("teff", "power", "rv")
    with pytest.raises(ValueError, match=r"\['power', 'rv'\].*label_names"):
        ExplorerSession(generator, "clash")
