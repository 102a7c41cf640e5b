"""A generator from a folder of state dictionaries of blase."""

import itertools

import numpy as np
import pytest
import torch

from stellarhml import LineManifoldInterpolator, SpectrumGenerator, VoigtLineDecomposer
from stellarhml.exceptions import (
    BlaseStateError,
    GridNotFoundError,
    GridWarning,
    LabelsOutsideGridError,
    LineDetectionWarning,
)
from stellarhml.grids.blase_states import state_name, write_state_dict
from stellarhml.kernels.rendering import render_lines
from stellarhml.synthesis.decomposed_grid import FittedParts, fit_interpolator
from stellarhml.synthesis.evaluation import TOLERANCE, LineModel

LAM = 8500 + 0.05 * np.arange(400)
AXES = ((5000, 5100), (4.0, 4.5), (-0.5, 0.0))
PIXELS = np.array([60, 130, 140, 300])
KEYS = ("lam_centers", "amplitudes", "sigma_widths", "gamma_widths")


def lines_at(teff, logg, feh):
    """Lines whose parameters are linear in the labels, shape (4, 4), around given pixels."""
    heat, gravity = (teff - 5000) / 100, logg - 4
    return np.stack(
        [
            LAM[PIXELS] + 0.005 + 0.01 * heat,  # off the pixel: windows of whole pixels must not hang on rounding
            np.array([-2.0, -3.0, -2.5, -4.0]) + 0.3 * feh - 0.2 * heat,
            np.full(4, -2.5) + 0.1 * gravity,
            np.array([-3.0, -3.5, -2.8, -3.2]) + 0.2 * gravity,
        ],
        axis=1,
    )


@pytest.fixture
def archive(tmp_path):
    for labels in itertools.product(*AXES):
        state = dict(zip(KEYS, lines_at(*labels).T, strict=True))
        write_state_dict(tmp_path / state_name(*labels), {**state, "pre_line_centers": LAM[PIXELS]})
    return tmp_path


@pytest.mark.parametrize("wing_cut", [100, 6000])
@pytest.mark.parametrize("labels", [(5000.0, 4.0, -0.5), (5100.0, 4.5, 0.0), (5030.0, 4.1, -0.2)])
def test_flux_is_that_of_the_lines(archive, labels, wing_cut):
    interpolator = LineManifoldInterpolator(variables={})
    generator = SpectrumGenerator.from_blase_archive(
        archive, wavelength=LAM, wing_cut=wing_cut, interpolator=interpolator
    )
    # in the labels as they are, linear parameters are interpolated exactly, so lines between the nodes are known too
    options = {"profile": "blase", "wing_cut": wing_cut}
    got = generator.predict([labels])[0]
    # parameters are kept in single precision about their mean, from which they are at most 0.5: good to 3e-8
    want = render_lines(LAM, lines_at(*labels), tolerance=TOLERANCE, **options)
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-8)
    np.testing.assert_allclose(got, render_lines(LAM, lines_at(*labels), **options), rtol=0, atol=TOLERANCE)
    table = generator.line_table(labels)
    np.testing.assert_allclose(table[list(table.columns[:4])], lines_at(*labels), rtol=0, atol=3e-8)
    np.testing.assert_allclose(table.index, LAM[PIXELS], rtol=1e-15)


def test_the_generator_knows_its_grid(archive):
    generator = SpectrumGenerator.from_blase_archive(str(archive), wavelength=LAM)
    assert generator.label_names_ == ("teff", "logg", "feh")
    np.testing.assert_array_equal(generator.interpolator_.nodes_, list(itertools.product(*AXES)))
    np.testing.assert_array_equal(generator.wavelength_, LAM)
    assert generator.residual_ is None
    with pytest.raises(LabelsOutsideGridError, match="teff 5000 to 5100"):
        generator.predict([[5200.0, 4.0, 0.0]])


def test_lines_of_some_nodes_only_follow_the_rule_for_absent_ones(archive):
    missing = archive / state_name(5100, 4.0, 0.0)
    lines = lines_at(5100, 4.0, 0.0)[[0, 1, 3]]
    write_state_dict(missing, {**dict(zip(KEYS, lines.T, strict=True)), "pre_line_centers": LAM[PIXELS[[0, 1, 3]]]})
    interpolator = LineManifoldInterpolator(method="linear", absent="vanish")
    vanish = SpectrumGenerator.from_blase_archive(archive, wavelength=LAM, interpolator=interpolator)
    fade = SpectrumGenerator.from_blase_archive(archive, wavelength=LAM)
    labels = np.array([[5080.0, 4.1, -0.1]])
    assert len(vanish.line_table(labels[0])) == 3
    assert len(fade.line_table(labels[0])) == 4
    assert len(fade.line_table([5100.0, 4.0, 0.0])) == 3
    np.testing.assert_allclose(
        vanish.predict(labels)[0],
        render_lines(LAM, lines_at(*labels[0])[[0, 1, 3]], profile="blase", wing_cut=6000),
        rtol=0,
        atol=TOLERANCE,
    )


def test_states_without_the_first_centers_are_known_by_their_fitted_ones(archive):
    for labels in itertools.product(*AXES):
        write_state_dict(archive / state_name(*labels), dict(zip(KEYS, lines_at(*labels).T, strict=True)))
    generator = SpectrumGenerator.from_blase_archive(archive, wavelength=LAM)
    # 0.015 angstrom off the pixel is nearest to the same pixel
    np.testing.assert_allclose(generator.decomposer_.line_catalog_, LAM[PIXELS], rtol=1e-15)


def test_damaged_lines_are_left_out_with_a_count(archive):
    lines = lines_at(5000, 4.0, 0.0)
    lines[1, 2] = np.nan
    path = archive / state_name(5000, 4.0, 0.0)
    write_state_dict(path, {**dict(zip(KEYS, lines.T, strict=True)), "pre_line_centers": LAM[[60, 130, 140, 140]]})
    with pytest.warns(LineDetectionWarning, match="2 lines of the archive were left out"):
        generator = SpectrumGenerator.from_blase_archive(archive, wavelength=LAM)
    assert len(generator.line_table([5000.0, 4.0, 0.0])) == 2


def test_a_missing_key_is_named(archive):
    path = archive / state_name(5100, 4.5, 0.0)
    torch.save({key: torch.zeros(3) for key in KEYS if key != "gamma_widths"}, path)
    with pytest.raises(BlaseStateError, match=r"T5100G4\.5Z0\.0\.pt lacks gamma_widths"):
        SpectrumGenerator.from_blase_archive(archive, wavelength=LAM)


def test_a_folder_without_states_is_refused(tmp_path):
    (tmp_path / "notes.pt").touch()
    with pytest.raises(GridNotFoundError, match=r"holds no file named like T4700G4\.5Z-0\.5\.pt"):
        SpectrumGenerator.from_blase_archive(tmp_path, wavelength=LAM)
    with pytest.raises(GridNotFoundError, match="is not a folder"):
        SpectrumGenerator.from_blase_archive(tmp_path / "nowhere", wavelength=LAM)


def test_unsorted_wavelengths_are_refused(archive):
    with pytest.raises(ValueError, match="increase strictly"):
        SpectrumGenerator.from_blase_archive(archive, wavelength=LAM[::-1])


@pytest.mark.parametrize("missing", [False, True])
def test_an_archive_is_the_lines_that_were_written(archive, missing):
    labels = np.array(list(itertools.product(*AXES)))
    theta = np.array([lines_at(*row) for row in labels])
    if missing:
        theta[3, 1] = np.nan
        kept = [0, 2, 3]
        state = dict(zip(KEYS, theta[3, kept].T, strict=True))
        write_state_dict(archive / state_name(*labels[3]), {**state, "pre_line_centers": LAM[PIXELS[kept]]})
    read = SpectrumGenerator.from_blase_archive(archive, wavelength=LAM)
    decomposer = VoigtLineDecomposer.from_catalog(
        LAM, PIXELS, profile="blase", solver="adam", wing_cut=6000, match_tolerance=0
    )
    names = ("teff", "logg", "feh")
    interpolator = fit_interpolator(None, labels, theta.reshape(len(theta), -1), decomposer.line_parameters, names)
    lines = LineModel(interpolator, LAM, profile="blase", wing_cut=6000)
    direct = SpectrumGenerator.from_parts(FittedParts(names, None, decomposer, interpolator, lines), wavelength=LAM)
    x = np.array([[5030.0, 4.1, -0.2], [5000.0, 4.5, -0.5], [5099.0, 4.01, -0.01]])
    for options in ({}, {"pixels": slice(50, 200)}, {"rv": 12.0}):
        np.testing.assert_array_equal(read.predict(x, **options), direct.predict(x, **options))
        np.testing.assert_array_equal(read.jacobian(x, **options), direct.jacobian(x, **options))
    for row in x:
        assert read.line_table(row).equals(direct.line_table(row))


def test_an_archive_knows_no_error(archive):
    generator = SpectrumGenerator.from_blase_archive(archive, wavelength=LAM)
    assert generator.error_map_ is None
    assert generator.expected_error([5030.0, 4.1, -0.2]) is None
    with pytest.raises(ValueError, match="built from lines without spectra"):
        generator.predict([[5030.0, 4.1, -0.2]], return_std=True)


def test_a_copied_state_names_both_nodes(archive):
    (archive / state_name(5000, 4.0, 0.0)).write_bytes((archive / state_name(5100, 4.5, 0.0)).read_bytes())
    text = r"exactly the same spectrum: \(teff 5000, logg 4, feh 0\) and \(teff 5100, logg 4\.5, feh 0\)"
    with pytest.warns(GridWarning, match=text):
        SpectrumGenerator.from_blase_archive(archive, wavelength=LAM)
