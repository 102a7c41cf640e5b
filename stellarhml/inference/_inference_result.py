"""InferenceResult: parameters, errors and flags of one star, and tables of many."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml._rounding import rounded
from stellarhml._text import escaped
from stellarhml.flags import InferenceFlag, name_flags
from stellarhml.forward.chain import RV, VSINI
from stellarhml.forward.macroturbulence import VMAC
from stellarhml.forward.stages import LABEL_DESCRIPTIONS
from stellarhml.inference.parameter_set import UNITS
from stellarhml.physics.wavelength import SPEED_OF_LIGHT
from stellarhml.spectra.observed_spectrum import ObservedSpectrum

GRAVE = ~(InferenceFlag.SLOW_ROTATION | InferenceFlag.NOISE_ALONE | InferenceFlag.LINES_DIFFER)
"""Flags of results that should not be used without a look at the star."""


PARTS = ("noise", "line_faults", "prior", "wavelength", "generator", "jackknife", "calibration", "floor")
"""Parts of the covariance of a result."""

_BY_FRAME = ("rv_telescope", "rv_barycenter")  # columns of tables where the observatory's velocity is known
NO_FRAME = "not stated"
"""Reference frame of velocities in tables where it is not known."""


class OrderFit(NamedTuple):
    """One order of a spectrum and its best model; arrays have shape (n_pixels,).

    Attributes
    ----------
    wavelength : ndarray
        Vacuum wavelengths in angstrom, as observed.
    flux, error : ndarray
        Data; errors are infinite where a pixel was masked, rejected, or lies outside the generator's band.
    model : ndarray
        Best model times continuum, in the unit of `flux`. NaN where no model exists.
    continuum : ndarray
        The continuum. NaN where no continuum was fitted.
    model_error : ndarray
        Standard deviation of the generator's own error, in the unit of `flux`.
    number : int
        Number of the order in its file, or its place.
    transmission : ndarray or None
        Transmission of the atmosphere as observed, if it was fitted: the model with it over the model without, both
        convolved with the line-spread function.
    transmission_error : ndarray or None
        Its standard deviation, where telluric lines fit worse than the rest; zero where they do not.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    model: np.ndarray
    continuum: np.ndarray
    model_error: np.ndarray
    number: int = 0
    transmission: np.ndarray | None = None
    transmission_error: np.ndarray | None = None

    @property
    def residual(self):
        """Data minus model, NaN where a pixel was not used."""
        return np.where(np.isfinite(self.error), self.flux - self.model, np.nan)


class InferenceResult:
    """Parameters of one star with errors, its spectrum and its best model.

    Attributes
    ----------
    names : tuple of str
        Names of the parameters: labels, "rv" and "vsini", and those of the stages.
    units, descriptions : dict
        Unit and one line of description by name.
    values : dict
        Values by name.
    errors : dict
        Standard deviations by name: all parts, such as noise and the generator's own error, added in quadrature. Zero
        for fixed parameters.
    noise_errors, generator_errors : dict
        The two parts.
    covariance, generator_covariance : ndarray of shape (n_parameters, n_parameters)
        Covariance of the parameters, and the generator's part of it; zero for fixed parameters.
    covariances : dict of str to ndarray of shape (n_parameters, n_parameters)
        All parts of the covariance by name, see `error_budget`.
    line_faults : DataFrame or None
        Faults of the star's lines, where they were fitted: one row for each line, indexed by its wavelength in the
        catalogue, with its number `line`, its `species`, and for each kind ("strength" and "wing", in natural
        logarithms, "velocity" in km/s, ln "width") the fault, such as `strength`, its standard deviation
        `strength_std`, and the share of it that the data determine, `strength_told`.
    missing_lines : DataFrame or None
        Lines that the star shows and the generator lacks, where faults of lines were fitted: a row for each, with its
        `wavelength` at rest [vacuum angstrom], its `equivalent_width` in units of the flux that other lines leave
        [angstrom] and the standard deviation `equivalent_width_std`, the `width` (standard deviation) of a narrow line
        as observed [km/s], and the index of the `order`. It is negative where the model has too much absorption.
    bounds : dict
        Bounds of the fit by name.
    reduced_chi2 : float
        Sum of the squared residuals, in units of the errors with those of the generator, over the degrees of freedom.
        NaN if errors were not given.
    n_pixels, n_rejected : int
        Pixels in use, and pixels rejected as outliers.
    resolving_power_factor : tuple of float
        Factor by which a score test would change the resolving power, and the standard deviation of its logarithm; the
        fitted factor where it is a parameter.
    order_velocities : DataFrame or None
        Radial velocity of each order by itself in km/s: `order`, its number in the file, `rv`, and its standard
        deviation `rv_std` by noise, and by line faults where they were fitted. Labels and the other parameters are
        marginalised: they are fitted to all orders together. Neither priors of wavelengths nor errors of the generator
        enter. Orders without lines are left out; None if rv was fixed.
    jitter : float
        Standard deviation added in quadrature to the errors, in units of the continuum.
    flags : int
        Any of :class:`stellarhml.flags.InferenceFlag`.
    messages : tuple of str
        One sentence for each flag, with the numbers of this star.
    orders : list of OrderFit
        Data and model of each order.
    frame : str or None
        Reference frame of `rv`, that of the wavelengths: "telescope", "barycenter", "heliocenter", "star" if they were
        shifted to its rest frame before. None if the file does not state it.
    barycentric : float or None
        Velocity of the observatory towards the star in km/s, with respect to the barycenter of the solar system, where
        it is known: see `rv_by_frame`.
    draws : ndarray of shape (n_draws, n_parameters) or None
        Draws from the posterior, if it was sampled.
    diagnostics : dict
        Diagnostics of the sampler: acceptance, autocorrelation times, number of steps.
    log_evidence : float or None
        Natural logarithm of the evidence of two components (a second star, or spots) over that of one, where it was
        asked for; the result is of two components if its parameters are.
    generator_name : str or None
        Name of the generator, where :func:`stellarhml.inference.infer_best` chose it among several.
    generator_margin : float or None
        Natural logarithm of its evidence over the highest of the others; below 10 both fit.
    generator_trials : DataFrame or None
        A row for each generator: `generator_name`; pixels that it covers, `n_covered`, and that were compared,
        `n_compared`; `ln_evidence` with respect to the best; `reduced_chi2` of the quick fit.
    n_evaluations : int
        Number of evaluations of the model.
    seconds : float
        Wall time of the fit.
    """

    def __init__(
        self,
        *,
        parameters,
        values,
        covariances,
        reduced_chi2=np.nan,
        n_pixels=0,
        n_rejected=0,
        resolving_power_factor=(1.0, np.inf),
        jitter=0.0,
        flags=0,
        messages=(),
        orders=(),
        frame=None,
        barycentric=None,
        n_evaluations=0,
        seconds=0.0,
        line_faults=None,
        missing_lines=None,
        order_velocities=None,
    ):
        self.names, self.units, self.bounds = parameters.names, parameters.units, dict(parameters.bounds)
        self.descriptions = parameters.descriptions
        self.values = values
        self.covariances, self.line_faults, self.missing_lines = dict(covariances), line_faults, missing_lines
        nothing = np.zeros((len(self.names),) * 2)
        self.generator_covariance = self.covariances.get("generator", nothing)
        self.noise_errors, self.generator_errors = map(
            self._by_name, (self.covariances.get("noise", nothing), self.generator_covariance)
        )
        self.set_covariance(sum(self.covariances.values(), nothing))
        self.reduced_chi2, self.n_pixels, self.n_rejected = reduced_chi2, n_pixels, n_rejected
        self.resolving_power_factor, self.jitter = resolving_power_factor, jitter
        self.flags, self.messages, self.orders = InferenceFlag(flags), tuple(messages), list(orders)
        self.frame, self.n_evaluations, self.seconds = frame, n_evaluations, seconds
        self.order_velocities = order_velocities
        self.barycentric, self.log_evidence = barycentric, None
        self.generator_name = self.generator_margin = self.generator_trials = None
        self.draws, self.diagnostics = None, {}

    @classmethod
    def failed(cls, parameters, message):
        """Make the result of a star that could not be fitted.

        Parameters
        ----------
        parameters : ParameterSet
            Parameters that would have been fitted.
        message : str
            Reason of the failure.

        Returns
        -------
        result : InferenceResult
            With the flag FAILED, and NaN for all values and errors.
        """
        nothing = np.full((len(parameters.names),) * 2, np.nan)
        return cls(
            parameters=parameters,
            values=dict.fromkeys(parameters.names, np.nan),
            covariances={"noise": nothing, "generator": nothing},
            flags=InferenceFlag.FAILED,
            messages=(message,),
        )

    def set_covariance(self, covariance):
        """Set the covariance and the errors that follow from it.

        Parameters
        ----------
        covariance : ndarray of shape (n_parameters, n_parameters)
            The covariance.
        """
        self.covariance, self.errors = covariance, self._by_name(covariance)

    @property
    def rv_scatter(self):
        """Standard deviation between the velocities of orders in km/s that their errors do not explain.

        Zero if they explain all, NaN with fewer than two orders.
        """
        table = self.order_velocities
        return np.nan if table is None else scatter_between(table["rv"].to_numpy(), table["rv_std"].to_numpy())

    @property
    def flag_names(self):
        """Names of the flags, such as ``"AT_BOUND|POOR_FIT"``; empty if none is set."""
        return name_flags(self.flags, InferenceFlag)

    @property
    def rv_by_frame(self):
        """Radial velocity in km/s by frame, "telescope" and "barycenter"; empty if `barycentric` is not known."""
        if self.barycentric is None or self.frame not in (None, "telescope", "barycenter"):
            return {}
        rv, ratio = self.values["rv"], 1 + self.barycentric / SPEED_OF_LIGHT
        if self.frame == "barycenter":
            return {"telescope": (rv - self.barycentric) / ratio, "barycenter": rv}
        return {"telescope": rv, "barycenter": rv * ratio + self.barycentric}

    @property
    def good(self):
        """Whether the result has no flag of `GRAVE`."""
        return not self.flags & GRAVE

    @property
    def status(self):
        """One word: "ok", "flagged" or "failed"."""
        return "failed" if self.flags & InferenceFlag.FAILED else "ok" if self.good else "flagged"

    def without_tellurics(self, *, minimum=0.3):
        """Divide the data by the fitted transmission of the atmosphere, as it was convolved with the line spread.

        Parameters
        ----------
        minimum : float, default=0.3
            Pixels of less transmission are masked, as are those that the atmosphere's table does not cover.

        Returns
        -------
        spectrum : ObservedSpectrum
            The orders of the spectrum, in its own frame. Errors are divided by the transmission, too; where optical
            depths are taken as uncertain, that is included. They are infinite where a pixel is masked, also one that
            the fit rejected.

        Raises
        ------
        ValueError
            If no atmosphere was fitted, `minimum` is not positive, or no pixel is left.
        """
        if not self.orders or self.orders[0].transmission is None:
            raise ValueError("No atmosphere was fitted with this star. Pass `tellurics` to `infer`.")
        if not minimum > 0:
            raise ValueError(f"`minimum` is {minimum}; it needs a transmission over 0, since fluxes are divided by it.")
        orders, n_masked = [], 0
        for order in self.orders:
            good = np.isfinite(order.error) & (np.nan_to_num(order.transmission) >= minimum)
            n_masked += int(np.count_nonzero(np.isfinite(order.error) & ~good))
            level = np.where(good, order.transmission, 1.0)
            own = np.where(good, order.error, 1.0), np.where(good, order.flux * order.transmission_error / level, 0.0)
            error = np.where(good, np.hypot(*own) / level, np.inf)
            orders.append((order.wavelength, np.where(good, order.flux / level, np.nan_to_num(order.flux)), error))
        if not any(np.isfinite(error).any() for _, _, error in orders):
            raise ValueError(f"No pixel has a transmission of {minimum:g} or more. Lower `minimum`.")
        note = f"Divided by a fitted transmission of the atmosphere; {n_masked} pixels below {minimum:g} masked."
        numbers = [order.number for order in self.orders]
        return ObservedSpectrum(orders, {"frame": self.frame, "order_numbers": numbers, "notes": [note]})

    def sample(self, n_draws=1000, *, random_state=None):
        """Draw from the posterior.

        Parameters
        ----------
        n_draws : int, default=1000
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        draws : ndarray of shape (n_draws, n_parameters)
            From the sampled posterior if there is one, else from a Gaussian within the bounds.
        """
        rng = np.random.default_rng(_seed(random_state))
        if self.flags & InferenceFlag.FAILED:
            return np.full((n_draws, len(self.names)), np.nan)
        if self.draws is not None:
            return self.draws[rng.integers(len(self.draws), size=n_draws)]
        mean, bounds = (np.array([part[name] for name in self.names]) for part in (self.values, self.bounds))
        return draw_within(rng, mean, self.covariance, bounds, n_draws)

    def interval(self, level=0.68, *, n_draws=4000, random_state=0):
        """Central credible intervals.

        Parameters
        ----------
        level : float, default=0.68
            Probability of the interval.
        n_draws, random_state : int
            As in `sample`.

        Returns
        -------
        intervals : dict
            Lower and upper end by name.
        """
        draws = self.sample(n_draws, random_state=random_state) if self.draws is None else self.draws
        ends = np.percentile(draws, [50 * (1 - level), 50 * (1 + level)], axis=0).T
        return {name: (float(low), float(high)) for name, (low, high) in zip(self.names, ends, strict=True)}

    def to_frame(self):
        """Tabulate the parameters.

        Returns
        -------
        table : DataFrame
            Indexed by name: `value`, `std`, `noise_std`, `generator_std`, `unit`.
        """
        columns = {
            "value": self.values,
            "std": self.errors,
            "noise_std": self.noise_errors,
            "generator_std": self.generator_errors,
            "unit": self.units,
        }
        table = {key: [part[name] for name in self.names] for key, part in columns.items()}
        return pd.DataFrame(table, index=pd.Index(self.names, name="parameter"))

    def error_budget(self):
        """Tabulate which error comes from what.

        Returns
        -------
        table : DataFrame
            Indexed by name of the parameter: its standard deviation by `noise`; by the faults of lines,
            `line_faults`; by priors, `prior`; by the `wavelength` solution, if its error was stated; by the
            `generator`'s own error; by what the scatter between parts of the spectrum and between species adds,
            `jackknife`; by what a `calibration` of the generator left uncertain, which all its stars share; by the
            `floor` of stars whose lines faults do not describe; `total`, all added in quadrature; and `prior_share`,
            the share of the prior in the variance. A part that was not estimated is zero.
        """
        parts = {name: self._by_name(np.maximum(part, 0.0)) for name, part in self.covariances.items()}
        table = pd.DataFrame(
            {part: [parts.get(part, {}).get(name, 0.0) for name in self.names] for part in PARTS},
            index=pd.Index(self.names, name="parameter"),
        )
        table["total"] = [self.errors[name] for name in self.names]
        with np.errstate(divide="ignore", invalid="ignore"):
            table["prior_share"] = np.nan_to_num((table["prior"] / table["total"]) ** 2)
        return table

    def to_row(self):
        """Row of a table of stars, as a dictionary."""
        row = {}
        for name in self.names:
            row[name], row[f"{name}_std"] = self.values[name], self.errors[name]
        if self.log_evidence is not None:
            row["log_evidence"] = self.log_evidence
        if self.generator_name is not None:
            margin = np.nan if self.generator_margin is None else self.generator_margin
            row |= {"generator_name": self.generator_name, "generator_margin": margin}
        row |= {"reduced_chi2": self.reduced_chi2, "n_pixels": self.n_pixels, "n_rejected": self.n_rejected}
        row["rv_frame"] = self.frame or NO_FRAME
        row |= {f"rv_{frame}": value for frame, value in self.rv_by_frame.items()}
        return row | {"seconds": self.seconds, "flags": self.flag_names, "message": "; ".join(self.messages)}

    def __repr__(self):
        lines = []
        for name in self.names:
            value, error = rounded(self.values[name], self.errors[name])
            lines.append(f"{name:>8} {value:>10} +- {error:<7} {self.units[name]}".rstrip())
        chi2 = "errors not given" if np.isnan(self.reduced_chi2) else f"reduced chi-square {self.reduced_chi2:.3g}"
        lines.append(f"{self.n_pixels} pixels, {chi2}" + (f", flags {self.flag_names}" if self.flags else ""))
        return "\n".join(["InferenceResult", *lines])

    def _by_name(self, covariance):
        return dict(zip(self.names, np.sqrt(np.diag(covariance)).tolist(), strict=True))


def results_table(results, names=None, *, kind="pandas", status=False):
    """Tabulate the results of many stars.

    Parameters
    ----------
    results : sequence of InferenceResult
        One for each star.
    names : sequence of str, default=None
        Names of the stars. None numbers them. Characters that cannot be printed are escaped.
    kind : {"pandas", "astropy"}, default="pandas"
        Type of the table. An astropy table has units and descriptions, and writes ECSV and FITS with them.
    status : bool, default=False
        Whether to add a column `status` after the names: "ok", "flagged" or "failed".

    Returns
    -------
    table : DataFrame or Table
        One row for each star: `star`, value `NAME` and standard deviation `NAME_std` of each parameter,
        `log_evidence`, `generator_name` and `generator_margin` where a star has them, `reduced_chi2`, `n_pixels`,
        `n_rejected`, `rv_frame`, `seconds`, `flags`, `message`.

    Raises
    ------
    ValueError
        If `kind` is neither.
    """
    if kind not in ("pandas", "astropy"):
        raise ValueError(f"`kind` is {kind!r}; it needs 'pandas' or 'astropy'.")
    table = rows_to_frame([result.to_row() for result in results])
    names = range(len(results)) if names is None else names
    table.insert(0, "star", [escaped(name) if isinstance(name, str) else name for name in names])
    if status:
        table.insert(1, "status", [result.status for result in results])
    units = {name: unit for result in results for name, unit in result.units.items()}
    described = {name: text for result in results for name, text in result.descriptions.items()}
    return table if kind == "pandas" else with_units(table, units, described)


def rows_to_frame(rows):
    """DataFrame of rows of stars (dictionaries): parameters, which may differ, then what all rows have."""
    last = ["reduced_chi2", "n_pixels", "n_rejected", "rv_frame", *_BY_FRAME, "seconds", "flags", "message"]
    between = ("log_evidence", "generator_name", "generator_margin")
    there = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in there if name not in last and name not in between]
    columns += [name for name in between if name in there]
    columns += [name for name in last if name in there or name not in _BY_FRAME]
    return pd.DataFrame(rows, columns=columns if rows else None)


def with_units(frame, units=None, descriptions=None):
    """Convert a table of inferred parameters to an astropy table with units and descriptions.

    `units` are those of the parameters by name, and `NAME_std` and the like have that of `NAME`; None: the units of the
    labels and velocities.
    """
    from astropy.table import Table

    units, descriptions = (UNITS if units is None else units) | {"seconds": "s"}, _DESCRIPTIONS | (descriptions or {})
    table = Table()
    for name, column in frame.items():
        numbers = pd.api.types.is_numeric_dtype(column)
        texts = [] if numbers else [_for_astropy(text) for text in column.fillna("")]
        table[name] = column.to_numpy() if numbers else np.array(texts, dtype=str)
    for name in table.colnames:
        bare, prefix = name, ""
        for suffix, text in _SUFFIXES.items():
            if name.endswith(suffix):
                bare, prefix = name.removesuffix(suffix), text
        column, unit = table[name], units.get(bare)
        # FITS has no unit dex: the description states it
        if unit and not unit.startswith("dex"):
            column.unit = unit
        described = descriptions.get(bare)
        if described is not None:
            column.description = prefix + described
    return table


def _for_astropy(text):
    """Escaped text; astropy takes a line of an ECSV file that begins with # for a comment."""
    text = escaped(str(text))
    return rf"\x23{text[1:]}" if text.startswith("#") else text


_SUFFIXES = {"_std": "standard deviation of the ", "_true": "true ", "_difference": "found minus true "}
_DESCRIPTIONS = LABEL_DESCRIPTIONS | {
    RV.name: RV.description,
    VSINI.name: VSINI.description,
    VMAC.name: VMAC.description,
    "log_evidence": "ln evidence of two components over that of one",
    "generator_name": "generator with the highest evidence",
    "generator_margin": "ln evidence of this generator over the highest of the others",
    "reduced_chi2": "reduced chi-square of the fit",
    "n_pixels": "pixels in use",
    "n_rejected": "pixels rejected as outliers",
    "rv_frame": "reference frame of rv, as the file states it",
    "flags": "quality flags, see stellarhml.flags.InferenceFlag",
    "star": "name, number or file of the star",
    "status": "ok, flagged (see message) or failed",
    "message": "explanation of the flags or of the failure",
    "seconds": "wall time of this star",
}


def draw_within(rng, mean, covariance, bounds, n_draws):
    """Draw from a Gaussian within `bounds` (n, 2); returns shape (n_draws, n).

    A parameter with infinite variance is drawn uniformly. Draws out of bounds are repeated, up to 50 times, and then
    clipped to the bounds.
    """
    low, high = bounds.T
    seen = np.isfinite(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance[np.ix_(seen, seen)])
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = np.where(seen, mean, 0.0) + np.zeros((n_draws, len(mean)))
    todo = np.arange(n_draws)
    for _ in range(50):
        fresh = mean[seen] + rng.normal(size=(len(todo), int(seen.sum()))) @ root.T
        draws[np.ix_(todo, seen)] = fresh
        todo = todo[((fresh < low[seen]) | (fresh > high[seen])).any(axis=1)]
        if not len(todo):
            break
    draws[:, ~seen] = rng.uniform(low[~seen], high[~seen], size=(n_draws, int((~seen).sum())))
    return np.clip(draws, low, high)


def scatter_between(values, errors):
    """Standard deviation between values (n,) that their errors do not explain.

    References
    ----------
    .. [1] DerSimonian, R. and Laird, N. (1986), "Meta-analysis in clinical trials", Controlled Clinical Trials 7, 177.
       doi:10.1016/0197-2456(86)90046-2
    """
    if len(values) < 2:
        return np.nan
    weight = 1 / np.square(errors)
    apart = values - np.average(values, weights=weight)
    excess = np.sum(weight * apart**2) - (len(values) - 1)
    return float(np.sqrt(max(excess / (weight.sum() - np.sum(weight**2) / weight.sum()), 0.0)))


def _seed(random_state):
    """Seed of a numpy Generator from a `random_state` of scikit-learn."""
    if isinstance(random_state, np.random.RandomState):
        return random_state.randint(2**31 - 1)
    return random_state
