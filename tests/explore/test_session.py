"""What an explorer shows."""

import copy

import numpy as np
import pytest

from stellarhml.explore.fit_jobs import FitStoppedError
from stellarhml.explore.session import Subject
from stellarhml.spectra.observed_spectrum import ObservedSpectrum


@pytest.fixture(scope="module")
def subject(regressor):
    generator = regressor.generator_
    wavelength = generator.wavelength_[5:-5:3]
    flux = generator.observe(generator.interpolator_.bounds_.mean(axis=1)[None], wavelength, resolving_power=4e4)[0]
    good = np.isfinite(flux)
    order = (wavelength[good], 3.0 * flux[good], np.full(good.sum(), 0.03))
    star = ObservedSpectrum([order], {"resolving_power": 40_000.0, "order_numbers": [112]})
    return Subject(generator, "small", [("star.fits", star), ("bad.fits", "bad.fits is damaged.")])


def test_spectrum_that_cannot_be_read_is_told(subject):
    assert [name for name, *_ in subject.spectra] == ["star.fits"]
    assert subject.problems == ["bad.fits is damaged."]


def test_page_begins_with_the_spectrum_and_its_resolving_power(subject):
    state, problems = subject.begin({})
    assert not problems
    assert state.power == 40_000.0
    assert state.window == subject.ranges(state)[0]
    assert subject.begin(dict(subject.address(state))) == (state, [])
    sharp, _ = subject.begin({"power": "none"})
    assert sharp.power is None
    assert subject.begin(dict(subject.address(sharp))) == (sharp, [])


def test_orders_have_the_numbers_of_their_file(subject):
    (name,) = subject.order_names(subject.begin({})[0])
    assert name.startswith("112: ")


def test_table_has_all_pixels_of_the_window(subject):
    low = subject.band[0] + 20
    state, _ = subject.begin({"low": f"{low}", "high": f"{low + 10}"})
    table = subject.table(state)
    own = table[table["order"] == "generator"]
    inside = (subject.generator.wavelength_ >= low) & (subject.generator.wavelength_ <= low + 10)
    np.testing.assert_allclose(own["wavelength"], subject.generator.wavelength_[inside])
    # orders have the numbers of the file, as messages of a fit have them
    seen = table[table["order"] == 112]
    assert len(seen) == pytest.approx(len(own) / 3, abs=1)
    # noise-free, at the very labels: data over continuum are the model
    np.testing.assert_allclose(seen["flux"], seen["model"], atol=2e-3)


def test_generator_alone(regressor):
    subject = Subject(regressor.generator_, "alone")
    state, _ = subject.begin({})
    assert subject.compare(state) is None
    assert subject.ranges(state) == subject.order_names(state) == []
    assert set(subject.table(state)["order"]) == {"generator"}


def test_fits_that_run_are_stopped_when_all_is_closed(regressor, subject):
    name, spectrum, _ = subject.spectra[0]
    own = Subject(regressor.generator_, "closed", [(name, spectrum)])
    jobs = [own.fit(own.begin({})[0]) for _ in range(6)]  # two run, four wait
    own.close()
    assert all(job.done for job in jobs)
    assert any(isinstance(job.error, FitStoppedError) for job in jobs)
    with pytest.raises(RuntimeError):
        own.fit(own.begin({})[0])


def test_label_that_is_called_as_a_part_of_the_page_is_refused(regressor):
    generator = copy.copy(regressor.generator_)
    generator.label_names_ = ("teff", "power", "rv")
    with pytest.raises(ValueError, match=r"\['power', 'rv'\].*label_names"):
        Subject(generator, "clash")
