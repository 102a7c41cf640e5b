r"""ErrorModel: how far a generator is from the grid's own spectra where it has not seen them.

Each place where a node can be predicted without itself gives an error spectrum :math:`e_s`. Its size over a gap of
twice the spacing is brought to that within a cell by a factor :math:`\kappa_s`, see
:meth:`stellarhml.LineManifoldInterpolator.error_samples`. Errors along different labels add in squares, and so does
what the compact tables lose at the nodes themselves, :math:`e_k`:

.. math:: \sigma^2(p, x) = g(x) \Big[\langle e_k^2(p)\rangle_k + \sum_a \langle\kappa_s^2 e_s^2(p)\rangle_{s \in a}\Big]

with pixels p, labels a, and g the same sum over all pixels at the nodes around x, relative to its mean over the grid.
Where missing nodes are in use that were predicted along label a, with weights that add up to :math:`s_a`, their errors
:math:`e_s` count as they are, and :math:`\kappa_s^2` becomes :math:`\kappa_s^2 + s_a^2`.
"""

import copy
from functools import partial

import numpy as np
import pandas as pd

from stellarhml._parallel import map_items
from stellarhml._state import Sizes, StateError, check_keys, take, take_array, take_list
from stellarhml.synthesis.label_shifts import LabelShifts, shift_names, take_edges

_MAX_SAMPLES = 512
_N_WINDOWS = 24  # into which the map divides the wavelengths
_SMALLEST, _STEPS = 1e-6, 18.0  # standard deviations in a byte, 18 steps per factor e: 3 % rounding, 1e-6 to 1.4
_DECODED = _SMALLEST * np.exp(np.arange(256) / _STEPS)


class ErrorModel:
    """Error of a generator over the labels and the pixels.

    Parameters
    ----------
    labels : ndarray of shape (n_samples, n_labels)
        Where the error was probed.
    axis : ndarray of shape (n_samples,), int
        Label along which it was, -1 for all.
    measured : ndarray of shape (n_samples,), bool
        Whether a node was held out. Otherwise, between the only two values of a label, the difference between
        generator and mean of the nodes' pixels stands for the error.
    scale : ndarray of shape (n_samples,)
        Factor that brings the error to that within a cell.
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
        The error in terms of what is inferred.
    """

    def __init__(self, labels, axis, measured, scale, windows, window_rms, code, gain, label_names, shifts=None):
        self.labels, self.axis, self.measured, self.scale = labels, axis, measured, scale
        self.windows, self.window_rms, self.code, self.gain = windows, window_rms, code, gain
        self.label_names, self.shifts = label_names, shifts

    @classmethod
    def learn(cls, grid, samples, residual, labels, label_names, shifts=None, *, n_jobs, verbose):
        """Measure the error of a generator on its grid.

        Parameters
        ----------
        grid : Grid
            The grid.
        samples : ErrorSamples
            Places where nodes are held out, not too many of them: see `thin`.
        residual : ResidualBasis or None
            Residuals of the line model.
        labels : ndarray of shape (n_rows, n_labels)
            Labels of the rows of the grid.
        label_names : tuple of str
            Their names.
        shifts : LabelShifts, default=None
            The error in terms of what is inferred.
        n_jobs, verbose : int, bool
            As in `stellarhml._parallel.map_items`.

        Returns
        -------
        model : ErrorModel
            The error.
        """
        n_pixels = grid.flux.shape[1]
        edges = np.unique(np.linspace(0, n_pixels, _N_WINDOWS + 1).round().astype(int))
        task = partial(_measure, grid, samples, residual, edges)
        parts = list(map_items(task, grid.windows(), n_jobs=n_jobs, verbose=verbose, description="Measuring the error"))
        variance = np.concatenate([part[0] for part in parts])
        sample_squares, row_squares = (sum(part[k] for part in parts) for k in (1, 2))
        window_rms = np.sqrt(sample_squares / np.diff(edges))
        per_sample = samples.scale**2 * sample_squares.sum(axis=1) / n_pixels
        gain = _gain(per_sample, row_squares / n_pixels, samples, labels)
        # an error that is not finite, as of lines that ran away from wild data, is the largest that a byte can hold
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
        """The same model, whose shifts know where nodes are missing.

        Parameters
        ----------
        interpolator : LineManifoldInterpolator
            Of the same grid.

        Returns
        -------
        model : ErrorModel
            A shallow copy.
        """
        model = copy.copy(self)
        model.shifts = None if self.shifts is None else self.shifts.with_interpolator(interpolator)
        return model

    def to_state(self) -> dict:
        """State that a file holds.

        Returns
        -------
        state : dict
            The arguments of the constructor.
        """
        return {**vars(self), "label_names": list(self.label_names)}

    @classmethod
    def from_state(cls, state):
        """Make it again from its state.

        Parameters
        ----------
        state : dict
            As from `to_state`.

        Returns
        -------
        model : ErrorModel
            With the same values.

        Raises
        ------
        StateError
            If a value is not one that it can have.
        """
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
        # lines that ran away from wild data have errors that are not finite
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
        """Standard deviations of generated spectra.

        Parameters
        ----------
        weights : csr_matrix of shape (n, n_rows)
            Weights of the training rows.
        pixels : slice or ndarray of int, default=slice(None)
            Pixels wanted.
        fill_weights : ndarray of shape (n, n_labels), default=None
            Weights of missing nodes, as of `LineManifoldInterpolator.fill_weights`. None: no node is missing.

        Returns
        -------
        std : ndarray of shape (n, n_wanted), float64
            In units of the normalised flux; NaN if there was no place where the error could be probed.
        """
        size = abs(weights)
        gain = size @ self.gain / np.asarray(size.sum(axis=1)).ravel()
        if fill_weights is not None and fill_weights.any():
            gain *= 1 + fill_weights**2 @ self._held_out()
        gain = np.sqrt(gain)
        std = _DECODED[self.code[pixels]]
        return gain[:, None] * (std if len(self.labels) else np.full_like(std, np.nan))

    def _held_out(self):
        """Mean square of the errors along each label as they were measured, over the mean variance of the pixels."""
        squares = np.average(self.window_rms.astype(float) ** 2, axis=1, weights=np.diff(self.windows))
        mean = np.mean((_SMALLEST * np.exp(self.code / _STEPS)) ** 2)
        chosen = [squares[self.axis == k] for k in range(len(self.label_names))]
        return np.nan_to_num([part.mean() / mean if len(part) else 0.0 for part in chosen])

    def to_frame(self):
        """Tabulate the map.

        Returns
        -------
        table : DataFrame
            One row a sample: the labels, `along` (the label along which a node was held out), `measured`, `rms` (root
            mean square error over all pixels of the node predicted without itself), and `expected` (within a cell).
        """
        table = pd.DataFrame(self.labels, columns=list(self.label_names))
        table["along"] = [self.label_names[k] if k >= 0 else "all" for k in self.axis]
        table["measured"] = self.measured
        table["rms"] = np.sqrt(np.average(self.window_rms.astype(float) ** 2, axis=1, weights=np.diff(self.windows)))
        table["expected"] = table["rms"] * self.scale
        return table


def _measure(grid, samples, residual, edges, pixels):
    """On a window: variance per pixel; squares per sample and window of the map; squares per row."""
    own = grid.residual(pixels)
    if residual is not None:
        own -= residual.at(grid.weights, pixels)
    flux = grid.flux[:, pixels]
    error = grid.render(samples.weights, pixels) - samples.targets @ flux
    if residual is not None:
        error += residual.at(samples.weights, pixels)
    variance = (own**2).mean(axis=0)
    for axis in np.unique(samples.axis):
        chosen = samples.axis == axis
        variance += ((samples.scale[chosen, None] * error[chosen]) ** 2).mean(axis=0)
    place = np.searchsorted(edges, np.arange(pixels.start, pixels.stop), side="right") - 1
    spread = np.zeros((len(place), len(edges) - 1))
    spread[np.arange(len(place)), place] = 1.0
    return variance, error**2 @ spread, (own**2).sum(axis=1)


def _gain(per_sample, per_row, samples, labels):
    """Variance at each row, by the nearest sample along each label, over its mean."""
    span = np.ptp(labels, axis=0)
    total, mean = per_row.copy(), per_row.mean()
    for axis in np.unique(samples.axis):
        chosen = np.flatnonzero(samples.axis == axis)
        apart = (labels[:, None] - samples.labels[chosen]) / np.where(span > 0, span, 1.0)
        total += per_sample[chosen[(apart**2).sum(axis=2).argmin(axis=1)]]
        mean += per_sample[chosen].mean()
    return total / mean if 0 < mean < np.inf else np.ones(len(labels))


def thin(samples):
    """At most so many samples of each label, evenly.

    Parameters
    ----------
    samples : ErrorSamples
        Places where nodes are held out.

    Returns
    -------
    samples : ErrorSamples
        Some of them.
    """
    kept = []
    for axis in np.unique(samples.axis):
        chosen = np.flatnonzero(samples.axis == axis)
        kept.append(chosen[np.unique(np.linspace(0, len(chosen) - 1, _MAX_SAMPLES).round().astype(int))])
    kept = np.concatenate(kept) if kept else np.empty(0, int)
    return type(samples)(*(part[kept] for part in samples))
