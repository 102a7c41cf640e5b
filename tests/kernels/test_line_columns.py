"""Derivatives of broadened spectra by single lines against differences, and banded normal equations against dense ones.

The broadened spectrum of the differences has every line on every pixel of a fine model, and a dense matrix of Gaussians
integrated over the detector's pixels: no windows, tables or groups.
"""

import numpy as np
import pytest
from scipy.linalg import cholesky_banded
from scipy.special import ndtr

from stellarhml.kernels import forms
from stellarhml.kernels.line_columns import KINDS, add_columns, band_inverse_diagonal, band_products, line_columns

C = 299_792.458  # km/s
SIGMA, STEP, REACH = 2.5e-6, 2e-7, 1.6e-5  # of the broadening, of the model, and where the broadening is cut: 6.4 sigma
X = np.log(10_000.0) + STEP * np.arange(2001)
EDGES = np.log(10_000.0) + 5e-5 + 2e-6 * np.arange(151)
# center, Lorentz peak and half width, Gauss peak and sigma, limiting depth: weak, strong with wings, blended, Lorentz
LINES = np.array(
    [
        [10_000.9, 0.002, 0.05, 0.05, 0.02, 0.8],
        [10_001.7, 0.15, 0.08, 0.6, 0.03, 0.9],
        [10_001.8, 0.02, 0.04, 0.3, 0.03, 0.6],
        [10_002.6, 0.2, 0.05, 0.0, 0.03, 0.7],
    ]
)
FORMS = {"thin": forms.THIN, "exponential": forms.EXPONENTIAL, "minnaert": forms.MINNAERT}


def model(lines, form):
    """The product of all lines on the model's pixels, each form as the equation says."""
    flux = np.ones(len(X))
    for center, lorentz, gamma, gauss, sigma, depth in lines:
        x = np.exp(X) - center
        v = lorentz / (1 + (x / gamma) ** 2) + gauss * np.exp(-((x / sigma) ** 2) / 2)
        flux *= {"thin": 1 - v, "exponential": 1 - depth * (1 - np.exp(-v)), "minnaert": 1 - depth * v / (1 + v)}[form]
    return flux


def observed(flux):
    """Mean over each detector pixel of the model broadened by a Gaussian."""
    share = np.diff(ndtr((EDGES[:, None] - X) / SIGMA), axis=0) / np.diff(EDGES)[:, None]
    return share @ flux * STEP


def changed(line, kind, size):
    """A line with one of its `KINDS` changed by `size`."""
    center, lorentz, gamma, gauss, sigma, depth = line
    if kind == "strength":
        return [center, lorentz * np.exp(size), gamma, gauss * np.exp(size), sigma, depth]
    if kind == "velocity":
        return [center * (1 + size / C), lorentz, gamma, gauss, sigma, depth]
    if kind == "width":
        return [center, lorentz, gamma, gauss, sigma * np.exp(size), depth]
    return [center, lorentz * np.exp(size), gamma, gauss, sigma, depth]


def columns_of(form, lines=LINES, *, first=None, last=None, start=None, stop=None, group=1):
    """Columns of all lines as a table (n_lines, n_pixels, 4); each on the whole model and detector, unless given."""
    n, n_pixels = len(lines), len(EDGES) - 1
    ends = (first, 0), (last, len(X)), (start, 0), (stop, n_pixels)
    first, last, start, stop = (np.full(n, whole) if end is None else np.asarray(end) for end, whole in ends)
    offset = np.concatenate([[0], np.cumsum(stop - start)])
    out = np.full((offset[-1], 4), np.nan)
    at = np.linspace(-REACH, REACH, 4097)
    table, step = ndtr(at / SIGMA), at[1] - at[0]
    flux = model(lines, form)
    line_columns(
        X, flux, lines, first, last, FORMS[form], EDGES, REACH, group, table, step, start, stop, offset[:-1], out
    )
    whole = np.zeros((n, n_pixels, 4))
    for j in range(n):
        whole[j, start[j] : stop[j]] = out[offset[j] : offset[j + 1]]
    return whole


@pytest.mark.parametrize("form", FORMS)
def test_columns_are_differences_of_a_broadened_spectrum(form):
    columns = columns_of(form)
    for j, line in enumerate(LINES):
        for k, kind in enumerate(KINDS):
            h, pair = 1e-3, []
            for sign in (1, -1):
                lines = LINES.copy()
                lines[j] = changed(line, kind, sign * h)
                pair.append(observed(model(lines, form)))
            expected = (pair[0] - pair[1]) / (2 * h)
            # truncation of order h^2, and the table of the broadening, cut at 6.4 sigma
            largest = np.abs(expected).max()
            np.testing.assert_allclose(columns[j, :, k], expected, rtol=0, atol=2e-6 * largest, err_msg=f"{j} {kind}")
            assert (largest > 0) == (line[3] > 0 or kind != "width")


@pytest.mark.parametrize("form", FORMS)
def test_windows_cut_columns_and_change_nothing_inside(form):
    whole = columns_of(form)
    middle = np.searchsorted(X, np.log(LINES[:, 0]))
    pixel = np.searchsorted(EDGES, np.log(LINES[:, 0]))
    start, stop = np.maximum(pixel - 25, 0), np.minimum(pixel + 25, len(EDGES) - 1)
    cut = columns_of(form, start=start, stop=stop)
    for j in range(len(LINES)):
        np.testing.assert_array_equal(cut[j, start[j] : stop[j]], whole[j, start[j] : stop[j]])
        assert not cut[j, : start[j]].any()
        assert not cut[j, stop[j] :].any()
    # a window of the model adds up to the whole with its complement
    parts = [columns_of(form, last=middle), columns_of(form, first=middle)]
    np.testing.assert_allclose(sum(parts), whole, rtol=0, atol=1e-13 * np.abs(whole).max())
    assert all(np.abs(part - whole).max() > 0.1 * np.abs(whole).max() for part in parts)


@pytest.mark.parametrize("form", FORMS)
def test_groups_of_pixels_are_broadened_as_one(form):
    """A group of 0.4 sigma adds (0.4 sigma)^2 / 12 to the variance: 0.7 % of the width, and of a derivative."""
    whole, grouped = columns_of(form), columns_of(form, group=int(0.4 * SIGMA / STEP))
    error = np.abs(grouped - whole).max(axis=1) / np.maximum(np.abs(whole).max(axis=1), 1e-300)
    assert 0 < error.max() < 0.01


def test_the_thin_form_is_finite_where_it_is_clamped():
    lines = LINES.copy()
    lines[1, [1, 3]] = 1.0
    assert np.isfinite(columns_of("thin", lines)).all()


@pytest.fixture(params=[0, 1, 2])
def problem(request):
    """Columns of lines in the order of their pixels, dense ones, weights, and the matrix of all columns."""
    rng = np.random.default_rng(request.param)
    n_lines, n_pixels, n_unknowns = 9, 80, 40
    line_start = np.sort(rng.integers(0, 70, n_lines))
    line_stop = np.minimum(line_start + rng.integers(1, 25, n_lines), n_pixels)
    offsets = np.concatenate([[0], np.cumsum(line_stop - line_start)])
    table = rng.normal(size=(offsets[-1], 4))
    # some kinds of some lines are unknowns, with numbers among those of other orders
    line, kind = np.nonzero(rng.random((n_lines, 4)) < 0.7)
    unknown = np.sort(rng.choice(n_unknowns, len(line), replace=False))
    weight = rng.uniform(0.5, 2, n_pixels) * (rng.random(n_pixels) > 0.1)
    whole = np.zeros((n_pixels, n_unknowns))
    for number, j, k in zip(unknown, line, kind, strict=True):
        own = slice(line_start[j], line_stop[j])
        whole[own, number] = table[offsets[j] : offsets[j + 1], k] * weight[own]
    order = unknown, line_start[line], line_stop[line], offsets[line], table, kind
    return order, weight, rng.normal(size=(n_pixels, 3)), whole


def to_dense(band):
    """Symmetric matrix of its lower bands (n_bands, n)."""
    n_bands, n = band.shape
    matrix = np.zeros((n, n))
    for k in range(min(n_bands, n)):
        matrix[np.arange(k, n), np.arange(n - k)] = band[k, : n - k]
    return matrix + np.tril(matrix, -1).T


@pytest.mark.parametrize("n_bands", [40, 12, 1])
def test_products_are_those_of_dense_matrices(problem, n_bands):
    order, weight, dense, whole = problem
    unknown = order[0]
    band, border = np.zeros((n_bands, whole.shape[1])), np.zeros((len(unknown), dense.shape[1]))
    for _ in range(2):  # they are added
        band_products(*order, weight, dense, band, border)
    expected = 2 * whole.T @ whole
    inside = np.abs(np.subtract.outer(*[np.arange(whole.shape[1])] * 2)) < n_bands
    np.testing.assert_allclose(to_dense(band), expected * inside, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(border, 2 * whole[:, unknown].T @ dense, rtol=1e-12, atol=1e-12)


def test_sums_are_products_with_the_matrix(problem):
    order, weight, dense, whole = problem
    change = np.random.default_rng(9).normal(size=(whole.shape[1], 3))
    out = dense.copy()
    add_columns(*order, weight, change, out)
    np.testing.assert_allclose(out, dense + whole @ change, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "n_bands"), [(30, 6), (30, 1), (30, 30), (4, 9), (1, 1), (0, 3)])
def test_diagonal_of_the_inverse_is_that_of_numpy(n, n_bands):
    rng = np.random.default_rng(n_bands)
    band = rng.normal(size=(n_bands, n))
    band[0] = 2 * n_bands + rng.random(n)
    found = band_inverse_diagonal(cholesky_banded(band, lower=True)) if n else band_inverse_diagonal(band)
    np.testing.assert_allclose(found, np.diag(np.linalg.inv(to_dense(band))), rtol=1e-10)
