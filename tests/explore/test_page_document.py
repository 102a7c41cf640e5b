"""The page on the side of the server, without a browser."""

import copy
import re
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

pytest.importorskip("bokeh", reason="needs bokeh")

from opened_page import Opened

from stellarhml.explore.fit_jobs import TooManyFitsError
from stellarhml.explore.screen_data import LineResponse
from stellarhml.explore.session import ExplorerSession
from stellarhml.explore.widgets import PANELS
from stellarhml.forward.stages import Parameter
from stellarhml.inference._inference_result import InferenceResult
from stellarhml.inference.parameter_set import ParameterSet
from stellarhml.spectra import read_spectrum
from stellarhml.synthesis.calibration_errors import CalibrationErrors

POWER = 40_000


@pytest.fixture(scope="module")
def session(generator, star):
    spectrum = read_spectrum(star, medium="vacuum")
    spectrum = spectrum.replace(spectrum.orders, resolving_power=float(POWER))
    session = ExplorerSession(generator, "small", [("star.txt", spectrum), ("bad.fits", "bad.fits is damaged.")])
    yield session
    session.close()


@pytest.fixture
def opened(session):
    page = Opened(session)
    page.settle()
    return page


def test_new_page_shows_the_spectrum_and_its_problems(opened, session):
    assert opened["spectrum"].options == [("0", "star.txt")]
    assert "bad.fits is damaged." in opened["problems"].text
    assert opened.page.state.power == POWER
    assert opened.page.state.window == session.ranges(opened.page.state)[1]
    assert np.isfinite(opened.data("data")["y"]).sum() > 1000
    assert "observed pixels, chi-square per pixel" in opened["status"].text


def test_slider_moves_the_curve_to_what_the_generator_predicts(opened, generator):
    opened["no-line-spread"].active = True
    for name, value in {"teff": 5417.0, "logg": 4.0, "feh": 0.0}.items():
        opened[f"slider-{name}"].value = value
    opened.settle()
    curve = opened.data("curve")
    pixels = np.searchsorted(generator.wavelength_, curve["x"] - 1e-6)
    expected = generator.predict([[5417.0, 4.0, 0.0]])[0, pixels]
    np.testing.assert_allclose(curve["y"], expected, atol=1e-6)
    query = dict(opened["query"].data["query"])
    assert (query["teff"], query["power"]) == ("5417", "none")
    assert opened["field-teff"].value == 5417.0


def test_label_at_the_edge_is_marked(opened, generator):
    opened["slider-logg"].value = generator.interpolator_.bounds_[1, 1]
    opened.settle()
    assert opened["slider-logg"].title == "log g: edge of the grid"
    assert "log g at the edge of the grid" in opened["status"].text


def test_a_calibrated_line_has_its_corrections(generator):
    """In the units of a table of corrections, with the errors of its own and of the zero point together."""
    n = len(generator.decomposer_.line_catalog_)
    shifts, variances, modes = np.zeros((4, n)), np.zeros((4, n)), np.zeros((2, 4, n), dtype=np.float32)
    shifts[:, 5] = np.log(10) * 0.2, 0.35, 0.04, -np.log(10) * 0.1
    variances[0, 5], modes[:, 0, 5] = (0.03 * np.log(10)) ** 2, 0.04 * np.log(10) / np.sqrt(2)
    calibrated = copy.copy(generator)
    calibrated.calibration_ = CalibrationErrors(np.ones(4), variances, modes, shifts)
    page = Opened(ExplorerSession(calibrated, "small"))
    page["field-line"].value = float(generator.decomposer_.line_catalog_[5])
    page.settle()
    rows = re.findall(r"<td>(\w+ \[\S+\])</td>\s*<td>(\S+)</td><td>(\S+)</td>", page["line"].text)
    assert ("strength [dex]", "+0.200", "0.050") in rows
    assert ("velocity [km/s]", "+0.350", "0.000") in rows
    assert ("width [%]", "+4.000", "0.000") in rows
    assert ("wing [dex]", "-0.100", "0.000") in rows
    plain = Opened(ExplorerSession(generator, "small"))
    plain["field-line"].value = float(generator.decomposer_.line_catalog_[5])
    plain.settle()
    assert "Correction" not in plain["line"].text


def test_selected_line_has_a_table_a_map_and_a_mark(opened, generator):
    opened["field-line"].value = float(generator.decomposer_.line_catalog_[5])
    opened.settle()
    assert opened.page.state.line == 5
    row = generator.line_table(opened.page.state.labels).loc[generator.decomposer_.line_catalog_[5]]
    assert f"{row['equivalent_width']:.5g}" in opened["line"].text
    assert np.shape(opened["manifold"].data["image"][0]) == (30, 30)
    assert dict(opened["query"].data["query"])["line"] == "5"


def test_selected_line_is_named_by_its_species(tagged):
    opened = Opened(ExplorerSession(tagged, "small"))
    catalog = tagged.decomposer_.line_catalog_
    opened["field-line"].value = float(catalog[5])
    opened.settle()
    row = tagged.line_table(opened.page.state.labels).loc[catalog[5]]
    text = opened["line"].text
    assert f"Line CN {catalog[5]:.2f} Å (vacuum, at rest)" in text
    for name, value in (
        ("share of CN", f"{row['share']:.3g}"),
        ("excitation [eV]", f"{row['excitation']:.3f}"),
        ("log gf", f"{row['log_gf']:.3f}"),
    ):
        assert f"<tr><td>{name}</td><td>{value}</td></tr>" in text
    opened["field-line"].value = float(catalog[4])  # not in the list
    opened.settle()
    assert f"Line at {catalog[4]:.2f} Å (vacuum, at rest)" in opened["line"].text
    assert "log gf" not in opened["line"].text
    names = opened["names"].data["text"]
    known = tagged.tags_.names()
    assert names
    for name in names:
        species, wavelength = name.rsplit(" ", 1)
        assert species == known[np.abs(catalog - float(wavelength)).argmin()]


def test_absent_line_is_named_by_its_species():
    tag = {"species": "CN", "share": 1.0, "excitation": 0.5, "log_gf": -2.0}
    for found, name, shown in (({}, "8500.00", "at 8500.00"), (tag, "CN 8500.00", "CN 8500.00")):
        text = PANELS.line(LineResponse(8500.0, {}, found, {}, {}, {}), name, {}, str, {})
        assert f"The line {shown} Å is absent at these labels." in text


def test_lines_without_tags_are_named_by_their_wavelength(opened, generator):
    catalog = generator.decomposer_.line_catalog_
    opened["field-line"].value = float(catalog[5])
    opened.settle()
    assert f"Line at {catalog[5]:.2f} Å (vacuum, at rest)" in opened["line"].text
    assert "log gf" not in opened["line"].text
    assert set(opened["names"].data["text"]) <= {f"{x:.2f}" for x in catalog}


def test_fit_moves_the_sliders_and_is_exported(opened, tmp_path):
    opened.click("fit")
    end = time.monotonic() + 60
    while "Result" not in opened["fit-text"].text and time.monotonic() < end:
        time.sleep(0.05)
        opened.settle()
    result = opened.page.fit.result
    for name, value in result.values.items():
        assert opened[f"slider-{name}"].value == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert f"Flags: {result.flag_names.replace('|', ', ') or 'none'}" in opened["fit-text"].text
    opened.click("ecsv")
    assert opened["file"].data["name"] == ["result.ecsv"]
    (tmp_path / "result.ecsv").write_text(opened["file"].data["text"][0])
    table = Table.read(tmp_path / "result.ecsv")
    names = [column for name in result.names for column in (name, f"{name}_std")]
    rest = ["reduced_chi2", "n_pixels", "n_rejected", "rv_frame", "seconds", "flags", "message"]
    assert table.colnames == ["star", *names, *rest]
    assert table["rv_std"].unit == "km / s"


def test_error_budget_of_a_fit_with_line_faults_is_shown(opened, session, monkeypatch):
    parameters = ParameterSet((Parameter("teff", "K", (5000.0, 6000.0)), Parameter("rv", "km/s", (-5.0, 5.0))))
    parts = {"noise": np.diag([9.0, 0.01]), "line_faults": np.diag([16.0, 0.0]), "prior": np.zeros((2, 2))}
    for faults, shown in ((pd.DataFrame(), True), (None, False)):
        values = {"teff": 5250.0, "logg": 4.0, "feh": 0.0, "rv": 1.0, "vsini": 2.0}
        result = InferenceResult(parameters=parameters, values=values, covariances=parts, line_faults=faults)
        job = SimpleNamespace(done=True, result=result, error=None, name="star.txt")
        monkeypatch.setattr(session, "fit", lambda state, job=job: job)
        opened.click("fit")
        text = opened["fit-text"].text
        assert ("Error budget" in text) is shown
        if shown:
            head, *rows = text.split("Error budget:")[1].split("<tr>")[1:]
            assert [part in head for part in ("noise", "line faults", "total", "prior", "generator")] == [True] * 3 + [
                False
            ] * 2
            assert "<td>teff</td><td>3</td><td>4</td><td>5</td>" in rows[0]
            assert "<td>rv</td><td>0.1</td><td>0</td><td>0.1</td>" in rows[1]


def test_page_has_one_fit_at_a_time(opened, session, monkeypatch):
    """A browser may send what it likes, also the click of a button that is disabled."""
    started, job = [], SimpleNamespace(done=False, stage="waiting", n_evaluations=0, seconds=0.0, stop=lambda: None)
    monkeypatch.setattr(session, "fit", lambda state: started.append(state) or job)
    for _ in range(5):
        opened.click("fit")
    assert len(started) == 1


def test_fit_too_many_is_refused_with_a_sentence(opened, session, monkeypatch):
    def refuse(state):
        raise TooManyFitsError("2 fits run and 4 wait.")

    monkeypatch.setattr(session, "fit", refuse)
    opened.click("fit")
    assert "2 fits run and 4 wait." in opened["fit-text"].text
    assert not opened["fit"].disabled


def test_same_window_can_be_exported_twice(opened):
    opened.click("csv")
    first = dict(opened["file"].data)
    opened.click("csv")
    assert opened["file"].data["text"] == first["text"]
    assert opened["file"].data["number"] != first["number"]  # else the browser sees no change


def test_window_is_exported(opened):
    opened.click("csv")
    header = opened["file"].data["text"][0].splitlines()[0]
    assert header == "order,wavelength,model,model_std,flux,flux_std"
