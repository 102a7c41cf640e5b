"""LineCalibrator: corrections of the lines of a generator, learnt from observed reference stars."""

import warnings
from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from stellarhml._parallel import map_items
from stellarhml._sklearn import Interval, StrOptions, fit_context
from stellarhml._state import StateError, check_keys, estimator_state, make_estimator, take
from stellarhml.calibration.corrections import Corrections
from stellarhml.calibration.table_states import CORRECTIONS, SPECIES, TAGS, table_state, take_table
from stellarhml.exceptions import InferenceWarning
from stellarhml.flags import InferenceFlag
from stellarhml.inference._bayesian_stellar_regressor import BayesianStellarRegressor, infer_or_report, require_many
from stellarhml.synthesis._spectrum_generator import SpectrumGenerator


class LineCalibrator(BaseEstimator):
    r"""Learn corrections of the lines of a generator from observed reference stars.

    Each star is fitted with uncertain lines, abundances and microturbulence, see `BayesianStellarRegressor.infer`;
    known labels are fixed. What the stars have in common is a fault of the model: the mean over the stars of their
    [X/Fe] is a zero point of the lines of that element, and the mean fault of a line is its correction. Both are
    shrunken, so that lines which no star shows stay as they are. Lines that several stars show and the generator lacks
    are added. With the corrected lines the stars are fitted again.

    Parameters
    ----------
    generator : SpectrumGenerator
        A fitted generator, better with species (`SpectrumGenerator.tag_lines`). It is not changed, and
        :func:`sklearn.base.clone` keeps it.
    n_rounds : int, default=3
        Number of times that all stars are fitted.
    grid_microturbulence : float, default=1.0
        Microturbulence of the grid's spectra, in km/s.
    macroturbulence : {"radial-tangential", "gaussian"}, default=None
        As in `BayesianStellarRegressor.infer`.
    damping : bool, default=False
        As in `BayesianStellarRegressor.infer`.
    bounds : dict, default=None
        As of `BayesianStellarRegressor`, such as ``{"vsini": (0, 20)}``.
    abundance_scatter : float, default=0.05
        Scatter of the [X/Fe] of the reference stars, in dex, and uncertainty of their mean relative to the Sun; 0 if
        the Sun alone is the reference.
    n_jobs : int, default=None
        Number of joblib workers, over stars.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.

    Attributes
    ----------
    generator_ : SpectrumGenerator
        The generator with corrected and added lines. It keeps its species and its error of interpolation between
        nodes; `calibration_` has what is uncertain of its lines.
    corrections_ : DataFrame
        A row for each line of the catalogue, indexed by its wavelength [vacuum angstrom]: `species`, `excitation` [eV]
        and `log_gf` if the lines have species; `equivalent_width` [angstrom] at the mean labels of the stars, before
        the correction; `n_stars` that show it; the corrections `strength` [dex], which includes the zero point of its
        species, `velocity` [km/s], `width` of the core (natural logarithm) and strength of the `wing` [dex]; their
        standard deviations, such as `strength_std`; whether it is `absent`: less than a tenth of its strength; and
        whether it was `added`, with the equivalent width given here: the generator lacked it.
    species_ : DataFrame
        A row for each element and molecule whose abundance was fitted: the `zero_point` of the strengths of its lines
        [dex per atom], its standard deviation `zero_point_std`, and `n_stars`.
    results_ : list of InferenceResult
        The last fit of each star; not in an ASDF file.

    See Also
    --------
    BayesianStellarRegressor : Labels of stars, from `generator_`.

    Notes
    -----
    A star's fault d of a line with posterior variance V, of which the data determine the share :math:`\gamma`, says
    :math:`y = d / \gamma` with the variance :math:`n = V / \gamma`. The correction is

    .. math:: c = \frac{\sum y / (n + t^2)}{\sum 1 / (n + t^2) + P},

    with the scatter t between stars and the precision P of the prior, both found from the data for each kind of fault:
    see :mod:`stellarhml.calibration.combination`. Zero points have a prior of 0.1 dex, and abundances of stars scatter
    by 0.05 dex. Corrections of all rounds add up; their errors are those of the first round that shows the line, since
    later fits take the corrected lines for granted.

    A star with unknown labels has fitted them to the uncorrected lines. The shifts of its labels are found together
    with the corrections, so that one star with known labels calibrates the labels of all. A label that is known for no
    star cannot be calibrated. Of all corrections that differ by what such a label does to the lines, the most probable
    are taken: those without a component along this change, weighted by P. So labels stay on the average what they were
    for a fit with uncertain lines. The same holds for the velocity of all lines.

    Examples
    --------
    >>> from stellarhml import LineCalibrator, SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> sun, pixels = [[5300.0, 4.0, -0.2]], grid.wavelength[50:-50]
    >>> flux = generator.observe(sun, pixels, resolving_power=5e4)[0]
    >>> star = pixels, flux, 0.01 + 0 * flux
    >>> calibrator = LineCalibrator(generator, n_rounds=1).fit([star], sun, resolving_power=5e4)
    >>> corrections, corrected = calibrator.corrections_, calibrator.generator_
    >>> bool(corrections["strength"].abs().max() < 0.01)
    True
    """

    _parameter_constraints: dict = {
        "generator": [SpectrumGenerator],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "grid_microturbulence": [Interval(Real, 0, 20, closed="both")],
        "macroturbulence": [StrOptions({"radial-tangential", "gaussian"}), None],
        "damping": ["boolean"],
        "bounds": [dict, None],
        "abundance_scatter": [Interval(Real, 0, 1, closed="both")],
        "n_jobs": [Integral, None],
        "verbose": ["boolean", None],
    }

    def __init__(
        self,
        generator,
        *,
        n_rounds=3,
        grid_microturbulence=1.0,
        macroturbulence=None,
        damping=False,
        bounds=None,
        abundance_scatter=0.05,
        n_jobs=None,
        verbose=None,
    ):
        self.generator = generator
        self.n_rounds = n_rounds
        self.grid_microturbulence = grid_microturbulence
        self.macroturbulence = macroturbulence
        self.damping = damping
        self.bounds = bounds
        self.abundance_scatter = abundance_scatter
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, spectra, labels=None, *, resolving_power, medium=None, fixed=None):
        """Learn corrections.

        Parameters
        ----------
        spectra : sequence
            Spectra of the reference stars, each as `BayesianStellarRegressor.infer` takes it.
        labels : array-like of shape (n_stars, n_labels), default=None
            Their labels, NaN where unknown. None: all are unknown.
        resolving_power : float, None, or sequence of one for each star
            As in `BayesianStellarRegressor.infer`.
        medium : {"vacuum", "air"}, default=None
            As in `BayesianStellarRegressor.infer`.
        fixed : dict, or sequence of one for each star, default=None
            Known values of other parameters than labels by name, such as ``{"vmic": 1.1}``.

        Returns
        -------
        self : LineCalibrator
            The fitted calibrator.

        Raises
        ------
        TypeError
            If `spectra` is one spectrum, and not a list of them.
        ValueError
            If shapes do not match, a label lies outside the grid, or no star can be fitted.

        Warns
        -----
        InferenceWarning
            Names the stars that cannot be fitted, which are left out.
        """
        generator = self.generator
        check_is_fitted(generator)
        require_many(spectra)
        spectra = list(spectra)
        if not spectra:
            raise ValueError("`spectra` is empty, but one reference star is needed, such as the Sun.")
        labels = _check_labels(labels, len(spectra), generator)
        powers = _for_each(
            resolving_power, len(spectra), "resolving_power", resolving_power is None or np.ndim(resolving_power) == 0
        )
        fixed = _for_each(fixed or {}, len(spectra), "fixed", isinstance(fixed or {}, dict))
        own = {"medium": medium, "macroturbulence": self.macroturbulence, "damping": self.damping}
        stars = []
        for spectrum, row, power, known in zip(spectra, labels, powers, fixed, strict=True):
            given = zip(generator.label_names_, row.tolist(), strict=True)
            known = {**known, **{name: value for name, value in given if np.isfinite(value)}}
            stars.append((spectrum, {"fixed": known, "resolving_power": power, **own}))
        options = {"abundance_scatter": self.abundance_scatter, "grid_microturbulence": self.grid_microturbulence}
        corrections = Corrections(generator, **options)
        for k in range(self.n_rounds):
            self.results_ = self._infer(stars, corrections.generator, f"Round {k + 1} of {self.n_rounds}")
            good = [i for i, result in enumerate(self.results_) if _is_fitted(result)]
            results = [self.results_[i] for i in good]
            corrections.improve(results, np.isnan(labels[good]))
            if k < max(self.n_rounds - 1, 1):  # later rounds correct the lines that were added
                corrections.add_missing(results)
        self.generator_ = corrections.finished()
        self.species_, self.corrections_ = corrections.species(), corrections.table()
        return self

    def _infer(self, stars, generator, description):
        """InferenceResult of each star, with lines that are uncertain."""
        regressor = BayesianStellarRegressor.from_generator(
            generator, line_errors=True, grid_microturbulence=self.grid_microturbulence, bounds=self.bounds
        )
        results = list(
            map_items(
                partial(_infer_star, regressor),
                stars,
                n_jobs=self.n_jobs,
                verbose=self.verbose,
                description=description,
            )
        )
        failed = [i for i, result in enumerate(results) if not _is_fitted(result)]
        if failed:
            found = f"{len(failed)} of {len(results)} stars could not be fitted"
            first = f"the first is star {failed[0]} (counted from 0): {'; '.join(results[failed[0]].messages)}"
            if len(failed) == len(results):
                raise ValueError(f"{found}, {first}")
            warnings.warn(f"{found} and are left out, {first}", InferenceWarning, stacklevel=4)
        return results

    def to_state(self):
        """State for a file, see `stellarhml.storage`: all but `results_`, the fits of the stars."""
        fitted = None
        if hasattr(self, "generator_"):
            tables = {"corrections": table_state(self.corrections_), "species": table_state(self.species_)}
            fitted = {"generator": self.generator_, **tables}
        return estimator_state(self, fitted)

    @classmethod
    def from_state(cls, state):
        """Rebuild the calibrator, without `results_`, from a state; StateError if it is invalid."""
        calibrator, fitted = make_estimator(cls, state)
        if fitted is None:
            return calibrator
        check_keys(fitted, ("generator", "corrections", "species"))
        calibrator.generator_ = take(fitted, "generator", SpectrumGenerator)
        calibrator.corrections_ = take_table(fitted, "corrections", CORRECTIONS, optional=TAGS)
        calibrator.species_ = take_table(fitted, "species", SPECIES)
        catalog = getattr(getattr(calibrator.generator_, "decomposer_", None), "line_catalog_", np.empty(0))
        if not np.array_equal(calibrator.corrections_.index, catalog):
            raise StateError(
                f"`corrections` has {len(calibrator.corrections_)} lines; it must have those of `generator`."
            )
        return calibrator

    def __sklearn_clone__(self):
        # a clone of the generator would not be fitted
        return type(self)(**self.get_params(deep=False))


def _is_fitted(result):
    """Whether an InferenceResult has faults of lines: those of a star that is far from the model cannot be solved."""
    return not result.flags & InferenceFlag.FAILED and result.line_faults is not None


def _infer_star(regressor, star):
    """Result of one star: a spectrum, and arguments of `infer`."""
    spectrum, settings = star
    return infer_or_report(regressor, settings, spectrum)


def _for_each(given, n_stars, name, same):
    """List of a value for each star, from such a list or the `same` value for all."""
    values = [given] * n_stars if same else list(given)
    if len(values) != n_stars:
        raise ValueError(
            f"`{name}` has {len(values)} values for {n_stars} stars; it needs one for all, or a value for each."
        )
    return values


def _check_labels(labels, n_stars, generator):
    """Labels (n_stars, n_labels), NaN where unknown."""
    names, bounds = generator.label_names_, generator.interpolator_.bounds_
    if labels is None:
        return np.full((n_stars, len(names)), np.nan)
    labels = check_array(labels, dtype=np.float64, ensure_all_finite="allow-nan", input_name="labels")
    if labels.shape != (n_stars, len(names)):
        raise ValueError(
            f"`labels` has shape {labels.shape}; it needs a row for each of the {n_stars} stars, and the columns "
            f"{', '.join(names)}, with NaN where a label is unknown."
        )
    outside = np.argwhere((labels < bounds[:, 0]) | (labels > bounds[:, 1]))
    if len(outside):
        star, k = outside[0]
        raise ValueError(
            f"`labels` of star {star} (counted from 0) has {names[k]} = {labels[star, k]:g}, but the grid has "
            f"{bounds[k, 0]:g} to {bounds[k, 1]:g}. Leave the star out, or give NaN to fit this label."
        )
    return labels
