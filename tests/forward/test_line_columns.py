"""Derivatives of an observed spectrum by single lines against differences of the whole forward model."""

import tracemalloc

import numpy as np
import pytest
from mock_line_grid import make_line_generator

from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.line_columns import cores_of_strong_lines
from stellarhml.forward.observation import Observation
from stellarhml.kernels.forms import MINNAERT
from stellarhml.kernels.line_columns import KINDS
from stellarhml.synthesis.line_changes import LineChanges

STAR = {"teff": 5400.0, "logg": 4.1, "feh": -0.2, "rv": 12.0, "vsini": 0.0}
FAINT = 3e-4  # effect at which the wing of a line is cut, as the module has it
PIXELS = [np.arange(8501.0, 8510.0, 0.05), np.arange(8507.0, 8517.0, 0.06)]
INSTRUMENTS = {
    "sharp": (None, 0.0),
    "rotation": (None, 6.0),
    "line spread": (40_000.0, 0.0),
    "both": (60_000.0, 3.0),
    "fast": (20_000.0, 30.0),
    "by pixel": ([np.linspace(49_000, 51_000, len(x)) for x in PIXELS], 3.0),
}


@pytest.fixture(scope="module")
def generator():
    """Twelve lines, from weak to one of optical depth 20 with wings."""
    return make_line_generator(12, strongest=3.0)


def offsets(generator, **changes):
    """Changes of lines, all zero but those given by kind as {line: change}."""
    found = {kind: np.zeros(len(generator.decomposer_.line_catalog_)) for kind in KINDS}
    for kind, own in changes.items():
        for line, change in own.items():
            found[kind][line] = change
    return LineChanges(generator, offsets=found)


def all_lines(generator):
    return np.ones(len(generator.decomposer_.line_catalog_), dtype=bool)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_columns_are_differences_of_the_observed_flux(generator, instrument):
    power, vsini = INSTRUMENTS[instrument]
    values = STAR | {"vsini": vsini}
    chain = ForwardChain(generator, Observation(PIXELS, resolving_power=power))
    orders = chain.line_columns(values, all_lines(generator))
    # groups of 0.4 sigma of the broadening change its width by 0.7 %; without any, lines of 2.5 pixels of the model are
    # smoothed by half a pixel, which adds 4 % to their variance
    relative = 0.04 if instrument == "sharp" else 0.02
    seen = np.zeros((12, len(KINDS)))
    for line in range(12):
        for k, kind in enumerate(KINDS):
            pair = [
                chain.with_changes(offsets(generator, **{kind: {line: sign * 1e-3}})).flux(values) for sign in (1, -1)
            ]
            for columns, high, low in zip(orders, *pair, strict=True):
                expected = (high - low) / 2e-3
                own = np.flatnonzero(columns.line == line)
                got = columns.column(own[0], k, len(expected)) if len(own) else np.zeros(len(expected))
                good = np.isfinite(expected)
                size = np.abs(expected[good]).max()
                seen[line, k] = max(seen[line, k], size)
                limit = relative * size + FAINT
                np.testing.assert_allclose(got[good], expected[good], rtol=0, atol=limit, err_msg=f"{line} {kind}")
    # all lines were there to compare, and the strong one by its wings as well
    assert np.all(seen[:, 0] > 5 * FAINT)
    assert seen[6, 3] > 0.05


def test_wanted_lines_alone(generator):
    chain = ForwardChain(generator, Observation(PIXELS, resolving_power=40_000.0))
    wanted = np.arange(12) % 3 == 0
    for part, whole in zip(
        chain.line_columns(STAR, wanted), chain.line_columns(STAR, all_lines(generator)), strict=True
    ):
        assert set(part.line) == set(whole.line) & set(np.flatnonzero(wanted))
        for i, line in enumerate(part.line):
            j = int(np.flatnonzero(whole.line == line)[0])
            np.testing.assert_array_equal(part.column(i, 0, 200), whole.column(j, 0, 200))


def test_rows_of_the_table_know_their_line_and_pixel(generator):
    chain = ForwardChain(generator, Observation(PIXELS, resolving_power=40_000.0))
    for order, columns in zip(PIXELS, chain.line_columns(STAR, all_lines(generator)), strict=True):
        lines, pixels = columns.lines(), columns.pixels()
        assert len(lines) == len(pixels) == len(columns.table)
        for i, line in enumerate(columns.line):
            whole = np.zeros(len(order))
            whole[pixels[lines == line]] = columns.table[lines == line, 1]
            np.testing.assert_array_equal(whole, columns.column(i, 1, len(order)))


def test_an_order_beyond_the_band_has_no_columns(generator):
    beyond = Observation([PIXELS[0], PIXELS[0] + 1000], resolving_power=40_000.0)
    chain = ForwardChain(generator, beyond)
    columns, nothing = chain.line_columns(STAR, all_lines(generator))
    assert len(columns.line)
    assert nothing is None
    shapes, nothing = chain.wide_shapes(STAR)
    assert shapes.shape[0] == nothing.shape[0] == len(PIXELS[0])
    assert nothing.shape[1] == 0


def test_columns_follow_the_changes_of_the_chain(generator):
    """A line that is twice as strong has the column of such a line, not that of the grid's."""
    chain = ForwardChain(generator, Observation(PIXELS, resolving_power=40_000.0))
    doubled = chain.with_changes(offsets(generator, strength={2: np.log(2)}))
    before, after = (part.line_columns(STAR, all_lines(generator))[0] for part in (chain, doubled))
    pair = [
        chain.with_changes(offsets(generator, strength={2: np.log(2) + sign * 1e-3})).flux(STAR)[0] for sign in (1, -1)
    ]
    expected = (pair[0] - pair[1]) / 2e-3
    got, other = (part.column(np.flatnonzero(part.line == 2)[0], 0, len(expected)) for part in (after, before))
    size = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.02 * size + FAINT)
    assert np.abs(other - expected).max() > 0.1 * size


def test_other_changes_are_the_same_model_otherwise(generator):
    observation = Observation(PIXELS, resolving_power=40_000.0)
    changes = offsets(generator, velocity={5: 1.0})
    chain = ForwardChain(generator, observation, limb_darkening=0.3)
    values = STAR | {"vsini": 20.0}
    expected = ForwardChain(generator, observation, changes=changes, limb_darkening=0.3).flux(values)
    for got, want, plain in zip(chain.with_changes(changes).flux(values), expected, chain.flux(values), strict=True):
        np.testing.assert_array_equal(got, want)
        assert np.nanmax(np.abs(got - plain)) > 1e-3


def test_memory_is_that_of_short_runs():
    """Of a hundred lines on thousands of pixels, each changes some tens of pixels."""
    generator = make_line_generator(100)
    chain = ForwardChain(generator, Observation(np.arange(8502.0, 8620.0, 0.02), resolving_power=80_000.0))
    lines = all_lines(generator)
    chain.line_columns(STAR, lines)  # compiled
    tracemalloc.start()
    (columns,) = chain.line_columns(STAR, lines)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    dense = len(lines) * 5900 * len(KINDS) * 8
    assert len(columns.line) > 95
    assert columns.table.nbytes < dense / 20
    assert peak < dense / 4  # with the spectrum itself


def test_shapes_of_wide_lines_add_up_to_their_depth(generator):
    """Together, the triangles are the derivative by the logarithm of a line's depth."""
    pixels = np.arange(8503.0, 8514.0, 0.05)
    chain = ForwardChain(generator, Observation(pixels))
    (shapes,) = chain.wide_shapes(STAR)
    ratio = 1 + STAR["rv"] / 299_792.458
    labels = [STAR[name] for name in ("teff", "logg", "feh")]
    table = generator.line_table(labels)
    line = table.loc[table["log_amplitude"].idxmax()]
    tau, wing = np.exp([line["log_amplitude"], line["log_amplitude"] + line["log_wing"]])
    depth = 1 / (1 + np.exp(-line["logit_depth"]))
    x = pixels / ratio - line["center"]
    v = tau * np.exp(-0.5 * (x / np.exp(line["log_sigma"])) ** 2) + wing / (1 + (x / np.exp(line["log_gamma"])) ** 2)
    lost = depth * v / (1 + v)
    inside = shapes.any(axis=1)
    # the reach ends where the wing is a hundredth of the continuum deep, and the outermost triangles with it
    assert lost[~inside].max() < 0.011
    np.testing.assert_allclose(shapes.sum(axis=1)[inside], -(lost / (1 - lost))[inside], rtol=1e-9)
    # seventeen triangles, each of which spans an eighth of the reach to either side: two overlap at a pixel
    assert shapes.shape[1] == 17
    assert np.count_nonzero(shapes, axis=1).max() == 2
    assert (shapes <= 0).all()


def test_broadening_and_weakness_leave_no_wide_lines(generator):
    fast = ForwardChain(generator, Observation(PIXELS, resolving_power=5_000.0)).wide_shapes(STAR | {"vsini": 100.0})
    weak = ForwardChain(make_line_generator(12), Observation(PIXELS, resolving_power=40_000.0)).wide_shapes(STAR)
    for shapes in (fast, weak):
        assert [table.shape for table in shapes] == [(len(x), 0) for x in PIXELS]


def test_cores_of_strong_lines_are_deep_over_thirty_kilometres_per_second():
    """The first line has 0.9 v / (1 + v) > 0.3 out to gamma * sqrt(8 / 0.5 - 1); the second is deep, but narrow."""
    wavelength = np.arange(8500.0, 8600.0, 0.01)
    gamma = 0.2
    components = np.array([[8530.0, 8.0, gamma, 0.0, 1.0, 0.9], [8570.0, 8.0, 0.05, 0.0, 1.0, 0.9]])
    broad = 4e-5
    core = cores_of_strong_lines(components, MINNAERT, wavelength, broad)
    half = gamma * np.sqrt(15) + 8530 * broad / 2
    # half widths are found in steps of 5e-6 of the wavelength
    np.testing.assert_allclose(wavelength[core][[0, -1]], [8530 - half, 8530 + half], atol=5e-6 * 8530 + 0.01)
    assert np.ptp(np.flatnonzero(core)) + 1 == core.sum()
