"""Changes of a grid's lines by abundances, microturbulence and damping, as parameters of the forward model."""

import copy

import numpy as np
import pytest
from mock_line_grid import make_line_generator, tag_in_turn

from stellarhml import SpectrumGenerator
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.forward.stages import Parameter
from stellarhml.kernels.line_columns import KINDS
from stellarhml.kernels.rendering import line_equivalent_widths
from stellarhml.synthesis.line_changes import LineChanges

SPECIES = ["Fe I", "CN", "C2", "Si I"]
STAR = {"teff": 5400.0, "logg": 4.1, "feh": -0.2, "rv": 5.0, "vsini": 4.0}
LABELS = [5400.0, 4.1, -0.2]
PIXELS = np.arange(8502.0, 8516.0, 0.05)
C = 299_792.458  # km/s


@pytest.fixture(scope="module")
def bare():
    """Twelve lines without species."""
    return make_line_generator(12, strongest=2.5)


@pytest.fixture(scope="module")
def generator(bare):
    """The same lines, of four species in turn."""
    return tag_in_turn(copy.copy(bare), SPECIES)


def chain_of(generator, **settings):
    changes = LineChanges(generator, **settings)
    return ForwardChain(generator, Observation(PIXELS, resolving_power=60_000.0), changes=changes)


def lines_of(generator, changes=None, **values):
    """Parameters of the lines (n_lines, 6) at the labels, with changes."""
    change = None if changes is None else lambda *lines: changes.apply(*lines, values)
    weights = generator.interpolator_.locate(np.array([LABELS]))[0]
    _, theta, _ = generator.lines_.lines(weights, change=change)
    return theta


def of_species(*names):
    return np.isin(np.array(SPECIES)[np.arange(12) % 4], names)


EVERYTHING = {"elements": ("Si", "C", "N"), "molecules": ("CN",), "microturbulence": True, "damping": True}
CHANGED = {"[Si/Fe]": 0.3, "[C/Fe]": -0.2, "[N/Fe]": 0.1, "CN strength": 0.15, "vmic": 1.4, "damping": 0.2}


def test_tangents_of_the_chain_are_differences(generator):
    chain = chain_of(generator, **EVERYTHING)
    values = STAR | CHANGED
    (rows,) = chain.evaluate(values)
    np.testing.assert_allclose(rows.flux, chain.flux(values)[0], rtol=0, atol=1e-12)
    steps = {"teff": 0.5, "logg": 2e-3, "feh": 2e-3, "rv": 0.05, "vsini": 0.05} | dict.fromkeys(CHANGED, 1e-3)
    assert set(rows.tangents) == {*steps, "ln_resolving_power"}
    for name, step in steps.items():
        high, low = (chain.flux(values | {name: values[name] + sign * step})[0] for sign in (1, -1))
        expected = (high - low) / (2 * step)
        # windows of lines end where their effect is 1e-6: a step moves them by pixels, and fluxes by some of that
        limit = 2e-3 * np.abs(expected).max() + 2e-6 / step
        np.testing.assert_allclose(rows.tangents[name], expected, rtol=0, atol=limit, err_msg=name)
        assert np.abs(expected).max() > 3 * limit


def test_at_the_reference_nothing_changes(generator):
    plain = ForwardChain(generator, Observation(PIXELS, resolving_power=60_000.0)).flux(STAR)[0]
    for reference in (0.0, 1.0, 1.7):
        chain = chain_of(generator, **EVERYTHING, reference=reference)
        neutral = dict.fromkeys(CHANGED, 0.0) | {"vmic": reference}
        np.testing.assert_allclose(chain.flux(STAR | neutral)[0], plain, rtol=0, atol=1e-12)
        assert np.abs(chain.flux(STAR | neutral | {"vmic": reference + 1})[0] - plain).max() > 1e-3


def test_an_abundance_scales_the_lines_of_its_element(generator):
    before = lines_of(generator)
    after = lines_of(generator, LineChanges(generator, elements=("Si",)), **{"[Si/Fe]": 0.25})
    change = np.zeros_like(before)
    change[of_species("Si I"), 1] = 0.25 * np.log(10)
    np.testing.assert_allclose(after - before, change, rtol=0, atol=1e-12)


def test_molecules_count_for_all_of_their_atoms(generator):
    """CN for carbon and for nitrogen, C2 twice for carbon; the molecule's own factor for itself alone."""
    changes = LineChanges(generator, elements=("C", "N"), molecules=("CN", "C2"))
    before = lines_of(generator)
    for name, expected in {
        "[C/Fe]": {"CN": 1, "C2": 2},
        "[N/Fe]": {"CN": 1},
        "CN strength": {"CN": 1},
        "C2 strength": {"C2": 1},
    }.items():
        values = dict.fromkeys(changes.names, 0.0) | {name: 0.1}
        moved = (lines_of(generator, changes, **values) - before)[:, 1] / (0.1 * np.log(10))
        want = np.array([expected.get(SPECIES[j % 4], 0) for j in range(12)])
        np.testing.assert_allclose(moved, want, rtol=0, atol=1e-9, err_msg=name)


def test_a_blend_counts_by_its_shares(generator):
    blend = copy.copy(generator)
    shares = generator.tags_.shares.tolil()
    silicon, iron = (generator.tags_.species.index(name) for name in ("Si I", "Fe I"))
    shares[3, silicon], shares[3, iron] = 0.3, 0.7
    shares[7] = 0.0  # a line without a species
    blend.tags_ = generator.tags_._replace(shares=shares.tocsr())
    after = lines_of(blend, LineChanges(blend, elements=("Si",)), **{"[Si/Fe]": 1.0})
    change = (after - lines_of(blend))[:, 1] / np.log(10)
    np.testing.assert_allclose(change[[3, 7, 11]], [0.3, 0.0, 1.0], rtol=0, atol=1e-9)


def test_microturbulence_widens_cores_and_holds_the_strength_of_weak_lines(generator):
    before, names = lines_of(generator), generator.decomposer_.line_parameters
    wing = names.index("log_wing")
    for vmic in (0.5, 1.0, 2.5):
        after = lines_of(generator, LineChanges(generator, microturbulence=True), vmic=vmic)
        # Doppler widths b = sqrt(2) sigma add in quadrature
        squared = [2 * (np.exp(theta[:, 2]) / theta[:, 0] * C) ** 2 for theta in (before, after)]
        np.testing.assert_allclose(squared[1] - squared[0], vmic**2 - 1, rtol=0, atol=1e-6)
        strength, width = (after - before)[:, 1:3].T
        # the integral over the core holds up to kappa, which is at most 0.2
        assert np.all(np.abs(strength + width) <= 0.2 * np.abs(width))
        np.testing.assert_allclose((after - before)[:, wing], width, rtol=1e-9)
        assert not (after - before)[:, [0, 3, 4]].any()


def test_microturbulence_strengthens_saturated_lines(generator):
    """The curve of growth: more equivalent width on the flat part, hardly any more on the linear part."""
    before = lines_of(generator)
    after = lines_of(generator, LineChanges(generator, microturbulence=True), vmic=2.0)
    profile = generator.decomposer_.profile
    grown = line_equivalent_widths(after, profile) / line_equivalent_widths(before, profile) - 1
    tau = np.exp(before[:, 1])
    weak, saturated = tau < 0.15, (tau > 0.6) & (tau < 3)
    assert weak.sum() > 1
    assert saturated.sum() > 1
    assert np.all(grown > 0)
    assert grown[weak].max() < 0.5 * grown[saturated].min()


def test_a_width_has_a_floor(generator):
    """Without microturbulence no line of a grid gets narrower than a third of its width, also where it should."""
    before = lines_of(generator)
    after = lines_of(generator, LineChanges(generator, microturbulence=True, reference=5.0), vmic=0.0)
    np.testing.assert_allclose(np.exp(after[:, 2] - before[:, 2]), np.sqrt(0.1), rtol=1e-9)
    assert np.isfinite(after).all()


def test_damping_multiplies_wings_alone(generator):
    change = lines_of(generator, LineChanges(generator, damping=True), damping=0.2) - lines_of(generator)
    wing = generator.decomposer_.line_parameters.index("log_wing")
    np.testing.assert_allclose(change[:, wing], 0.2 * np.log(10), rtol=1e-9)
    np.testing.assert_array_equal(np.delete(change, wing, axis=1), 0.0)


def test_offsets_belong_to_single_lines(generator):
    offsets = {kind: np.zeros(12) for kind in KINDS}
    for kind, line, size in (("velocity", 2, 3.0), ("strength", 3, -0.4), ("width", 4, 0.1), ("wing", 5, 0.7)):
        offsets[kind][line] = size
    plain = LineChanges(generator, damping=True)
    changes = plain.with_offsets(offsets)
    assert plain.offsets is None
    assert changes.names == plain.names
    before, after = lines_of(generator), lines_of(generator, changes, damping=0.0)
    expected = before.copy()
    expected[2, 0] *= 1 + 3.0 / C
    expected[3, 1] -= 0.4
    expected[4, 2] += 0.1
    expected[5, generator.decomposer_.line_parameters.index("log_wing")] += 0.7
    np.testing.assert_allclose(after, expected, rtol=1e-12)


def test_names_bounds_and_priors(bare, generator):
    changes = LineChanges(generator, **EVERYTHING, reference=1.3)
    assert changes.names == tuple(CHANGED)
    by_name = {parameter.name: parameter for parameter in changes.parameters}
    assert all(isinstance(parameter, Parameter) and parameter.description for parameter in by_name.values())
    for name, parameter in by_name.items():
        low, high = parameter.bounds
        mean, std = parameter.prior
        assert low <= parameter.start == mean <= high
        assert low <= mean - std
        assert mean + std <= high
        assert parameter.unit == ("km/s" if name == "vmic" else "dex")
    assert by_name["vmic"].start == 1.3
    assert by_name["vmic"].bounds[0] == 0
    assert by_name["vmic"].physical_floor
    assert by_name["[Si/Fe]"].prior == (0.0, 0.1)
    assert LineChanges(bare).parameters == ()
    # microturbulence and damping need no species
    assert LineChanges(bare, microturbulence=True, damping=True).names == ("vmic", "damping")
    names = [parameter.name for parameter in chain_of(generator, **EVERYTHING).parameters]
    assert names == ["teff", "logg", "feh", *CHANGED, "rv", "vsini"]


def test_a_label_of_the_same_name_is_a_conflict():
    """A grid in microturbulence has its own; a second one would be ambiguous."""
    wavelength = 8500 + 0.02 * np.arange(300)
    labels = np.array([[t, v] for t in (5000.0, 6000.0) for v in (1.0, 2.0)])
    depth = 0.3 + labels[:, :1] / 1e5 + 0.1 * labels[:, 1:]
    flux = 1 - depth * np.exp(-0.5 * ((wavelength - 8503) / 0.06) ** 2)
    generator = SpectrumGenerator(wavelength=wavelength, label_names=("teff", "vmic")).fit(labels, flux)
    with pytest.raises(ValueError, match="each name may occur once"):
        ForwardChain(generator, Observation(wavelength[50:250]), changes=LineChanges(generator, microturbulence=True))
    chain = ForwardChain(generator, Observation(wavelength[50:250]), changes=LineChanges(generator, damping=True))
    assert [parameter.name for parameter in chain.parameters] == ["teff", "vmic", "damping", "rv", "vsini"]
