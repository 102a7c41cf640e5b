"""The numbers on a page."""

import copy

import numpy as np
import pytest

from stellarhml import SpectrumGenerator
from stellarhml.explore.screen_data import (
    ScreenLines,
    line_at,
    line_response,
    lines_in_window,
    lines_to_name,
    spectrum_in_window,
    thin_pixels,
)
from stellarhml.physics.wavelength import doppler_shift

LABELS = [5310.0, 3.8, -0.2]


@pytest.mark.parametrize("rv", [0.0, -35.0])
def test_view_is_what_the_generator_predicts(generator, rv):
    seen = spectrum_in_window(generator, LABELS, (8503.0, 8509.0), rv=rv)
    pixels = np.searchsorted(generator.wavelength_, seen.wavelength / doppler_shift(1.0, rv) - 1e-6)
    assert (np.diff(pixels) == 1).all()
    flux, std = generator.predict([LABELS], pixels=pixels, return_std=True)
    np.testing.assert_allclose(seen.flux, flux[0], rtol=1e-12)
    np.testing.assert_allclose(seen.upper - seen.flux, std[0], rtol=1e-9)
    np.testing.assert_allclose(seen.flux - seen.lower, std[0], rtol=1e-9)
    # up to the edges of the window, and no more than a neighbour beyond
    assert seen.wavelength[0] <= 8503.0 <= seen.wavelength[1]
    assert seen.wavelength[-2] <= 8509.0 <= seen.wavelength[-1]
    whole = generator.wavelength_ * doppler_shift(1.0, rv)
    assert seen.n_pixels == np.count_nonzero((whole >= 8503.0) & (whole <= 8509.0))
    assert (seen.n_blank, seen.run, seen.outside) == (0, 1, False)


def test_a_resolving_power_above_the_generators_is_its_own(generator):
    built_for = copy.copy(generator).set_params(resolving_power=30_000.0)
    shown = [
        spectrum_in_window(built_for, LABELS, (8503.0, 8509.0), vsini=5.0, resolving_power=power).flux
        for power in (None, 30_000.0, 60_000.0, 20_000.0)
    ]
    np.testing.assert_array_equal(shown[1], shown[0])
    np.testing.assert_array_equal(shown[2], shown[0])
    assert np.abs(shown[3] - shown[0]).max() > 1e-3


def test_broadened_view_is_what_the_generator_observes(generator):
    star = {"rv": 20.0, "vsini": 7.0, "resolving_power": 40_000.0}
    seen = spectrum_in_window(generator, LABELS, (8503.0, 8515.0), **star)
    whole = generator.wavelength_ * doppler_shift(1.0, 20.0)
    flux = generator.observe([LABELS], whole, **star)[0]
    assert seen.n_blank == 0
    np.testing.assert_allclose(seen.flux, flux[np.searchsorted(whole, seen.wavelength - 1e-6)], atol=2e-6)


def test_view_outside_the_grid_is_its_nearest_point(generator):
    seen = spectrum_in_window(generator, [9000.0, 3.8, -0.2], (8503.0, 8509.0))
    assert seen.outside
    edge = [generator.interpolator_.bounds_[0, 1], 3.8, -0.2]
    np.testing.assert_allclose(seen.flux, spectrum_in_window(generator, edge, (8503.0, 8509.0)).flux)


def test_pixels_that_need_light_from_beyond_the_band_are_counted(generator):
    star = {"vsini": 30.0, "resolving_power": 20_000.0}
    seen = spectrum_in_window(generator, LABELS, (8695.0, 8710.0), n_columns=20, **star)
    flux = generator.observe([LABELS], generator.wavelength_, **star)[0]
    inside = generator.wavelength_ >= 8695.0
    assert seen.n_pixels == inside.sum()
    assert 0 < seen.n_blank < seen.n_pixels
    assert seen.n_blank == pytest.approx(np.isnan(flux[inside]).sum(), abs=2)
    beyond = spectrum_in_window(generator, LABELS, (8800.0, 8900.0), **star)
    assert (beyond.n_pixels, beyond.n_blank) == (0, 0)


@pytest.mark.parametrize("window", [(1000.0, 1001.0), (8499.0, 8500.02), (8510.0, 8510.01)])
def test_view_of_hardly_any_pixels(generator, window):
    for power in (None, 50_000.0):
        seen = spectrum_in_window(generator, LABELS, window, resolving_power=power, n_columns=10)
        assert len(seen.wavelength) == len(seen.flux) == len(seen.lower) <= 3


def test_generator_without_an_error_has_no_band(generator):
    import copy

    mute = copy.copy(generator)
    mute.error_map_ = None
    assert np.isnan(spectrum_in_window(mute, LABELS, (8503.0, 8509.0)).upper).all()


@pytest.mark.parametrize("n", [41, 100, 997, 1000])
def test_thinning_keeps_the_extremes_of_every_run(n):
    flux = np.random.default_rng(n).normal(size=n)
    flux[n // 3] = -50.0  # one pixel deep
    shown, run = thin_pixels(flux, 20)
    assert len(shown) <= 40
    assert (np.diff(shown) > 0).all()
    assert n // 3 in shown
    for start in range(0, n, run):
        part = flux[start : start + run]
        inside = flux[shown[(shown >= start) & (shown < start + run)]]
        assert inside.min() == part.min()
        assert inside.max() == part.max()


def test_thinning_of_pixels_without_a_value():
    flux = np.ones(100)
    flux[10:40] = np.nan
    flux[12] = 0.2
    shown, run = thin_pixels(flux, 10)
    assert run == 10
    assert 12 in shown
    assert np.isnan(flux[shown[(shown >= 20) & (shown < 40)]]).all()
    assert np.isfinite(flux[shown[shown >= 40]]).all()
    assert thin_pixels(np.empty(0), 10)[0].size == 0


def test_band_over_runs_holds_the_errors_of_all_pixels(generator):
    every = spectrum_in_window(generator, LABELS, (8500.0, 8520.0))
    thinned = spectrum_in_window(generator, LABELS, (8500.0, 8520.0), n_columns=20)
    assert thinned.run > 1
    for x, low, high in zip(thinned.wavelength, thinned.lower, thinned.upper, strict=True):
        start = int(np.searchsorted(every.wavelength, x - 1e-6)) // thinned.run * thinned.run
        assert low == every.lower[start : start + thinned.run].min()
        assert high == every.upper[start : start + thinned.run].max()


def test_lines_in_view_are_those_of_the_line_table(generator):
    table = generator.line_table(LABELS)
    shift = doppler_shift(1.0, 30.0)
    lines = lines_in_window(generator, LABELS, (8502.0, 8518.0), rv=30.0)
    inside = table[(table["center"] * shift).between(8502.0, 8518.0)]
    np.testing.assert_allclose(lines.center, inside["center"] * shift)
    np.testing.assert_allclose(lines.depth, inside["depth"])
    np.testing.assert_array_equal(lines.name, inside.index)
    np.testing.assert_array_equal(lines.name, generator.decomposer_.line_catalog_[lines.index])
    few = lines_in_window(generator, LABELS, (8502.0, 8518.0), n_lines=2)
    np.testing.assert_allclose(np.sort(few.depth), np.sort(inside["depth"])[-2:])
    assert (np.diff(few.center) > 0).all()
    assert len(lines_in_window(generator, LABELS, (100.0, 101.0)).center) == 0


def test_lines_have_their_species(generator, tagged):
    table = tagged.line_table(LABELS)
    lines = lines_in_window(tagged, LABELS, (8502.0, 8518.0))
    assert lines.species.tolist() == table.loc[lines.name, "species"].tolist()
    assert set(lines.species) == {"Fe I", "CN", ""}
    assert set(lines_in_window(generator, LABELS, (8502.0, 8518.0)).species) == {""}
    row = table[table["species"] == "CN"].iloc[0]
    index = int(np.flatnonzero(generator.decomposer_.line_catalog_ == row.name)[0])
    assert line_response(tagged, LABELS, index).tag == dict(row[["species", "share", "excitation", "log_gf"]])
    assert line_response(tagged, LABELS, 4).tag == {}
    assert line_response(generator, LABELS, index).tag == {}


def test_names_of_lines_do_not_overlap():
    center, depth = np.array([1.0, 10.0, 10.5, 20.0, 30.0, 99.9]), np.array([0.5, 0.3, 0.6, 0.9, 0.01, 0.8])
    lines = ScreenLines(np.arange(6), center, center, depth, np.full(6, ""))
    # the first and the last would be cut off, the second meets a deeper one, the fifth is faint
    assert lines_to_name(lines, 4.0, (0.0, 100.0)).tolist() == [2, 3]
    assert lines_to_name(ScreenLines(*np.empty((5, 0))), 4.0, (0.0, 100.0)).size == 0


def test_response_of_a_line_is_that_of_the_line_table(generator):
    table = generator.line_table(LABELS)
    for place in (0, len(table) - 1):
        row = table.iloc[place]
        index = int(np.flatnonzero(generator.decomposer_.line_catalog_ == row.name)[0])
        found = line_response(generator, LABELS, index, n_points=5)
        assert found.name == row.name
        for name, value in found.values.items():
            assert value == pytest.approx(row[name], rel=1e-9)
        for k, name in enumerate(generator.label_names_):
            assert found.slopes[name]["equivalent_width"] == pytest.approx(
                row[f"equivalent_width_per_{name}"], rel=1e-6
            )
            step = 1e-3 * np.ptp(generator.interpolator_.bounds_[k])
            ends = [generator.line_table([*LABELS[:k], LABELS[k] + sign * step, *LABELS[k + 1 :]]) for sign in (-1, 1)]
            slope = (ends[1]["depth"].iloc[place] - ends[0]["depth"].iloc[place]) / (2 * step)
            assert found.slopes[name]["depth"] == pytest.approx(slope, rel=0.02, abs=1e-9)
            x, widths = found.curves[name]
            middle = [*LABELS[:k], x[2], *LABELS[k + 1 :]]
            assert widths[2] == pytest.approx(generator.line_table(middle)["equivalent_width"].iloc[place])


def test_absent_line_has_no_values():
    from stellarhml import LineManifoldInterpolator, VoigtLineDecomposer
    from stellarhml.datasets import make_stellar_grid

    grid = make_stellar_grid(random_state=0)
    model = SpectrumGenerator(
        wavelength=grid.wavelength,
        decomposer=VoigtLineDecomposer(prominence=0.2, fit_undetected=False, max_iter=30),
        interpolator=LineManifoldInterpolator(absent="vanish"),
        verbose=False,
    ).fit(grid.labels, grid.flux)
    there = model.line_table([5750.0, 4.5, -0.5]).index
    absent = next(k for k, line in enumerate(model.decomposer_.line_catalog_) if line not in there)
    found = line_response(model, [5750.0, 4.5, -0.5], absent)
    assert found.values == {}
    assert np.isnan(found.curves["teff"][1][-1])


def test_click_selects_the_deepest_line_within_reach():
    center, depth = np.array([8500.0, 8500.2, 8500.9, 8503.0]), np.array([0.5, 0.001, 0.6, 0.01])
    lines = ScreenLines(np.arange(4), center, center, depth, np.full(4, ""))
    assert line_at(lines, 8500.2, 0.5) == 0
    assert line_at(lines, 8500.2, 0.1) == 1
    assert line_at(lines, 8502.0, 0.5) == 3
    assert line_at(lines, 9000.0, 0.5) == 3
