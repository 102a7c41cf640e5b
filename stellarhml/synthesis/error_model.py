r"""ErrorModel: the error of a generator, measured on held-out nodes; and LabelShifts, the same error in label space.

Each node that can be predicted from its neighbours gives an error spectrum :math:`e_s`. A factor :math:`\kappa_s`
scales it from the gap, twice the spacing of the nodes, to a single cell, see
:meth:`stellarhml.LineManifoldInterpolator.error_samples`. Errors along different labels add in quadrature, together
with the compression error at the nodes, :math:`e_k`:

.. math:: \sigma^2(p, x) = g(x) \Big[\langle e_k^2(p)\rangle_k + \sum_a \langle\kappa_s^2 e_s^2(p)\rangle_{s \in a}\Big]

with pixels p, labels a, and g the same sum over all pixels at the nodes around x, relative to its mean over the grid.
Where missing nodes are predicted along label a, with weights that add up to :math:`s_a`, their errors :math:`e_s` enter
unscaled: :math:`\kappa_s^2` becomes :math:`\kappa_s^2 + s_a^2`.

An error spectrum :math:`e_s` does not look like noise, but like the difference to a slightly different star, or to
slightly shifted or broadened lines. In each window of pixels it is therefore written as

.. math:: e_s(p) \approx \sum_k \frac{\partial S}{\partial \theta_k}(p)\, \delta_{sk} + a + b p

over the labels, the logarithm of the wavelength and the variance of a broadening. The shifts :math:`\delta` are stored:
a few numbers that give the error of a result for any choice of pixels.
"""

import copy
from functools import partial

import numpy as np
import pandas as pd

from stellarhml._parallel import map_stored
from stellarhml._state import Sizes, StateError, check_keys, take, take_array, take_list
from stellarhml.manifold.leave_one_out import JUMP_SCALE
from stellarhml.storage.result_store import digest
from stellarhml.synthesis.evaluation import split_rows

MEASURE_VERSION = 1
"""Version of the measurement, to be increased when results change: stored ones of older versions are not reused."""

_WINDOW = 4096  # pixels, a divisor of `grid_learning._WINDOW`
_RIDGE = 1e-4  # of unit directions: degenerate directions in a window share the error
_NEAR = 1.5  # node spacings: width of the Gaussian weights of nearby samples
_SERIES = 0.26  # see `_scale`
_MAX_NODES = 512


class LabelShifts:
    """Errors of a generator as shifts of the inferred labels.

    Parameters
    ----------
    edges : ndarray of shape (n_windows + 1,)
        Edges of the windows in pixels.
    values : ndarray of shape (n_samples, n_windows, n_names), float32
        Shifts of `names`, scaled to the error within a cell.
    names : tuple of str
        Names of the labels, then "ln_wavelength" (shift of all lines) and "line_variance" (of a broadening, in ln
        wavelength).
    labels : ndarray of shape (n_samples, n_labels)
        Labels of the samples.
    axis : ndarray of shape (n_samples,), int
        Label along which the node was predicted; -1 for all, -2 for the compression error at a node.
    steps : ndarray of shape (n_labels,)
        Spacing of the nodes.
    across : ndarray of shape (n_samples,), bool
        Whether a jump of the grid lies between the nodes of the prediction.
    broken : list of ndarray of shape (n_cells, 2)
        Lowest and highest value of the cells of each label in which the grid jumps.
    scale : ndarray of shape (n_samples,)
        Factors by which the values were scaled.
    interpolator : LineManifoldInterpolator
        Gives the weights of missing nodes, near which errors are larger.
    """

    def __init__(self, edges, values, names, labels, axis, steps, across, broken, scale, interpolator):
        self.edges, self.values, self.names = edges, values, names
        self.labels, self.axis, self.steps = labels, axis, steps
        self.across, self.broken = across, broken
        self.scale, self.interpolator = scale, interpolator

    @classmethod
    def learn(
        cls, grid, residual, samples, interpolator, wavelength, labels, *, n_jobs, verbose, store=None, settings=""
    ):
        """Measure the shifts on the held-out nodes of a grid.

        `grid`, `residual`, `samples`, `store` and `settings` as in `ErrorModel.learn`; `wavelength` (n_pixels,)
        [angstrom]; `labels` (n_rows, n_labels) of the rows of the grid.
        """
        rows = np.unique(np.linspace(0, len(labels) - 1, min(_MAX_NODES, len(labels))).round().astype(int))
        places = np.concatenate([samples.labels, labels[rows]])
        located = interpolator.locate(places, derivatives=True)
        task = partial(_project, grid, residual, samples, rows, located, wavelength)
        if store is not None:
            weights, _, slopes = located
            settings = digest(settings, [csr_arrays(table) for table in (weights, *slopes)])
        options = {"n_jobs": n_jobs, "verbose": verbose, "description": "Projecting the error"}
        parts = _map_windows(task, grid, store=store, settings=settings, **options)
        edges, values, squares = zip(*parts, strict=True)
        edges = np.concatenate([[0], *edges])
        scale = np.concatenate([_scale(samples, sum(squares)), np.ones(len(rows))])
        values = np.concatenate(values, axis=1) * scale[:, None, None]
        steps = interpolator.spacings_
        axis = np.concatenate([samples.axis, np.full(len(rows), -2)])
        # diverged line fits have no finite shift
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        across = np.concatenate([samples.scale == JUMP_SCALE, np.zeros(len(rows), dtype=bool)])
        broken = _broken_cells(labels, interpolator)
        names = shift_names(interpolator.label_names)
        return cls(edges, values, names, places, axis, steps, across, broken, scale, interpolator)

    def with_interpolator(self, interpolator):
        """The same shifts with another interpolator, a shallow copy."""
        shifts = copy.copy(self)
        shifts.interpolator = interpolator
        return shifts

    def to_state(self) -> dict:
        """State for a file: the arguments of the constructor except the interpolator, which the generator has."""
        state = {name: value for name, value in vars(self).items() if name != "interpolator"}
        return {**state, "names": list(self.names), "broken": list(self.broken)}

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state, without an interpolator: see `with_interpolator`. StateError if it is invalid."""
        check_keys(state, ("edges", "values", "names", "labels", "axis", "steps", "across", "broken", "scale"))
        names = take_list(state, "names", str, distinct=True)
        n_labels = len(names) - len(shift_names(()))
        if n_labels < 1 or tuple(names) != shift_names(names[:n_labels]):
            raise StateError(f"`names` is {names}; it must be labels and then {list(shift_names(()))}.")
        sizes, samples = Sizes(n_labels=n_labels), ("n_samples",)
        values = take_array(state, "values", dtype="f4", shape=("n_samples", None, len(names)), sizes=sizes)
        edges = take_edges(state, "edges", None)
        if len(edges) != values.shape[1] + 1:
            raise StateError(f"There are {len(edges)} `edges` of {values.shape[1]} windows; there must be one more.")
        labels = take_array(state, "labels", dtype="f8", shape=("n_samples", "n_labels"), sizes=sizes)
        axis = take_array(state, "axis", dtype="i8", shape=samples, sizes=sizes, low=-2, high=n_labels - 1)
        steps = take_array(state, "steps", dtype="f8", shape=("n_labels",), sizes=sizes, low=1e-300)
        across = take_array(state, "across", dtype="b1", shape=samples, sizes=sizes)
        scale = take_array(state, "scale", dtype="f8", shape=samples, sizes=sizes, low=0)
        cells = {f"broken[{k}]": part for k, part in enumerate(take_list(state, "broken", np.ndarray, length=n_labels))}
        broken = [take_array(cells, key, dtype="f8", shape=(None, 2)) for key in cells]
        return cls(edges, values, tuple(names), labels, axis, steps, across, broken, scale, None)

    def near(self, labels):
        """Shifts expected at `labels` (n_labels,), shape (n_samples, n_windows, n_names).

        They are weighted by the distance of the samples, so that their sum of squares is the expected variance; larger
        near missing nodes.
        """
        apart = (((self.labels - labels) / (_NEAR * self.steps)) ** 2).sum(axis=1)
        weight = np.zeros(len(apart))
        for axis in np.unique(self.axis):
            chosen = self.axis == axis
            if axis >= 0:
                # errors of predictions across a jump hold for the cells with the jump only
                low, high = self.broken[axis].T
                jumps = bool(((labels[axis] > low) & (labels[axis] < high)).any())
                same = chosen & (self.across == jumps)
                chosen = same if same.any() else chosen
            near = np.exp(-0.5 * (apart[chosen] - apart[chosen].min()))
            weight[chosen] = near / near.sum()
        filled = self.interpolator.fill_weights(labels[None])[0]
        held_out = (self.axis >= 0) & (self.scale > 0)
        weight[held_out] *= 1 + (filled[self.axis[held_out]] / self.scale[held_out]) ** 2
        return np.sqrt(weight)[:, None, None] * self.values


def take_edges(state, key, n_pixels):
    """Take edges of windows from a state: int64, from 0 to `n_pixels` (None: any), strictly increasing."""
    edges = take_array(state, key, dtype="i8", shape=(None,), low=0, high=n_pixels, increasing="strictly")
    if not len(edges) or edges[0] != 0 or (n_pixels is not None and edges[-1] != n_pixels):
        raise StateError(f"`{key}` has {len(edges)} values; they must go from 0 to the number of pixels.")
    return edges


def shift_names(label_names):
    """Names of the last axis of `LabelShifts.values`."""
    return (*label_names, "ln_wavelength", "line_variance")


def _broken_cells(labels, interpolator):
    """Cells of each label in which the grid jumps, a list of arrays of shape (n_cells, 2)."""
    cells = []
    for column, name in zip(labels.T, interpolator.label_names, strict=True):
        axis = np.unique(column)
        jumps = np.asarray((interpolator.breaks or {}).get(name, []), dtype=np.float64)
        right = np.clip(np.searchsorted(axis, jumps), 1, max(len(axis) - 1, 1))
        cells.append(np.stack([axis[right - 1], axis[np.minimum(right, len(axis) - 1)]], axis=1))
    return cells


def _project(grid, residual, samples, rows, located, wavelength, pixels):
    """For some pixels of the grid: edges of their windows, shifts, and sums of squares of errors and slopes."""
    pixels = slice(*pixels)
    flux = grid.flux[:, pixels]
    weights, _, slopes = located
    edges = np.unique(np.append(np.arange(pixels.start + _WINDOW, pixels.stop, _WINDOW), pixels.stop))
    shifts = np.empty((weights.shape[0], len(edges), len(slopes) + 2))
    squares = np.zeros((len(samples.labels), 1 + len(slopes)))
    guesses, targets = split_rows(samples.weights), split_rows(samples.targets)
    x = np.log(np.maximum(wavelength[pixels], 1e-3))
    for i, (row, *change) in enumerate(zip(split_rows(weights), *map(split_rows, slopes), strict=True)):
        held_out = i < len(guesses)
        model, derivatives = grid.lines.render_jacobian(row, change, pixels, 0.0)
        guess = grid.lines.render(guesses[i], pixels) if held_out else model
        error = guess - _few_rows(targets[i], flux)[0] if held_out else guess - flux[rows[i - len(guesses)]]
        directions = np.empty((len(slopes) + 4, len(x)))
        directions[: len(slopes)] = derivatives
        if residual is not None:
            error = error + residual.at(guesses[i] if held_out else row, pixels)[0]
            model = model + residual.at(row, pixels)[0]
            for k, slope in enumerate(change):
                directions[k] += residual.at(slope, pixels, slopes=True)[0]
        first = np.gradient(model, x) if len(x) > 1 else np.zeros(1)
        directions[-4] = -first
        directions[-3] = 0.5 * np.gradient(first, x) if len(x) > 1 else 0.0
        directions[-2], directions[-1] = 1.0, np.linspace(-1, 1, len(x))
        if held_out:
            squares[i, 0] += error @ error
            squares[i, 1:] += (directions[: len(slopes)] ** 2).sum(axis=1)
        for j, (start, stop) in enumerate(zip([pixels.start, *edges[:-1]], edges, strict=True)):
            part = slice(start - pixels.start, stop - pixels.start)
            shifts[i, j] = _solve(directions[:, part], error[part])[:-2]
    return edges, shifts, squares


def _solve(directions, error):
    """Coefficients of the directions that explain an error, by ridge regression."""
    size = np.linalg.norm(directions, axis=1)
    unit = directions / np.where(size > 0, size, 1.0)[:, None]
    normal = unit @ unit.T + _RIDGE * np.eye(len(unit))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, np.linalg.solve(normal, unit @ error) / size, 0.0)


def _scale(samples, squares):
    r"""Factor from a held-out error to that within a cell.

    On a label with three values, the held-out node is predicted by a line through the other two, whereas the grid is
    interpolated by a parabola through three. For :math:`f = e^{kx}`, the error of the line is :math:`k^2 h^2 / 2` and
    that of the parabola at most :math:`0.064\, k^3 h^3`: a ratio of :math:`0.26 \rho`, where :math:`\rho = k h / 2` is
    the error of the line over half of the change between the two nodes. The smooth part of the error, which shifts
    labels, follows this; its noise does not.
    """
    scale = samples.scale.copy()
    for i in np.flatnonzero(np.isfinite(samples.reach)):
        change = np.sqrt(squares[i, 1 + samples.axis[i]]) * samples.reach[i]
        ratio = np.sqrt(squares[i, 0]) / change if change > 0 else np.inf
        scale[i] = min(scale[i], _SERIES * ratio)
    return scale


_MAX_SAMPLES = 512
_SPECTRA_AT_ONCE = 16
_N_WINDOWS = 24  # number of windows of the map
_SMALLEST, _STEPS = 1e-6, 18.0  # standard deviations in a byte, 18 steps per factor e: 3 % rounding, 1e-6 to 1.4
_DECODED = _SMALLEST * np.exp(np.arange(256) / _STEPS)


class ErrorModel:
    """Error of a generator over the labels and the pixels.

    Parameters
    ----------
    labels : ndarray of shape (n_samples, n_labels)
        Labels of the samples.
    axis : ndarray of shape (n_samples,), int
        Label along which the node was predicted, -1 for all.
    measured : ndarray of shape (n_samples,), bool
        Whether a node was held out. Otherwise, on a label with two values, the error is estimated from the difference
        between the generator and the mean flux of the two nodes.
    scale : ndarray of shape (n_samples,)
        Factor from the measured error to that within a cell.
    windows : ndarray of shape (n_windows + 1,)
        Edges of the windows of `window_rms`, in pixels.
    window_rms : ndarray of shape (n_samples, n_windows), float32
        Root mean square error, before `scale`.
    code : ndarray of shape (n_pixels,), uint8
        Standard deviation of each pixel over the grid, logarithmic.
    gain : ndarray of shape (n_rows,)
        Relative variance at each row of the grid.
    label_names : tuple of str
        Names of the labels.
    shifts : LabelShifts, default=None
        The error in label space.
    """

    def __init__(self, labels, axis, measured, scale, windows, window_rms, code, gain, label_names, shifts=None):
        self.labels, self.axis, self.measured, self.scale = labels, axis, measured, scale
        self.windows, self.window_rms, self.code, self.gain = windows, window_rms, code, gain
        self.label_names, self.shifts = label_names, shifts

    @classmethod
    def learn(
        cls, grid, samples, residual, labels, label_names, shifts=None, *, n_jobs, verbose, store=None, settings=""
    ):
        """Measure the error of a generator on its grid.

        `samples` are the held-out nodes, reduced in number by `thin`; `residual` is a ResidualBasis or None; `labels`
        (n_rows, n_labels) are those of the rows of the grid. A `store` keeps the results of windows of pixels;
        `settings` is the digest of all arguments.
        """
        n_pixels = grid.flux.shape[1]
        edges = np.unique(np.linspace(0, n_pixels, _N_WINDOWS + 1).round().astype(int))
        task = partial(_measure, grid, samples, residual, edges)
        options = {"n_jobs": n_jobs, "verbose": verbose, "description": "Measuring the error"}
        parts = list(_map_windows(task, grid, store=store, settings=settings, **options))
        variance = np.concatenate([part[0] for part in parts])
        sample_squares, row_squares = (sum(part[k] for part in parts) for k in (1, 2))
        window_rms = np.sqrt(sample_squares / np.diff(edges))
        per_sample = samples.scale**2 * sample_squares.sum(axis=1) / n_pixels
        gain = _gain(per_sample, row_squares / n_pixels, samples, labels)
        # the infinite error of a diverged line fit becomes the largest that a byte can hold
        size = np.sqrt(np.nan_to_num(variance, nan=np.inf))
        code = np.clip(np.rint(_STEPS * np.log(size / _SMALLEST + 1e-300)), 0, 255).astype(np.uint8)
        return cls(
            samples.labels,
            samples.axis,
            samples.measured,
            samples.scale,
            edges,
            window_rms.astype(np.float32),
            code,
            gain,
            label_names,
            shifts,
        )

    def with_interpolator(self, interpolator):
        """Shallow copy with an interpolator of the same grid in its shifts."""
        model = copy.copy(self)
        model.shifts = None if self.shifts is None else self.shifts.with_interpolator(interpolator)
        return model

    def to_state(self) -> dict:
        """State for a file: the arguments of the constructor."""
        return {**vars(self), "label_names": list(self.label_names)}

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        keys = ("labels", "axis", "measured", "scale", "windows", "window_rms", "code", "gain", "label_names", "shifts")
        check_keys(state, keys)
        names = take_list(state, "label_names", str, distinct=True)
        sizes, samples = Sizes(n_labels=len(names)), ("n_samples",)
        labels = take_array(state, "labels", dtype="f8", shape=("n_samples", "n_labels"), sizes=sizes)
        axis = take_array(state, "axis", dtype="i8", shape=samples, sizes=sizes, low=-1, high=len(names) - 1)
        measured = take_array(state, "measured", dtype="b1", shape=samples, sizes=sizes)
        scale = take_array(state, "scale", dtype="f8", shape=samples, sizes=sizes, low=0)
        code = take_array(state, "code", dtype="u1", shape=(None,))
        windows = take_edges(state, "windows", len(code))
        shape = ("n_samples", len(windows) - 1)
        # not finite for diverged line fits
        window_rms = take_array(state, "window_rms", dtype="f4", shape=shape, sizes=sizes, finite=False)
        gain = take_array(state, "gain", dtype="f8", shape=(None,), low=0)
        shifts = take(state, "shifts", (LabelShifts, type(None)))
        if shifts is not None and (shifts.names != shift_names(names) or shifts.edges[-1] != len(code)):
            raise StateError(
                f"`shifts` are of {list(shifts.names)} and {shifts.edges[-1]} pixels; they must be of "
                f"{list(shift_names(names))} and {len(code)}."
            )
        return cls(labels, axis, measured, scale, windows, window_rms, code, gain, tuple(names), shifts)

    def std(self, weights, pixels=slice(None), fill_weights=None):
        """Standard deviations of generated spectra, shape (n, n_wanted) float64, in units of the normalised flux.

        `weights` of the training rows, csr_matrix (n, n_rows); `fill_weights` of missing nodes (n, n_labels), from
        `LineManifoldInterpolator.fill_weights`, None if no node is missing. NaN if no node could be held out.
        """
        size = abs(weights)
        gain = size @ self.gain / np.asarray(size.sum(axis=1)).ravel()
        if fill_weights is not None and fill_weights.any():
            gain *= 1 + fill_weights**2 @ self._held_out()
        gain = np.sqrt(gain)
        std = _DECODED[self.code[pixels]]
        return gain[:, None] * (std if len(self.labels) else np.full_like(std, np.nan))

    def _held_out(self):
        """Mean squared unscaled error along each label, over the mean variance of the pixels."""
        squares = np.average(self.window_rms.astype(float) ** 2, axis=1, weights=np.diff(self.windows))
        mean = np.mean((_SMALLEST * np.exp(self.code / _STEPS)) ** 2)
        chosen = [squares[self.axis == k] for k in range(len(self.label_names))]
        return np.nan_to_num([part.mean() / mean if len(part) else 0.0 for part in chosen])

    def to_frame(self):
        """DataFrame with one row per sample: the labels, `along`, `measured`, `rms` and `expected`.

        `along` is the label along which a node was held out, `rms` the RMS error over all pixels of the held-out
        node, `expected` that within a cell.
        """
        table = pd.DataFrame(self.labels, columns=list(self.label_names))
        table["along"] = [self.label_names[k] if k >= 0 else "all" for k in self.axis]
        table["measured"] = self.measured
        table["rms"] = np.sqrt(np.average(self.window_rms.astype(float) ** 2, axis=1, weights=np.diff(self.windows)))
        table["expected"] = table["rms"] * self.scale
        return table


def _measure(grid, samples, residual, edges, pixels):
    """For some pixels: variance per pixel, squared error per sample and window of the map, and per row."""
    pixels = slice(*pixels)
    flux, n_rows, n_samples = grid.flux[:, pixels], len(grid.flux), len(samples.labels)
    place = np.searchsorted(edges, np.arange(pixels.start, pixels.stop), side="right") - 1
    spread = np.zeros((len(place), len(edges) - 1))
    spread[np.arange(len(place)), place] = 1.0
    total, row_squares = np.zeros(len(place)), np.empty(n_rows)
    for rows in _batches(n_rows):
        own = grid.residual(pixels, rows)
        if residual is not None:
            own -= residual.at(grid.weights[rows], pixels)
        own **= 2
        row_squares[rows] = own.sum(axis=1)
        for row in own:
            total += row
    variance = total / n_rows
    totals = {axis: np.zeros(len(place)) for axis in np.unique(samples.axis)}
    squares = np.empty((n_samples, len(edges) - 1))
    for rows in _batches(n_samples):
        error = grid.render(samples.weights[rows], pixels) - _few_rows(samples.targets[rows], flux)
        if residual is not None:
            error += residual.at(samples.weights[rows], pixels)
        squares[rows] = error**2 @ spread
        for axis, scale, row in zip(samples.axis[rows], samples.scale[rows], error, strict=True):
            totals[axis] += (scale * row) ** 2
    for axis, total in totals.items():
        variance += total / np.count_nonzero(samples.axis == axis)
    return variance, squares, row_squares


def _batches(n):
    """Slices of a few spectra."""
    return [slice(first, first + _SPECTRA_AT_ONCE) for first in range(0, n, _SPECTRA_AT_ONCE)]


def _few_rows(table, flux):
    """``table @ flux`` for a sparse table with entries in few columns; only these rows of the flux are read."""
    columns = np.unique(table.indices)
    return table[:, columns] @ flux[columns]


def _map_windows(task, grid, *, store, settings, **options):
    """Yield the results of a task, tuples of arrays, for the windows of pixels of a grid, through a store."""
    windows = [(pixels.start, pixels.stop) for pixels in grid.windows()]
    settings = "" if store is None else digest(task.func.__name__, settings)
    # the grid goes to each worker once, if it is not a memory map anyway
    kept = {"store": store, "settings": settings, "pack": _pack, "unpack": _unpack, "max_nbytes": "1M"}
    return map_stored(task, windows, **kept, **options)


def _pack(parts):
    return {f"part{k}": part for k, part in enumerate(parts)}


def _unpack(arrays):
    return tuple(arrays[f"part{k}"] for k in range(len(arrays)))


def csr_arrays(table):
    """Arrays of a csr_matrix, and its shape."""
    return [table.data, table.indices, table.indptr, list(table.shape)]


def _gain(per_sample, per_row, samples, labels):
    """Variance at each row, from the nearest sample along each label, over the mean."""
    span = np.ptp(labels, axis=0)
    total, mean = per_row.copy(), per_row.mean()
    for axis in np.unique(samples.axis):
        chosen = np.flatnonzero(samples.axis == axis)
        apart = (labels[:, None] - samples.labels[chosen]) / np.where(span > 0, span, 1.0)
        total += per_sample[chosen[(apart**2).sum(axis=2).argmin(axis=1)]]
        mean += per_sample[chosen].mean()
    return total / mean if 0 < mean < np.inf else np.ones(len(labels))


def thin(samples):
    """Keep at most 512 ErrorSamples along each label, evenly spread."""
    kept = []
    for axis in np.unique(samples.axis):
        chosen = np.flatnonzero(samples.axis == axis)
        kept.append(chosen[np.unique(np.linspace(0, len(chosen) - 1, _MAX_SAMPLES).round().astype(int))])
    kept = np.concatenate(kept) if kept else np.empty(0, int)
    return type(samples)(*(part[kept] for part in samples))
