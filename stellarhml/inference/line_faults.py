r"""Faults of the lines of a model: each line's strength, velocity and widths are uncertain, and marginalised.

The data are :math:`F = P\,S(\theta, \delta) + n` with a fault :math:`\delta_j` of each kind for each line. A fault is
drawn from Student's distribution with four degrees of freedom, whose scale per kind is found from the star. All are
found together with the parameters by Gauss-Newton steps, in which every line is rendered with its present fault, so
that nothing is linear but the last step. Ordered by wavelength, the normal equations of the faults are a banded matrix
with a border of the parameters, the continua, and the lines and shapes of lines that are wide: their solution takes
memory and time proportional to the number of lines.

The scale is the maximum of the marginal likelihood, by MacKay's fixed point [1]_: the sum of squared faults, over the
number of faults that the data, and not the prior, determine. On a star of the grid's own physics it goes to zero.

The profiles of the widest lines have errors of another kind, smooth over many pixels: their depth may be off by a few
percent (`SHAPE`), with a scale of an eighth of their reach.

References
----------
.. [1] MacKay, D. J. C. (1992), "Bayesian interpolation", Neural Computation 4, 415. doi:10.1162/neco.1992.4.3.415
.. [2] Takahashi, K., Fagan, J. and Chen, M.-S. (1973), "Formation of a sparse bus impedance matrix and its application
   to short circuit study", 8th PICA Conference, 63 (elements of the inverse of a sparse matrix).
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from stellarhml.forward.line_spread import is_factor
from stellarhml.kernels.line_columns import KINDS, add_columns, band_inverse_diagonal, band_products

START = {"strength": 0.2, "velocity": 0.15, "width": 0.05, "wing": 0.2}
"""Scales of the faults before they are found: ln strength, km/s, ln width, ln wing."""

SHAPE = 0.3
"""Scale of the relative error of the depth of a wide line's profile."""

LINE_SPREAD = 0.05
"""Standard deviation of ln resolving power: line spread and motions of the atmosphere are never known exactly."""

_TAIL = 4.0  # degrees of freedom of Student's distribution
_LEAST = 1e-3  # smallest scale
LARGEST = {"strength": 0.5, "velocity": 0.5, "width": 0.15, "wing": 0.5}
"""Largest scales of the faults: a star whose lines differ by more has no information in single lines."""

_SEEN = 0.3  # standard deviations of the noise by which a fault of one scale must change the spectrum to be an unknown
_LONGEST_BAND = 120  # unknowns that one line may overlap; wider ones are part of the border
_LEAST_FACTOR = 0.1  # of a strength in one step
_STEP = {"strength": 2.5, "velocity": 0.5, "width": 0.3, "wing": 1.0}  # largest change of a fault in one step
_LIMIT = {"strength": 4.0, "velocity": 3.0, "width": 1.0, "wing": 3.0}  # largest fault
_SATURATED_STEP = 0.3  # largest compensation of a strength in the derivative of its effect


class Faults(NamedTuple):
    """Faults of all lines of the catalogue by kind.

    `values` and `variances` (n_lines,), zero for lines that the star does not show; `seen` (n_lines,), bool, where a
    fault is an unknown; `scales` of the distributions; `spread` (n_lines,), the scale of each line in units of that.
    """

    values: dict
    variances: dict
    seen: dict
    scales: dict
    spread: dict

    @classmethod
    def none(cls, n_lines, expected=None):
        """No faults yet, with the scales of `START` for all lines, or those of `expected` (CalibrationErrors)."""
        zero, variances = ({kind: np.zeros(n_lines) for kind in KINDS} for _ in range(2))
        seen = {kind: np.zeros(n_lines, dtype=bool) for kind in KINDS}
        if expected is None:
            return cls(zero, variances, seen, dict(START), {kind: np.ones(n_lines) for kind in KINDS})
        scales, spread = (dict(zip(KINDS, part, strict=True)) for part in (expected.scatter, expected.spread()))
        return cls(zero, variances, seen, scales, spread)

    def typical(self, kind):
        """Root mean square of the scale of the lines that the star shows, of a kind."""
        spread = self.spread[kind][self.seen[kind]]
        return self.scales[kind] * (np.sqrt(np.mean(spread**2)) if len(spread) else 1.0)

    def prior_scale(self, kind):
        """Scale of the distribution of each line's fault of a kind, (n_lines,)."""
        return self.scales[kind] * self.spread[kind]

    def offsets(self, saturation):
        """Changes of the lines to render, with the strengths such that the mean flux over a fault's distribution holds.

        The flux of a line with the optical depth v at its center is not linear in its fault: over a variance s its
        mean is that of the strength changed by :math:`s (1 - v) / (1 + v) / 2`. `saturation` is v, (n_lines,).
        """
        unseen = _TAIL / (_TAIL - 2) * self.prior_scale("strength") ** 2
        variance = np.where(self.seen["strength"], self.variances["strength"], unseen)
        mean = 0.5 * np.minimum(variance, 1.0) * (1 - saturation) / (1 + saturation)
        return self.values | {"strength": self.values["strength"] + mean}


class FaultSystem:
    """Normal equations of parameters, continua and line faults at one linearisation.

    `linear` (Linear) of a `likelihood`; `columns`, LineColumns of each order, and `shapes`, (n_pixels, n) of each
    order, derivatives with respect to relative errors of the profiles of wide lines; `faults` at which they were
    computed; `noise`, factor of the variances of the pixels; `ln_power`, ln of the resolving power of `linear` over the
    stated one.

    Attributes
    ----------
    line, kind : ndarray of shape (n_unknowns,)
        Line and number of the kind of each unknown fault; those of wide lines come last, `n_wide` of them.
    shape_places : dict of int to ndarray
        Places in the border of the columns of `shapes`, by the number of the order.
    """

    def __init__(self, likelihood, linear, columns, shapes, faults, *, noise=1.0, ln_power=0.0):
        self._likelihood, self._linear, self._faults = likelihood, linear, faults
        self._ln_power = ln_power
        parameters = likelihood.parameters
        self.slopes = parameters.slopes(linear.values)
        self._n_free = len(parameters.free)
        self.first_wide = self._n_free + likelihood.n_terms
        self._orders = self._tables(noise)
        wide = self._unknowns(columns)
        first, self.shape_places = self.first_wide + self.n_wide, {}
        for number, table in enumerate(shapes):
            if number in self._orders and table is not None and table.shape[1]:
                order = self._orders[number]
                level = order.weight * np.nan_to_num(linear.orders[number].flux)
                self.shape_places[number] = np.arange(first, first + table.shape[1])
                order.append(table * level[:, None], self.shape_places[number])
                first += table.shape[1]
        self._spread = first  # the last of the border
        for number, order in self._orders.items():
            column = np.nan_to_num(linear.orders[number].tangents["ln_resolving_power"]) * order.weight
            if any(map(is_factor, parameters.free)):  # which is the same change, with its own prior
                column = np.zeros(len(column))
            order.append(column[:, None], np.array([first]))
        self._n_narrow, m = len(self.line) - self.n_wide, first + 1
        self._band, self._border = np.zeros((self._n_bands, self._n_narrow)), np.zeros((self._n_narrow, m))
        self.core, self._by_residual = np.zeros((m, m)), np.zeros(m)
        self._line_by_residual = np.zeros(self._n_narrow)
        for order in self._orders.values():
            self._add(order, wide)
        self._prior_residuals = linear.residuals[likelihood.n_pixels :]
        rows = self._prior_residuals, linear.jacobian[likelihood.n_pixels :] * self.slopes
        self.prior, self._by_prior = np.zeros((m, m)), np.zeros(m)
        self.prior[: self._n_free, : self._n_free] = rows[1].T @ rows[1]
        self._by_prior[: self._n_free] = rows[1].T @ rows[0]
        of_shifts = rows[1][parameters.prior_is_of(parameters.nuisances)]
        self._wavelength_prior = np.zeros((m, m))
        self._wavelength_prior[: self._n_free, : self._n_free] = of_shifts.T @ of_shifts

    def prior_cost(self):
        """Sum of the squared deviations of the parameters from their priors, in standard deviations."""
        return float(self._prior_residuals @ self._prior_residuals)

    def add_gradient(self, gradient):
        """Add to the gradient of the negative logarithm of the likelihood with respect to the variables, (n_free,)."""
        self._by_residual[: self._n_free] += gradient

    def solve(self, limits=None):
        """Solve for one Gauss-Newton step; returns a `Solved`.

        `limits` (n_free + 1, 2) are the smallest and largest steps of the variables and of ln resolving power. Where a
        step would exceed its limit, the others are the best ones at this limit.
        """
        n, m, wide = self._n_narrow, len(self.core), slice(self.first_wide, self.first_wide + self.n_wide)
        present, precision = self._prior_of_faults()
        matrix = self._band.copy()
        matrix[0] += precision[:n]
        factor = cholesky_banded(matrix, lower=True, check_finite=False)
        right = np.column_stack([self._border, self._line_by_residual + precision[:n] * present[:n]])
        inner = cho_solve_banded((factor, True), right, check_finite=False)
        response, shift = inner[:, :-1], inner[:, -1]
        own = np.zeros(m)
        own[wide], own[wide.stop : self._spread] = precision[n:], 1 / SHAPE**2
        own[self._spread] = 1 / LINE_SPREAD**2
        schur = self.core + self.prior + np.diag(own) - self._border.T @ response
        gradient = self._by_residual + self._by_prior - self._border.T @ shift
        gradient[wide] += precision[n:] * present[n:]
        gradient[self._spread] += self._ln_power / LINE_SPREAD**2
        inverse = _inverse(schur)
        step = -inverse @ gradient
        outward = step[: self._n_free].copy()
        if limits is not None:
            step = _step_within(step, inverse, np.append(np.arange(self._n_free), self._spread), limits)
        variances = band_inverse_diagonal(factor) + np.einsum("ij,ij->i", response @ inverse, response)
        return Solved(
            system=self,
            step=step[: self._n_free],
            outward=outward,
            present=present,
            change=np.concatenate([-shift - response @ step, step[wide]]),
            variances=np.concatenate([variances, np.diag(inverse)[wide]]),
            precision=precision,
            border_step=step,
            inverse=inverse,
            response=response,
            border_precision=own,
            log_determinant=2 * np.log(factor[0]).sum() - np.log(precision[:n]).sum(),
        )

    def residuals_after(self, solved):
        """Residuals of the pixels of each order after the step, to first order, by the number of the order."""
        change, found = np.ascontiguousarray(solved.change[: self._n_narrow, None]), {}
        for number, order in self._orders.items():
            after = order.residual + order.dense @ solved.border_step[order.index]
            if order.own is not None:
                moved = np.zeros((len(after), 1))
                add_columns(*order.own, order.weight, change, moved)
                after += moved[:, 0]
            found[number] = np.where(order.weight != 0, after, 0.0)
        return found

    def influence(self, solved):
        """Derivatives of the fitted variables with respect to the weighted residuals, by order: (n_pixels, n_free)."""
        rows, found = solved.inverse[: self._n_free], {}
        moves = np.ascontiguousarray(-(solved.response @ rows.T))
        for number, order in self._orders.items():
            table = order.dense @ rows[:, order.index].T
            if order.own is not None:
                add_columns(*order.own, order.weight, moves, table)
            found[number] = -table
        return found

    def linear_residuals(self, solved):
        """Weighted residuals of each order that the model without faults would have, to first order."""
        present, found = np.ascontiguousarray(-solved.present[: self._n_narrow, None]), {}
        for number, order in self._orders.items():
            residual = order.residual[:, None].copy()
            if order.own is not None:
                add_columns(*order.own, order.weight, present, residual)
            found[number] = residual[:, 0]
        return found

    def weights(self):
        """Weights of the pixels of each order (n_pixels,), continuum over standard deviation, by its number."""
        return {number: order.weight for number, order in self._orders.items()}

    def score(self, solved, tables):
        """Best change of one more parameter and its standard deviation, everything else being fitted too.

        `tables` has the derivative (n_pixels,) of the model of each order by the parameter.
        """
        change, covariance = self.scores(solved, [table[:, None] for table in tables])
        return float(change[0]), float(np.sqrt(covariance[0, 0]))

    def scores(self, solved, tables, without=()):
        """Best changes of more parameters (n,), and their covariance (n, n), everything else being fitted too.

        `tables` has the derivatives (n_pixels, n) of the model of each order by the parameters. Variables with the
        numbers `without` are not fitted. The variance of a parameter that the spectrum does not tell is infinite.
        """
        n_more = tables[0].shape[1]
        by_line, by_border = np.zeros((self._n_narrow, n_more)), np.zeros((len(self.core), n_more))
        square, by_residual = np.zeros((n_more, n_more)), np.zeros(n_more)
        for number, order in self._orders.items():
            columns = np.ascontiguousarray(np.nan_to_num(tables[number]) * order.weight[:, None])
            by_border[order.index] += order.dense.T @ columns
            square += columns.T @ columns
            by_residual += columns.T @ order.residual
            if order.own is not None:
                products, nothing = np.zeros((len(order.own[0]), n_more)), np.zeros((0, self._n_narrow))
                band_products(*order.own, order.weight, columns, nothing, products)
                by_line[order.own[0]] += products
        n = self._n_narrow
        matrix = self._band.copy()
        matrix[0] += solved.precision[:n]
        right = np.column_stack([by_line, self._line_by_residual + solved.precision[:n] * solved.present[:n]])
        factor = cholesky_banded(matrix, lower=True, check_finite=False)
        inner = cho_solve_banded((factor, True), right, check_finite=False)
        by_border -= self._border.T @ inner[:, :-1]
        inverse, step, without = solved.inverse, solved.border_step, list(without)
        if without:
            held = inverse[:, without] @ np.linalg.inv(inverse[np.ix_(without, without)])
            inverse, step = inverse - held @ inverse[without], step - held @ step[without]
        size = square - by_line.T @ inner[:, :-1] - by_border.T @ inverse @ by_border
        slope = by_residual - by_line.T @ inner[:, -1] + by_border.T @ step
        told = np.diag(size) > 1e-9 * np.diag(square)
        change, covariance = np.zeros(n_more), np.diag(np.where(told, 0.0, np.inf))
        covariance[np.ix_(told, told)] = _inverse(size[np.ix_(told, told)])
        change[told] = -covariance[np.ix_(told, told)] @ slope[told]
        return change, covariance

    def line_spread(self, solved):
        """Change of ln resolving power that the data show, without its prior, and its standard deviation."""
        # with the variables that rest at a bound given, such as no rotation
        step, at = solved.step, self._spread
        held = np.flatnonzero((np.abs(step) < 1e-9) & (np.abs(solved.outward) > 1e-9))
        rows = solved.inverse[held]
        variance = solved.inverse[at, at] - rows[:, at] @ np.linalg.solve(rows[:, held], rows[:, at])
        told = 1 - variance / LINE_SPREAD**2
        if not told > 1e-6:
            return 0.0, np.inf
        found = self.ln_power_after(solved)
        return float(found / told), float(LINE_SPREAD * np.sqrt((1 - told) / told))

    def ln_power_after(self, solved):
        """Ln of the resolving power over the stated one after the step."""
        return self._ln_power + float(solved.border_step[self._spread])

    def parts(self, solved):
        """Parts of the covariance (n_free, n_free) of the variables: noise, line faults, priors, shifts of orders.

        Their sum is whole.
        """
        n = self._n_narrow
        lines = (solved.response * solved.precision[:n, None]).T @ solved.response
        noise = self.core - self._border.T @ solved.response - lines
        rows = solved.inverse[: self._n_free]
        parts = {
            "noise": rows @ noise @ rows.T,
            "line_faults": rows @ (lines + np.diag(solved.border_precision)) @ rows.T,
            "prior": rows @ (self.prior - self._wavelength_prior) @ rows.T,
        }
        if self._likelihood.parameters.nuisances:
            parts["wavelength"] = rows @ self._wavelength_prior @ rows.T
        return parts

    def pulls(self, solved):
        """Effect of a unit of each unknown fault on the fitted variables, (n_unknowns, n_free)."""
        rows = solved.inverse[: self._n_free]
        wide = slice(self.first_wide, self.first_wide + self.n_wide)
        return np.concatenate([solved.response @ rows.T, -rows[:, wide].T]) * solved.precision[:, None]

    def saturation_gradient(self, solved, columns_at, values, steps):
        r"""Gradient with respect to the variables of a term that the best fit lacks, (n_free,).

        The density of a line's observed strength W is that of its fault over :math:`|dW / d\delta|`. For a weak line
        the latter is W itself, which is given; for a saturated line it depends on how saturated the parameters make it.
        The negative logarithm of the likelihood has :math:`\sum_j \gamma_j \ln |a_j|`, with a the derivative of the
        spectrum by the strength and :math:`\gamma` the share of the fault that the data determine, at a given observed
        strength.

        `columns_at` takes faults' values and `values` by name, and returns LineColumns of each order; `steps` by name
        of the parameters that change profiles.
        """
        free, gradient = self._likelihood.parameters.free, np.zeros(self._n_free)
        n_lines = len(self._faults.values["strength"])
        strengths = self.kind == 0
        told = np.zeros(n_lines)
        told[self.line[strengths]] = np.clip(1 - (solved.precision * solved.variances)[strengths], 0, 1)
        narrow = strengths[: self._n_narrow]
        line = self.line[: self._n_narrow][narrow]
        before = self._effects(columns_at(self._faults.values, values), n_lines)
        for name, step in steps.items():
            if name not in free:
                continue
            i = free.index(name)
            change = -solved.response[narrow, i] * step / self.slopes[i] / np.maximum(told[line], 0.2)
            moved = self._faults.values | {"strength": self._faults.values["strength"].copy()}
            moved["strength"][line] += np.clip(change, -_SATURATED_STEP, _SATURATED_STEP)
            after = self._effects(columns_at(moved, values | {name: values[name] + step}), n_lines)
            known = (before > 0) & (after > 0) & (told > 0.2)
            gradient[i] = np.sum(told[known] * 0.5 * np.log(after[known] / before[known])) / step * self.slopes[i]
        return gradient

    def _effects(self, columns, n_lines):
        """Square of the effect of each line's strength on the spectrum, (n_lines,)."""
        total = np.zeros(n_lines)
        for number, order in self._orders.items():
            own = columns[number]
            if own is not None:
                values = (own.table[:, 0] * order.weight[own.pixels()]) ** 2
                total += np.bincount(own.lines(), values, minlength=n_lines)
        return total

    def _tables(self, noise):
        """Weights and dense columns of each order: derivatives, residual and continuum terms, on all of its pixels."""
        likelihood, linear, free = self._likelihood, self._linear, self._likelihood.parameters.free
        tangents = [_table(rows, free) for rows in linear.orders]
        weighted, levels = linear.weighted(tangents), linear.levels()
        orders, terms, term, pixel, scale = {}, [], len(free), 0, 1 / np.sqrt(noise)
        for piece, table, level in zip(likelihood.pieces, weighted, levels, strict=True):
            n_all = len(linear.orders[piece.order].wavelength)
            order = orders.setdefault(piece.order, _Order(n_all, len(free)))
            order.weight[piece.pixels] = level * scale
            order.dense[piece.pixels, : len(free)] = table * self.slopes * scale
            order.residual[piece.pixels] = linear.residuals[pixel : pixel + len(piece.pixels)] * scale
            pixel += len(piece.pixels)
            if piece.basis is not None:
                model = np.nan_to_num(linear.orders[piece.order].flux[piece.pixels])
                own = np.zeros((n_all, piece.basis.shape[1]))
                own[piece.pixels] = piece.basis * (model * piece.weight * scale)[:, None]
                terms.append((order, own, np.arange(term, term + own.shape[1])))
                term += own.shape[1]
        for order, own, index in terms:
            order.append(own, index)
        return orders

    def _unknowns(self, columns):
        """Choose the unknowns: faults that one scale of theirs makes visible above the noise. Returns wide ones."""
        n_lines = len(self._faults.values["strength"])
        effect, center = np.zeros((n_lines, len(KINDS))), np.full(n_lines, np.inf)
        low, high = np.full(n_lines, np.inf), np.full(n_lines, -np.inf)
        for number, order in self._orders.items():
            own = columns[number]
            if own is None:
                continue
            order.columns = own
            weighted, line = (own.table * order.weight[own.pixels()][:, None]) ** 2, own.lines()
            for k in range(len(KINDS)):
                effect[:, k] += np.bincount(line, weighted[:, k], minlength=n_lines)
            wavelength = self._linear.orders[number].wavelength
            low[own.line] = np.minimum(low[own.line], wavelength[own.start])
            high[own.line] = np.maximum(high[own.line], wavelength[own.stop - 1])
            center[own.line] = 0.5 * (low[own.line] + high[own.line])
        chosen = np.stack([self._faults.seen[kind] for kind in KINDS], axis=1)
        if not chosen.any():
            chosen = effect * np.array([START[kind] for kind in KINDS]) ** 2 > _SEEN**2
        line, kind = np.nonzero(chosen & (effect > 0))
        order = np.lexsort((kind, line, center[line]))
        line, kind = line[order], kind[order]
        place = center[line]
        wide = np.searchsorted(place, high[line]) - np.searchsorted(place, low[line]) > _LONGEST_BAND
        narrow = line[~wide]
        # of each unknown, the last one whose pixels overlap with its own: from `beyond` on all begin later
        beyond = np.minimum.accumulate(low[narrow][::-1])[::-1]
        last = np.searchsorted(beyond, high[narrow], side="right")
        self._n_bands = int(np.max(last - np.arange(len(narrow)), initial=0)) + 1
        self._number = np.full((n_lines, len(KINDS)), -1)
        self._number[narrow, kind[~wide]] = np.arange(len(narrow))
        self.n_wide = int(wide.sum())
        self.line = np.concatenate([narrow, line[wide]])
        self.kind = np.concatenate([kind[~wide], kind[wide]])
        return list(zip(line[wide].tolist(), kind[wide].tolist(), strict=True))

    def _add(self, order, wide):
        """Add the products of one order."""
        own = order.columns
        if own is not None and wide:
            place = {line: i for i, line in enumerate(own.line.tolist())}
            for number, (line, kind) in enumerate(wide):
                if line in place:
                    column = own.column(place[line], kind, len(order.weight)) * order.weight
                    order.append(column[:, None], np.array([self.first_wide + number]))
        at = order.index
        self.core[np.ix_(at, at)] += order.dense.T @ order.dense
        self._by_residual[at] += order.dense.T @ order.residual
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
        band_products(*order.own, order.weight, dense, self._band, products)
        self._border[np.ix_(unknown, at)] += products[:, :-1]
        self._line_by_residual[unknown] += products[:, -1]

    def _prior_of_faults(self):
        """Present faults, and the precision of the prior of each: a Gaussian with the slope of the tails there."""
        faults = self._faults
        values, variances = (np.array([part[name] for name in KINDS]) for part in (faults.values, faults.variances))
        scales = np.array([faults.prior_scale(name) for name in KINDS])
        present, squared = values[self.kind, self.line], scales[self.kind, self.line] ** 2
        return present, (_TAIL + 1) / (_TAIL * squared + present**2 + variances[self.kind, self.line])


class Solved(NamedTuple):
    """A Gauss-Newton step of a FaultSystem.

    `step` (n_free,) of the variables, and `outward` what it would be without limits; of the unknown faults `present`
    values, their `change`, and in the end their `variances` and the `precision` of their prior; `border_step`,
    `inverse` and `border_precision` of the border; `response`, change of narrow faults per unit of the border;
    `log_determinant` of the faults' normal equations over that of their prior.
    """

    system: FaultSystem
    step: np.ndarray
    outward: np.ndarray
    present: np.ndarray
    change: np.ndarray
    variances: np.ndarray
    precision: np.ndarray
    border_step: np.ndarray
    inverse: np.ndarray
    response: np.ndarray
    border_precision: np.ndarray
    log_determinant: float

    def told(self):
        """Share of each unknown fault that the data determine."""
        return np.clip(1 - self.precision * self.variances, 0.0, 1.0)

    def cost(self, extra):
        """Negative logarithm of the likelihood, besides chi-square, over that of a fit with the grid's own lines.

        It is the prior density of what is found, times the volume that is left to it over that of the prior (Laplace's
        approximation). `extra` (n_free,), bool, are variables that the other fit does not have; flat priors of the
        others cancel.
        """
        system, n_narrow = self.system, len(self.response)
        added = self.border_precision > 0
        added[: len(extra)] = extra
        prior = self.border_precision + np.diag(system.prior)
        squared = (self.precision * (self.present + self.change) ** 2)[:n_narrow].sum()
        found = self.border_step.copy()
        found[: len(extra)] = 0.0  # their priors are in the residuals of the fit
        found[system.first_wide : system.first_wide + system.n_wide] += self.present[n_narrow:]
        found[-1] = system.ln_power_after(self)
        squared += (self.border_precision * found**2).sum() + system.prior_cost()
        volume = self.log_determinant - _log_determinant(self.inverse) - np.log(prior[added]).sum()
        volume -= _log_determinant((system.core + system.prior)[np.ix_(~added, ~added)])
        return 0.5 * float(squared + volume)

    def move(self, faults):
        """Faults after this step, and with the scales that it shows."""
        line, kind, told = self.system.line, self.system.kind, self.told()
        values, variances, seen = ({name: array.copy() for name, array in part.items()} for part in faults[:3])
        scales = dict(faults.scales)
        for k, name in enumerate(KINDS):
            own = kind == k
            change = self.change[own]
            if name in ("strength", "wing"):  # the flux of a weak line is linear in its strength, not in the logarithm
                change = np.log(np.maximum(1 + change, _LEAST_FACTOR))
            new = self.present[own] + np.clip(change, -_STEP[name], _STEP[name])
            new = np.clip(new, -_LIMIT[name], _LIMIT[name])
            values[name][line[own]] = new
            variances[name][line[own]] = self.variances[own]
            seen[name][:] = False
            seen[name][line[own]] = True
            spread = faults.spread[name][line[own]]
            weight = (_TAIL + 1) / (_TAIL + (new**2 + self.variances[own]) / (scales[name] * spread) ** 2)
            found = np.sqrt(np.sum(weight * (new / spread) ** 2) / max(told[own].sum(), 1.0))
            largest = LARGEST[name] / np.sqrt(np.mean(spread**2)) if len(spread) else LARGEST[name]
            scales[name] = float(np.clip(found, _LEAST, largest))
        return Faults(values, variances, seen, scales, faults.spread)


class _Order:
    """Weighted columns of one order on all of its pixels."""

    def __init__(self, n_pixels, n_free):
        self.weight, self.residual = np.zeros(n_pixels), np.zeros(n_pixels)
        self._parts, self.index = [np.zeros((n_pixels, n_free))], np.arange(n_free)
        self.columns, self.own = None, None

    @property
    def dense(self):
        """Dense columns, (n_pixels, n)."""
        if len(self._parts) > 1:
            self._parts = [np.column_stack(self._parts)]
        return self._parts[0]

    def append(self, table, index):
        """Add dense columns with their numbers in the border."""
        self._parts.append(table)
        self.index = np.concatenate([self.index, index])


def _table(rows, names):
    """Named tangents as columns, shape (n_pixels, n)."""
    columns = [rows.tangents[name] for name in names]
    return np.column_stack(columns) if columns else np.empty((len(rows.wavelength), 0))


def _step_within(step, inverse, places, limits):
    """A step (m,) with the covariance `inverse` (m, m), whose variables at `places` (n,) stay within `limits` (n, 2).

    The others change as they do with these variables given. Limits contain zero.
    """
    found, held, ends = step, [], []
    for _ in places:
        beyond = np.maximum(limits[:, 0] - found[places], found[places] - limits[:, 1])
        beyond[held] = 0.0
        scaled = beyond / np.sqrt(np.diag(inverse)[places])
        worst = int(np.argmax(scaled))
        if not scaled[worst] > 1e-9:
            break
        held.append(worst)
        ends.append(np.clip(found[places[worst]], *limits[worst]))
        at = places[held]
        found = step + inverse[:, at] @ np.linalg.solve(inverse[np.ix_(at, at)], np.array(ends) - step[at])
    return found


def _log_determinant(matrix):
    """Logarithm of the determinant of a symmetric matrix; rows that vanish are left out."""
    size = np.diag(matrix)
    kept = size > 0
    scale = 1 / np.sqrt(size[kept])
    return float(np.linalg.slogdet(matrix[np.ix_(kept, kept)] * np.outer(scale, scale))[1] + np.log(size[kept]).sum())


def _inverse(matrix):
    """Inverse of a symmetric matrix whose rows may have very different sizes, or vanish."""
    size = np.diag(matrix)
    scale = np.where(size > 0, 1 / np.sqrt(np.where(size > 0, size, 1.0)), 0.0)
    return np.linalg.pinv(matrix * np.outer(scale, scale), hermitian=True) * np.outer(scale, scale)
