r"""Faults of the lines of a model: each line's strength, velocity and widths are uncertain, and marginalised.

The data are :math:`F = P\,S(\theta, \delta) + n` with a fault :math:`\delta_j` of each kind for each line. A fault is
drawn from Student's distribution with four degrees of freedom, whose scale per kind is found from the star. All are
found together with the parameters by Gauss-Newton steps, in which every line is rendered with its present fault, so
that nothing is linear but the last step. Ordered by wavelength, the normal equations of the faults are a banded matrix
with a border of the parameters, continua and the few widest lines: their solution takes memory and time proportional to
the number of lines.

The scale is the maximum of the marginal likelihood, by MacKay's fixed point: the sum of squared faults, over the number
of faults that the data, and not the prior, determine. On a star of the grid's own physics it goes to zero.

References
----------
.. [1] MacKay, D. J. C. (1992), "Bayesian interpolation", Neural Computation 4, 415. doi:10.1162/neco.1992.4.3.415
.. [2] Takahashi, K., Fagan, J. and Chen, M.-S. (1973), "Formation of a sparse bus impedance matrix and its application
   to short circuit study", 8th PICA Conference, 63 (elements of the inverse of a sparse matrix).
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from stellarhml.kernels.line_columns import KINDS, add_columns, band_inverse_diagonal, band_products

START = {"strength": 0.2, "velocity": 0.15, "width": 0.05, "wing": 0.2}
"""Scales of the faults before they are found: ln strength, km/s, ln width, ln wing."""

_TAIL = 4.0  # degrees of freedom of Student's distribution
_LEAST = {"strength": 1e-3, "velocity": 1e-3, "width": 1e-3, "wing": 1e-3}
_MOST = {"strength": 1.0, "velocity": 1.0, "width": 0.3, "wing": 1.0}
_SEEN = 0.3  # standard deviations of the noise by which a fault of one scale must change the spectrum to be an unknown
_LONGEST_BAND = 120  # unknowns that one line may overlap; wider ones are part of the border
_LEAST_FACTOR = 0.1  # of a strength in one step
_STEP = {"strength": 2.5, "velocity": 0.5, "width": 0.3, "wing": 1.0}  # largest change of a fault in one step
_LIMIT = {"strength": 4.0, "velocity": 3.0, "width": 1.0, "wing": 3.0}  # largest fault


class Faults(NamedTuple):
    """Faults of all lines of the catalogue by kind.

    `values` and `variances` (n_lines,), zero for lines that the star does not show; `seen` (n_lines,), bool, where a
    fault is an unknown; `scales` of the distributions.
    """

    values: dict
    variances: dict
    seen: dict
    scales: dict

    @classmethod
    def none(cls, n_lines):
        """No faults yet, with the scales of `START`."""
        zero = {kind: np.zeros(n_lines) for kind in KINDS}
        seen = {kind: np.zeros(n_lines, dtype=bool) for kind in KINDS}
        return cls(zero, {kind: np.zeros(n_lines) for kind in KINDS}, seen, dict(START))


class FaultSystem:
    """Normal equations of parameters, continua and line faults at one linearisation.

    `linear` (Linear) of a `likelihood`; `columns`, LineColumns of each order; `faults` at which both were computed;
    `noise`, factor of the variances of the pixels.
    """

    def __init__(self, likelihood, linear, columns, faults, *, noise=1.0):
        self._likelihood, self._linear, self._faults = likelihood, linear, faults
        parameters = likelihood.parameters
        self._slopes = parameters.slopes(linear.values)
        n_free = len(parameters.free)
        self._orders = self._tables(linear, noise)
        self._unknowns(columns)
        n, m = len(self.line), n_free + likelihood.n_terms + len(self._wide)
        self.band, self.border = np.zeros((self._n_bands, n)), np.zeros((n, m))
        self.core, self.by_residual = np.zeros((m, m)), np.zeros(m)
        self.line_by_residual = np.zeros(n)
        for order in self._orders.values():
            self._add(order)
        rows = linear.residuals[likelihood.n_pixels :], linear.jacobian[likelihood.n_pixels :] * self._slopes
        self.prior = np.zeros((m, m))
        self.prior[:n_free, :n_free] = rows[1].T @ rows[1]
        self.prior_by_residual = np.zeros(m)
        self.prior_by_residual[:n_free] = rows[1].T @ rows[0]

    def _tables(self, linear, noise):
        """Weights and dense columns of each order: derivatives, residual and continuum terms, on all of its pixels."""
        likelihood, free = self._likelihood, self._likelihood.parameters.free
        tangents = [np.column_stack([rows.tangents[name] for name in free]) for rows in linear.orders]
        weighted, levels = linear.weighted(tangents), linear.levels()
        orders, term, pixel = {}, len(free), 0
        for piece, table, level in zip(likelihood.pieces, weighted, levels, strict=True):
            n_all = len(linear.orders[piece.order].wavelength)
            if piece.order not in orders:
                orders[piece.order] = _Order(n_all, len(free))
            order = orders[piece.order]
            order.weight[piece.pixels] = level / np.sqrt(noise)
            order.dense[piece.pixels, : len(free)] = table * self._slopes / np.sqrt(noise)
            residuals = linear.residuals[pixel : pixel + len(piece.pixels)]
            order.residual[piece.pixels] = residuals / np.sqrt(noise)
            pixel += len(piece.pixels)
            if piece.basis is not None:
                model = np.nan_to_num(linear.orders[piece.order].flux[piece.pixels])
                own = np.zeros((n_all, piece.basis.shape[1]))
                own[piece.pixels] = piece.basis * (model * piece.weight)[:, None] / np.sqrt(noise)
                order.append(own, np.arange(term, term + own.shape[1]))
                term += own.shape[1]
        return orders

    def _unknowns(self, columns):
        """Choose the unknowns: faults that one scale of theirs makes visible above the noise."""
        n_lines = len(next(iter(self._faults.values.values())))
        effect, center = np.zeros((n_lines, len(KINDS))), np.full(n_lines, np.inf)
        reach = np.zeros(n_lines)
        for number, order in self._orders.items():
            own = columns[number]
            if own is None:
                continue
            order.columns = own
            pixel = np.repeat(own.start - own.offset, own.stop - own.start) + np.arange(len(own.table))
            weighted = (own.table * order.weight[pixel][:, None]) ** 2
            line = np.repeat(own.line, own.stop - own.start)
            for k in range(len(KINDS)):
                effect[:, k] += np.bincount(line, weighted[:, k], minlength=n_lines)
            wavelength = self._linear.orders[number].wavelength
            middle = np.clip((own.start + own.stop) // 2, 0, len(wavelength) - 1)
            center[own.line] = np.minimum(center[own.line], wavelength[middle])
            width = wavelength[np.clip(own.stop, 0, len(wavelength) - 1)] - wavelength[own.start]
            reach[own.line] = np.maximum(reach[own.line], width)
        scales = np.array([START[kind] for kind in KINDS])
        told = np.stack([self._faults.seen[kind] for kind in KINDS], axis=1)
        seen = told if told.any() else effect * scales**2 > _SEEN**2
        seen = seen & (effect > 0)
        line, kind = np.nonzero(seen)
        order = np.lexsort((kind, line, center[line]))
        line, kind = line[order], kind[order]
        # unknowns that the pixels of a line may share with it
        place = center[line]
        span = np.searchsorted(place, place + reach[line]) - np.arange(len(line))
        wide = span > _LONGEST_BAND
        self._wide = list(zip(line[wide].tolist(), kind[wide].tolist(), strict=True))
        self.wide_line, self.wide_kind = line[wide], kind[wide]
        self.line, self.kind = line[~wide], kind[~wide]
        place = center[self.line]
        span = np.searchsorted(place, place + reach[self.line]) - np.arange(len(self.line))
        self._n_bands = int(span.max(initial=0)) + 2
        self._number = np.full((n_lines, len(KINDS)), -1)
        self._number[self.line, self.kind] = np.arange(len(self.line))

    def _add(self, order):
        """Add the products of one order."""
        likelihood = self._likelihood
        first_wide = len(likelihood.parameters.free) + likelihood.n_terms
        own = order.columns
        if own is not None and len(self._wide):
            place = {line: i for i, line in enumerate(own.line.tolist())}
            for number, (line, kind) in enumerate(self._wide):
                if line in place:
                    i = place[line]
                    column = np.zeros((len(order.weight), 1))
                    run = slice(own.offset[i], own.offset[i] + own.stop[i] - own.start[i])
                    column[own.start[i] : own.stop[i], 0] = own.table[run, kind]
                    order.append(column * order.weight[:, None], np.array([first_wide + number]))
        at = order.index
        self.core[np.ix_(at, at)] += order.dense.T @ order.dense
        self.by_residual[at] += order.dense.T @ order.residual
        if own is None:
            return
        unknown = self._number[own.line]
        i, kind = np.nonzero(unknown >= 0)
        unknown = unknown[i, kind]
        sort = np.argsort(unknown)
        i, kind, unknown = i[sort], kind[sort], unknown[sort]
        order.own = unknown, own.start[i], own.stop[i], own.offset[i], own.table, kind
        products = np.zeros((len(unknown), order.dense.shape[1] + 1))
        dense = np.ascontiguousarray(np.column_stack([order.dense, order.residual]))
        band_products(*order.own, order.weight, dense, self.band, products)
        self.border[np.ix_(unknown, at)] += products[:, :-1]
        self.line_by_residual[unknown] += products[:, -1]

    def solve(self, faults):
        """One step: changes of the variables, new faults, and what the errors need."""
        free = self._likelihood.parameters.free
        n_free, first_wide = len(free), len(free) + self._likelihood.n_terms
        present, precision = self._prior_of(faults, self.line, self.kind)
        wide_present, wide_precision = self._prior_of(faults, self.wide_line, self.wide_kind)
        matrix = self.band.copy()
        matrix[0] += precision
        factor = cholesky_banded(matrix, lower=True, check_finite=False)
        right = np.column_stack([self.border, self.line_by_residual + precision * present])
        inner = cho_solve_banded((factor, True), right, check_finite=False)
        response, shift = inner[:, :-1], inner[:, -1]
        prior = self.prior.copy()
        wide = np.arange(first_wide, len(prior))
        prior[wide, wide] += wide_precision
        schur = self.core + prior - self.border.T @ response
        gradient = self.by_residual + self.prior_by_residual - self.border.T @ shift
        gradient[wide] += wide_precision * wide_present
        scale = 1 / np.sqrt(np.maximum(np.diag(schur), 1e-300))
        inverse = np.linalg.pinv(schur * np.outer(scale, scale), hermitian=True) * np.outer(scale, scale)
        step = -inverse @ gradient
        change = -shift - response @ step
        variances = band_inverse_diagonal(factor) + np.einsum("ij,jk,ik->i", response, inverse, response)
        return Solved(
            system=self,
            step=step[:n_free],
            present=np.concatenate([present, wide_present]),
            change=np.concatenate([change, step[wide]]),
            variances=np.concatenate([variances, np.diag(inverse)[wide]]),
            precision=np.concatenate([precision, wide_precision]),
            inverse=inverse,
            response=response,
            prior=prior,
        )

    @staticmethod
    def _prior_of(faults, line, kind):
        """Present faults, and the precision of the prior of each: a Gaussian that has the slope of the tails there."""
        values, variances, scales = (
            np.array([part[name] for name in KINDS]) for part in (faults.values, faults.variances, faults.scales)
        )
        present, squared = values[kind, line], scales[kind] ** 2
        return present, (_TAIL + 1) / (_TAIL * squared + present**2 + variances[kind, line])


class Solved(NamedTuple):
    """A step of a FaultSystem. Unknowns are the lines' and then those of wide lines."""

    system: FaultSystem
    step: np.ndarray  # of the variables
    present: np.ndarray
    change: np.ndarray
    variances: np.ndarray
    precision: np.ndarray
    inverse: np.ndarray
    response: np.ndarray
    prior: np.ndarray

    def unknowns(self):
        """Line and kind of each unknown."""
        system = self.system
        return np.concatenate([system.line, system.wide_line]), np.concatenate([system.kind, system.wide_kind])

    def move(self, faults, share=1.0):
        """Faults after this step, and with the scales that it shows."""
        line, kind = self.unknowns()
        values, variances, seen = ({k: a.copy() for k, a in part.items()} for part in faults[:3])
        scales = dict(faults.scales)
        told = self.precision * self.variances
        for k, name in enumerate(KINDS):
            own = kind == k
            change = self.change[own]
            if name in ("strength", "wing"):  # the flux of a weak line is linear in its strength, not in the logarithm
                change = np.log(np.maximum(1 + change, _LEAST_FACTOR))
            new = self.present[own] + share * np.clip(change, -_STEP[name], _STEP[name])
            new = np.clip(new, -_LIMIT[name], _LIMIT[name])
            values[name][line[own]] = new
            variances[name][line[own]] = self.variances[own]
            seen[name][:] = False
            seen[name][line[own]] = True
            squared = scales[name] ** 2
            weight = (_TAIL + 1) / (_TAIL + (new**2 + self.variances[own]) / squared)
            known = np.sum(np.maximum(1 - told[own], 0.0))
            # a few pseudo-observations of the starting scale keep a handful of lines from deciding
            found = (np.sum(weight * new**2) + 0.0) / max(known, 1.0)
            scales[name] = float(np.clip(np.sqrt(found), _LEAST[name], _MOST[name]))
        return Faults(values, variances, seen, scales)


class _Order:
    """Weighted columns of one order on all of its pixels."""

    def __init__(self, n_pixels, n_free):
        self.weight, self.residual = np.zeros(n_pixels), np.zeros(n_pixels)
        self.dense, self.index = np.zeros((n_pixels, n_free)), np.arange(n_free)
        self.columns, self.own = None, None

    def append(self, table, index):
        """Add dense columns with their numbers in the border."""
        self.dense, self.index = np.column_stack([self.dense, table]), np.concatenate([self.index, index])
