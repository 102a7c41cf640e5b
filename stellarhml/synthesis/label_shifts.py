r"""LabelShifts: the error of a generator as shifts of what is inferred with it, window by window of wavelengths.

An error spectrum :math:`e_s`, see `error_model`, hardly ever looks like noise: it is what a slightly different star, or
slightly shifted or broadened lines, would look like. In each window of pixels it is therefore written as

.. math:: e_s(p) \approx \sum_k \frac{\partial S}{\partial \theta_k}(p)\, \delta_{sk} + a + b p

over the labels, the logarithm of the wavelength and the variance of a broadening, and the shifts :math:`\delta` are
kept: few numbers, from which the error of any result follows, whatever pixels it came from.
"""

import copy
from functools import partial

import numpy as np

from stellarhml._parallel import map_items
from stellarhml._state import Sizes, StateError, check_keys, take_array, take_list
from stellarhml.manifold.leave_one_out import JUMP_SCALE
from stellarhml.synthesis.line_model import split_rows

_WINDOW = 4096  # pixels, a divisor of those of a window of the grid
_RIDGE = 1e-4  # of unit directions: those that look alike in a window share what they explain
_NEAR = 1.5  # nodes, to each side, from which a label's error is taken
_SERIES = 0.26  # see `_scale`
_MAX_NODES = 512


class LabelShifts:
    """Errors of a generator as shifts of what is inferred.

    Parameters
    ----------
    edges : ndarray of shape (n_windows + 1,)
        Edges of the windows in pixels.
    values : ndarray of shape (n_samples, n_windows, n_names), float32
        Shifts of what `names` says, scaled to what is expected within a cell.
    names : tuple of str
        Names of what is shifted: those of the labels, then "ln_wavelength" (of all lines) and "line_variance" (of a
        broadening, in ln wavelength).
    labels : ndarray of shape (n_samples, n_labels)
        Where the errors were probed.
    axis : ndarray of shape (n_samples,), int
        Label along which they were; -1 for all, -2 for what the compact tables lose at the nodes themselves.
    steps : ndarray of shape (n_labels,)
        Usual distance of neighbouring nodes.
    across : ndarray of shape (n_samples,), bool
        Whether a jump of the grid lies between the nodes of the prediction.
    broken : list of ndarray of shape (n_cells, 2)
        Lowest and highest value of the cells of each label in which the grid jumps.
    scale : ndarray of shape (n_samples,)
        Factors by which values were scaled.
    interpolator : LineManifoldInterpolator
        Where missing nodes are in use, errors along the labels from which these were predicted are larger.
    """

    def __init__(self, edges, values, names, labels, axis, steps, across, broken, scale, interpolator):
        self.edges, self.values, self.names = edges, values, names
        self.labels, self.axis, self.steps = labels, axis, steps
        self.across, self.broken = across, broken
        self.scale, self.interpolator = scale, interpolator

    @classmethod
    def learn(cls, grid, residual, samples, interpolator, wavelength, labels, *, n_jobs, verbose):
        """Project the errors of a generator on its grid.

        Parameters
        ----------
        grid, residual, samples : Grid, ResidualBasis or None, ErrorSamples
            As in `ErrorModel.learn`.
        interpolator : LineManifoldInterpolator
            Fitted.
        wavelength : ndarray of shape (n_pixels,)
            Wavelengths in angstrom.
        labels : ndarray of shape (n_rows, n_labels)
            Labels of the rows of the grid.
        n_jobs, verbose : int, bool
            As in `stellarhml._parallel.map_items`.

        Returns
        -------
        shifts : LabelShifts
            The errors.
        """
        rows = np.unique(np.linspace(0, len(labels) - 1, min(_MAX_NODES, len(labels))).round().astype(int))
        places = np.concatenate([samples.labels, labels[rows]])
        task = partial(
            _project, grid, residual, samples, rows, interpolator.locate(places, derivatives=True), wavelength
        )
        options = {"n_jobs": n_jobs, "verbose": verbose, "description": "Projecting the error"}
        edges, values, squares = zip(*map_items(task, grid.windows(), **options), strict=True)
        edges = np.concatenate([[0], *edges])
        scale = np.concatenate([_scale(samples, sum(squares)), np.ones(len(rows))])
        values = np.concatenate(values, axis=1) * scale[:, None, None]
        steps = [np.median(np.diff(np.unique(column))) if np.ptp(column) > 0 else 1.0 for column in labels.T]
        axis = np.concatenate([samples.axis, np.full(len(rows), -2)])
        # lines that ran away from wild data have no sensible shift
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        across = np.concatenate([samples.scale == JUMP_SCALE, np.zeros(len(rows), dtype=bool)])
        broken = _broken_cells(labels, interpolator)
        names = shift_names(interpolator.label_names)
        return cls(edges, values, names, places, axis, np.array(steps), across, broken, scale, interpolator)

    def with_interpolator(self, interpolator):
        """The same shifts with another interpolator, a shallow copy."""
        shifts = copy.copy(self)
        shifts.interpolator = interpolator
        return shifts

    def to_state(self) -> dict:
        """State that a file holds.

        Returns
        -------
        state : dict
            The arguments of the constructor but the interpolator, which belongs to the generator.
        """
        state = {name: value for name, value in vars(self).items() if name != "interpolator"}
        return {**state, "names": list(self.names), "broken": list(self.broken)}

    @classmethod
    def from_state(cls, state):
        """Make it again from its state, without an interpolator: see `with_interpolator`.

        Parameters
        ----------
        state : dict
            As from `to_state`.

        Returns
        -------
        shifts : LabelShifts
            With the same values.

        Raises
        ------
        StateError
            If a value is not one that it can have.
        """
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
        """Shifts expected at some labels.

        Parameters
        ----------
        labels : ndarray of shape (n_labels,)
            The labels.

        Returns
        -------
        values : ndarray of shape (n_samples, n_windows, n_names)
            Shifts of `names`, weighted by their distance, such that their sum of squares is the expected variance;
            greater where missing nodes are in use.
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
    """Edges of windows of a state, an array of int64 from 0 to `n_pixels` (None: any), strictly increasing."""
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
    """On a window of the grid: edges of the windows in it, shifts, and sums of squares of errors and slopes."""
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
        error = guess - (targets[i] @ flux)[0] if held_out else guess - flux[rows[i - len(guesses)]]
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

    Between three values of a label, held out is a line through two of them, and what is expected is the error of a
    parabola through three. For :math:`f = e^{kx}`, whose terms of a Taylor series fall by a constant ratio, the line
    misses :math:`k^2 h^2 / 2` and the parabola at most :math:`0.064\, k^3 h^3`: a ratio of :math:`0.26 \rho`, where
    :math:`\rho = k h / 2` is what the line misses over half of the change between the two nodes. Smooth parts of
    spectra, which are those that move labels, follow this; pixels at random do not.
    """
    scale = samples.scale.copy()
    for i in np.flatnonzero(np.isfinite(samples.reach)):
        change = np.sqrt(squares[i, 1 + samples.axis[i]]) * samples.reach[i]
        ratio = np.sqrt(squares[i, 0]) / change if change > 0 else np.inf
        scale[i] = min(scale[i], _SERIES * ratio)
    return scale
