"""Generators with lines that their grid lacks."""

import numpy as np
import pytest
from mock_line_list import mock_line_list

from stellarhml import SpectrumGenerator, VoigtLineDecomposer, load, save
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.synthesis.added_lines import add_lines
from stellarhml.synthesis.line_changes import LineChanges
from stellarhml.synthesis.line_values import line_values

LABELS = np.array([5310.0, 3.8, -0.2])
WIDTHS = np.array([0.012, 0.03])


@pytest.fixture(scope="module")
def fit(grid):
    def make(**parameters):
        decomposer = VoigtLineDecomposer(n_rounds=0, subsample=6)
        return SpectrumGenerator(wavelength=grid.wavelength, decomposer=decomposer, **parameters).fit(
            grid.labels, grid.flux
        )

    return make


@pytest.fixture(scope="module", params=["LineFactors", "LineBank"])
def plain(fit, request):
    """A generator with species, by the form of its table."""
    generator = fit() if request.param == "LineFactors" else fit(n_factors=None)
    assert type(generator.interpolator_.table_).__name__ == request.param
    return generator.tag_lines(mock_line_list(generator))


def _places(generator):
    """Two wavelengths far from all lines, the redder one first."""
    catalog = generator.decomposer_.line_catalog_
    gaps = np.argsort(np.diff(catalog))[-2:]
    return np.sort(0.5 * (catalog[gaps] + catalog[gaps + 1]) + 0.0031)[::-1]


def test_the_new_lines_are_there_and_the_others_stay(plain):
    at, before = _places(plain), plain.predict(LABELS[None])
    extended, places, new, kept = add_lines(plain, at, WIDTHS, LABELS)
    assert kept.tolist() == [1, 0]  # in the order of pixels
    table, old = extended.line_table(LABELS), plain.line_table(LABELS)
    assert (np.diff(table.index) > 0).all()
    for column in ("center", "log_amplitude", "equivalent_width", "equivalent_width_per_teff", "species"):
        assert table[column].iloc[places].tolist() == old[column].tolist()
    np.testing.assert_allclose(table["center"].iloc[new], at[kept], atol=1e-6)
    np.testing.assert_allclose(table["equivalent_width"].iloc[new], WIDTHS[kept], rtol=2e-3)
    assert table["species"].iloc[new].tolist() == ["", ""]
    np.testing.assert_array_equal(plain.predict(LABELS[None]), before)
    # the spectrum loses what the lines absorb, and nothing else
    x = plain.wavelength_
    ratio = extended.predict(LABELS[None])[0] / before[0]
    near = np.min(np.abs(x[:, None] - at), axis=1) < 1.5
    np.testing.assert_allclose(ratio[~near], 1, atol=2e-3)
    assert np.trapezoid(1 - ratio, x) == pytest.approx(WIDTHS.sum(), rel=0.1)
    assert extended.expected_error(LABELS).shape == x.shape


def test_strengths_stay_sane_over_the_grid(plain):
    """A new line changes with the labels as lines of its strength do, also at the corners."""
    extended, places, new, _ = add_lines(plain, _places(plain), WIDTHS, LABELS)
    nodes = extended.interpolator_.nodes_
    values = line_values(extended, nodes, "equivalent_width")
    slope = np.log(values / line_values(extended, LABELS[None], "equivalent_width"))
    assert np.isfinite(slope[:, new]).all()
    assert np.ptp(slope[:, new], axis=0).min() > 0.1
    # most of the grid's lines here are saturated, and change less
    assert np.abs(slope[:, new]).max() < 1.5 * np.nanmax(np.abs(slope[:, places]))
    assert np.ptp(line_values(extended, nodes, "center")[:, new], axis=0).max() < 1e-6


def test_derivatives_are_those_of_the_flux(plain):
    extended, _, new, _ = add_lines(plain, _places(plain), WIDTHS, LABELS)
    pixels = slice(0, len(extended.wavelength_))
    jacobian = extended.jacobian(LABELS[None])[0]
    rows = extended.render_rows(LABELS, pixels, tangents=True)
    np.testing.assert_allclose(rows[1:].T, jacobian, rtol=1e-9)
    for k, step in enumerate([1.0, 0.01, 0.01]):
        up, down = (extended.predict((LABELS + sign * step * np.eye(3)[k])[None])[0] for sign in (1, -1))
        np.testing.assert_allclose(jacobian[:, k], (up - down) / (2 * step), atol=2e-3 * np.abs(jacobian[:, k]).max())
    # by the lines themselves, through the instrument
    chain = ForwardChain(extended, Observation(extended.wavelength_[40:-40], resolving_power=4e4))
    values = dict(zip(extended.label_names_, LABELS, strict=True)) | {"rv": 0.0, "vsini": 3.0}
    n_lines = len(extended.decomposer_.line_catalog_)
    columns = chain.line_columns(values, np.isin(np.arange(n_lines), new))[0]
    assert sorted(columns.line.tolist()) == sorted(new.tolist())
    shift = np.where(np.arange(n_lines) == new[0], 1e-3, 0.0)
    nothing = dict.fromkeys(("velocity", "width", "wing"), np.zeros(n_lines))
    change = LineChanges(extended, offsets={"strength": shift} | nothing)
    difference = (chain.with_changes(change).flux(values)[0] - chain.flux(values)[0]) / 1e-3
    i = columns.line.tolist().index(new[0])
    np.testing.assert_allclose(columns.column(i, 0, len(difference)), difference, atol=0.03 * np.ptp(difference))


def test_it_is_stored_and_read(plain, tmp_path):
    extended = add_lines(plain, _places(plain), WIDTHS, LABELS)[0]
    again = load(save(extended, tmp_path / "g.asdf"))
    np.testing.assert_array_equal(again.predict(LABELS[None]), extended.predict(LABELS[None]))
    assert again.line_table(LABELS).equals(extended.line_table(LABELS))
    # its decomposer fits the new lines too
    flux = extended.predict(LABELS[None])
    lines = again.decomposer_.decompose(flux).theta
    assert lines.shape[1] == len(extended.decomposer_.line_catalog_) * len(extended.decomposer_.line_parameters)
    np.testing.assert_allclose(again.decomposer_.inverse_transform(lines), flux, atol=0.02)


def test_lines_that_cannot_be_added_are_left_out(plain):
    catalog, (high, low) = plain.decomposer_.line_catalog_, plain.wavelength_[[-1, 0]]
    at = np.array([low - 1, catalog[3], high + 1, _places(plain)[0], _places(plain)[0] + 1e-6])
    extended, places, new, kept = add_lines(plain, at, np.full(5, 0.02), LABELS)
    assert kept.tolist() == [3]
    assert len(extended.decomposer_.line_catalog_) == len(catalog) + 1 == len(places) + len(new)
    same = add_lines(plain, np.empty(0), np.empty(0), LABELS)[0]
    np.testing.assert_array_equal(same.predict(LABELS[None]), plain.predict(LABELS[None]))
