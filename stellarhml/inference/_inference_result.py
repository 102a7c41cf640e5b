"""InferenceResult: what was inferred from one spectrum."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml._rounding import rounded
from stellarhml.flags import InferenceFlag, name_flags

UNITS = {"teff": "K", "logg": "dex(cm/s2)", "feh": "dex", "rv": "km/s", "vsini": "km/s"}
"""Units of parameters by name."""

GRAVE = ~(InferenceFlag.SLOW_ROTATION | InferenceFlag.NOISE_ALONE)
"""Flags that say that a result should not be taken as it stands."""


class OrderFit(NamedTuple):
    """One order of a spectrum beside its model; arrays have shape (n_pixels,).

    Attributes
    ----------
    wavelength : ndarray
        Vacuum wavelengths in angstrom, as observed.
    flux, error : ndarray
        Data; errors are infinite where a pixel was masked, rejected, or is not reached by the generator.
    model : ndarray
        Best model times continuum, in the unit of `flux`. NaN where there is none.
    continuum : ndarray
        The continuum, NaN where there is none.
    model_error : ndarray
        Standard deviation of the generator's own error, in the unit of `flux`.
    number : int
        What the order is called, as its file numbers it; its place where nothing else is known.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    model: np.ndarray
    continuum: np.ndarray
    model_error: np.ndarray
    number: int = 0

    @property
    def residual(self):
        """Data less model, NaN where a pixel was not used."""
        return np.where(np.isfinite(self.error), self.flux - self.model, np.nan)


class InferenceResult:
    """Parameters of one star, how sure they are, and what the spectrum looks like beside the model.

    Attributes
    ----------
    names : tuple of str
        Names of the parameters: labels, then "rv" and "vsini" in km/s.
    values : dict
        Values by name.
    errors : dict
        Standard deviations by name: noise and the generator's own error together. Zero for what was fixed.
    noise_errors, generator_errors : dict
        The two parts.
    covariance : ndarray of shape (n_parameters, n_parameters)
        Covariance of the parameters; zero for what was fixed.
    bounds : ndarray of shape (n_parameters, 2)
        Bounds of the fit.
    reduced_chi2 : float
        Mean of the squared residuals in units of the errors, of those of the generator too. 1 if these explain all;
        NaN if errors were not given.
    n_pixels, n_rejected : int
        Pixels in use, and pixels rejected because they look like no star.
    resolving_power_factor : tuple of float
        Factor by which the lines ask the resolving power to be changed, and its standard deviation.
    jitter : float
        Standard deviation that was added to the errors, in units of the continuum.
    flags : int
        Any of :class:`stellarhml.flags.InferenceFlag`.
    messages : tuple of str
        What a reader must know.
    orders : list of OrderFit
        Data and model.
    draws : ndarray of shape (n_draws, n_parameters) or None
        Draws from the posterior, if it was sampled.
    diagnostics : dict
        Of the sampling: acceptance, autocorrelation times, number of steps.
    n_evaluations : int
        How often the model was computed.
    seconds : float
        Time it took.
    """

    draws = None

    def __init__(self, **contents):
        self.__dict__.update(contents)
        self.diagnostics = contents.get("diagnostics", {})

    @property
    def flag_names(self):
        """Names of the flags, such as ``"AT_BOUND|POOR_FIT"``; empty if none is set."""
        return name_flags(self.flags, InferenceFlag)

    @property
    def good(self):
        """Whether no flag says that the result should not be taken as it stands."""
        return not self.flags & GRAVE

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
        if self.draws is not None:
            return self.draws[rng.integers(len(self.draws), size=n_draws)]
        mean = np.array([self.values[name] for name in self.names])
        return draw_within(rng, mean, self.covariance, self.bounds, n_draws)

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
            Indexed by name: `value`, `error`, `noise_error`, `generator_error`, `unit`.
        """
        columns = {
            "value": self.values,
            "error": self.errors,
            "noise_error": self.noise_errors,
            "generator_error": self.generator_errors,
        }
        table = pd.DataFrame({key: [part[name] for name in self.names] for key, part in columns.items()})
        table["unit"] = [UNITS.get(name, "") for name in self.names]
        return table.set_index(pd.Index(self.names, name="parameter"))

    def to_row(self):
        """All that fits into one row of a table of stars, as a dictionary."""
        row = {}
        for name in self.names:
            row[name], row[f"{name}_error"] = self.values[name], self.errors[name]
        row |= {"reduced_chi2": self.reduced_chi2, "n_pixels": self.n_pixels, "n_rejected": self.n_rejected}
        return row | {"flags": self.flag_names, "message": "; ".join(self.messages), "seconds": self.seconds}

    def __repr__(self):
        lines = []
        for name in self.names:
            value, error = rounded(self.values[name], self.errors[name])
            lines.append(f"{name:>8} {value:>10} +- {error:<7} {UNITS.get(name, '')}".rstrip())
        chi2 = "errors not given" if np.isnan(self.reduced_chi2) else f"reduced chi-square {self.reduced_chi2:.3g}"
        lines.append(f"{self.n_pixels} pixels, {chi2}" + (f", flags {self.flag_names}" if self.flags else ""))
        return "\n".join(["InferenceResult", *lines])


def results_table(results, names=None, *, kind="pandas"):
    """Tabulate the results of many stars.

    Parameters
    ----------
    results : sequence of InferenceResult
        One for each star.
    names : sequence of str, default=None
        Names of the stars. None numbers them.
    kind : {"pandas", "astropy"}, default="pandas"
        What to return. An astropy table has units and descriptions, and writes ECSV and FITS with them.

    Returns
    -------
    table : DataFrame or Table
        One row a star: `star`, value and error of each parameter, `reduced_chi2`, `n_pixels`, `n_rejected`, `flags`,
        `message`, `seconds`.

    Raises
    ------
    ValueError
        If `kind` is neither.
    """
    if kind not in ("pandas", "astropy"):
        raise ValueError(f"`kind` is {kind!r}; it needs 'pandas' or 'astropy'.")
    table = pd.DataFrame([result.to_row() for result in results])
    table.insert(0, "star", list(range(len(results)) if names is None else names))
    return table if kind == "pandas" else with_units(table)


def with_units(frame):
    """Turn a table of inferred parameters into one of astropy, with units and descriptions.

    Parameters
    ----------
    frame : DataFrame
        Columns by name; those of a parameter, with or without ``_error`` or ``_std``, have its unit.

    Returns
    -------
    table : astropy.table.Table
        The same values.
    """
    from astropy.table import Table

    table = Table()
    for name, column in frame.items():
        numbers = pd.api.types.is_numeric_dtype(column)
        table[name] = column.to_numpy() if numbers else np.array(column.fillna("").tolist(), dtype=str)
    for name in table.colnames:
        bare = name.removesuffix("_error").removesuffix("_std")
        column = table[name]
        # FITS knows no dex: descriptions say it
        unit = UNITS.get(bare, "s" if bare == "seconds" else None)
        if unit is not None and not unit.startswith("dex"):
            column.unit = unit
        described = _DESCRIPTIONS.get(bare)
        if described is not None:
            column.description = described if bare == name else f"standard deviation of {name.rsplit('_', 1)[0]}"
    return table


_DESCRIPTIONS = {
    "teff": "effective temperature",
    "logg": "log10 of the surface gravity in cm/s2, in dex",
    "feh": "metallicity, in dex",
    "rv": "radial velocity, positive away from the observer",
    "vsini": "projected rotational velocity",
    "reduced_chi2": "mean squared residual in units of the errors",
    "chi2": "mean squared residual in units of the errors",
    "n_pixels": "pixels in use",
    "n_rejected": "pixels rejected because they look like no star",
    "flags": "what is doubtful, see stellarhml.flags.InferenceFlag",
    "star": "name or number of the star",
    "spectrum": "file of the spectrum",
    "status": "ok, flagged (see note) or failed",
    "note": "what is doubtful, or why it failed",
    "message": "what is doubtful, or why it failed",
    "coverage": "share of the generator's pixels that the spectrum has",
    "rms": "residual in units of the continuum",
    "seconds": "time of this spectrum",
}


def draw_within(rng, mean, covariance, bounds, n_draws):
    """Draw from a Gaussian within bounds.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    mean : ndarray of shape (n,)
        Mean.
    covariance : ndarray of shape (n, n)
        Covariance; a parameter of no finite variance is drawn evenly from its bounds.
    bounds : ndarray of shape (n, 2)
        Bounds.
    n_draws : int
        Number of draws.

    Returns
    -------
    draws : ndarray of shape (n_draws, n)
        Those out of bounds are drawn again, or, where hardly any falls within, put to the nearest bound.
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


def _seed(random_state):
    """Seed of a numpy Generator from what scikit-learn takes."""
    if isinstance(random_state, np.random.RandomState):
        return random_state.randint(2**31 - 1)
    return random_state
