"""BayesianStellarRegressor: flux to labels, by searching a spectrum generator."""

import warnings
from functools import partial
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from stellarhml._parallel import map_items
from stellarhml._sklearn import HasMethods, Interval, StrOptions, fit_context
from stellarhml.exceptions import InferenceWarning
from stellarhml.inference._inference_result import draw_within
from stellarhml.inference.observing import ObservingMixin
from stellarhml.inference.parameters import RV_BOUNDS, VSINI_BOUNDS, check_priors, check_ranges
from stellarhml.inference.rest_fit import infer_at_rest
from stellarhml.inference.templates import choose_nodes, make_templates
from stellarhml.synthesis._spectrum_generator import SpectrumGenerator

_SCAN_PIXELS = 4096  # pixels that the scan of nodes compares: those in which the nodes differ most
_AT_BOUND = 1e-6  # share of a label's range within which a result counts as being at its bound


class BayesianStellarRegressor(ObservingMixin, MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Infer labels from spectra by searching a spectrum generator.

    `fit` fits the `generator` on (labels, flux). `predict` finds, for each spectrum, the labels whose generated
    spectrum is nearest: a global search, then a least-squares polish from the best points. The default search
    compares the spectra of all nodes; the paper's is a Gaussian-process minimisation of the RMS difference with 30
    random and 20 guided calls.

    Parameters
    ----------
    generator : SpectrumGenerator, default=None
        Model of the spectra. None is ``SpectrumGenerator()``.
    search : {"nodes", "bayes"}, default="nodes"
        "nodes": the spectra of all nodes are compared. "bayes": `skopt.gp_minimize`, as in the paper; takes ten times
        as long.
    n_initial_points : int, default=30
        Random calls of the "bayes" search. The published version of the paper takes 100.
    n_calls : int, default=50
        All calls of the "bayes" search. The published version takes 120.
    polish : bool, default=True
        Whether a least-squares fit follows the search. False returns the best point of the search, as the paper does.
    n_starts : int, default=3
        Points of the search from which the polish starts; the best result counts.
    continuum_degree : int, default=3
        Degree of a polynomial by which the model may be multiplied to meet each spectrum, found anew for every
        evaluation: the normalisation of a noisy spectrum is never exact. None compares fluxes as they are, as the
        paper does.
    bounds : dict, default=None
        Lowest and highest value of labels by name, within those of the grid, such as ``{"teff": (5000, 6000)}``; for
        `infer` also of "rv" and "vsini" in km/s (default -500 to 500 and 0 to 300). With astropy's units or without.
    priors : dict, default=None
        Mean and standard deviation of a normal prior by name, such as ``{"logg": (4.4, 0.1)}``: of labels, and for
        `infer` also of "rv" and "vsini". Other priors are flat between the bounds. That of "teff" may come from a
        color, see :func:`stellarhml.inference.teff_from_gaia`.
    generator_error : bool, default=True
        Whether the generator's own error, see `SpectrumGenerator.error_map_`, is counted: as variance of the pixels
        where errors of the fluxes are known, and in the standard deviations.
    random_state : int, RandomState instance or None, default=None
        Seed of the search. It is drawn once in `fit`: a spectrum's result does not depend on the others.
    n_jobs : int, default=None
        Number of joblib workers over spectra.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.

    Attributes
    ----------
    generator_ : SpectrumGenerator
        The fitted generator.
    bounds_ : ndarray of shape (n_labels, 2), dtype float64
        Lowest and highest labels of the search.
    observed_bounds_ : ndarray of shape (n_labels + 2, 2), dtype float64
        The same with those of the radial velocity and of vsini, for `infer`.
    n_features_in_ : int
        Number of pixels.

    See Also
    --------
    SpectrumGenerator : The forward model.

    Notes
    -----
    The standard deviations of ``predict(..., return_std=True)`` are those of the linearised least-squares fit: noise,
    given as `flux_error` or estimated from the residuals, with the freedom of the continuum, and the error of the
    generator as its held-out nodes tell it.

    Examples
    --------
    >>> from stellarhml import BayesianStellarRegressor, SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength)
    >>> regressor = BayesianStellarRegressor(generator=generator, search="nodes", random_state=0)
    >>> regressor.fit(grid.flux, grid.labels).predict(grid.flux[7:8]).shape
    (1, 3)
    """

    _parameter_constraints: dict = {
        "generator": [HasMethods(["fit", "predict_nearest", "jacobian"]), None],
        "search": [StrOptions({"bayes", "nodes"})],
        "n_initial_points": [Interval(Integral, 1, None, closed="left")],
        "n_calls": [Interval(Integral, 2, None, closed="left")],
        "polish": ["boolean"],
        "n_starts": [Interval(Integral, 1, None, closed="left")],
        "continuum_degree": [Interval(Integral, 0, None, closed="left"), None],
        "bounds": [dict, None],
        "priors": [dict, None],
        "generator_error": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["boolean", None],
    }

    def __init__(
        self,
        *,
        generator=None,
        search="nodes",
        n_initial_points=30,
        n_calls=50,
        polish=True,
        n_starts=3,
        continuum_degree=3,
        bounds=None,
        priors=None,
        generator_error=True,
        random_state=None,
        n_jobs=None,
        verbose=None,
    ):
        self.generator = generator
        self.search = search
        self.n_initial_points = n_initial_points
        self.n_calls = n_calls
        self.polish = polish
        self.n_starts = n_starts
        self.continuum_degree = continuum_degree
        self.bounds = bounds
        self.priors = priors
        self.generator_error = generator_error
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Fit the generator on a grid of spectra.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Fluxes of the grid: raw if the generator has a preprocessor, else normalised.
        y : array-like of shape (n_spectra, n_labels) or (n_spectra,)
            Their labels.

        Returns
        -------
        self : BayesianStellarRegressor
            The fitted regressor.

        Raises
        ------
        ValueError
            If shapes do not match, a value is not finite, there is one node only, or `bounds` leaves the grid.
        """
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True)
        labels = check_array(y.reshape(len(y), -1), dtype=np.float64)
        if len(np.unique(labels, axis=0)) < 2:
            raise ValueError(
                f"The grid has one node only ({len(X)} spectra, n_samples = 1 distinct label): nothing lies "
                "between. Give spectra at two or more labels."
            )
        generator = SpectrumGenerator() if self.generator is None else clone(self.generator)
        return self._adopt(generator.fit(labels, X), one_output=y.ndim == 1)

    @classmethod
    def from_generator(cls, generator, **parameters):
        """Build a regressor around a generator that is fitted already.

        Parameters
        ----------
        generator : SpectrumGenerator
            A fitted generator.
        **parameters : dict
            Parameters of the constructor, but for `generator`.

        Returns
        -------
        regressor : BayesianStellarRegressor
            Fitted; `predict` takes spectra as the generator's training spectra were.
        """
        check_is_fitted(generator)
        regressor = cls(generator=generator, **parameters)
        regressor._validate_params()
        first = generator.preprocessor_ or generator.decomposer_
        regressor.n_features_in_ = first.n_features_in_
        return regressor._adopt(generator, one_output=False)

    def predict(self, X, *, flux_error=None, return_std=False):
        """Infer labels.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Fluxes, as those of `fit`.
        flux_error : array-like of shape (n_spectra, n_pixels), default=None
            Standard deviations of the fluxes, positive; infinity masks a pixel. With a preprocessor in the
            generator they are scaled as the flux is; a preprocessor in front of this step, in a pipeline, leaves
            them alone, and they must be those of the normalised flux.
        return_std : bool, default=False
            Whether to return standard deviations too.

        Returns
        -------
        labels : ndarray of shape (n_spectra, n_labels) or (n_spectra,)
            Inferred labels.
        std : ndarray of the same shape
            Standard deviations, only if `return_std`. Infinite where a label leaves no trace in the spectrum.

        Warns
        -----
        InferenceWarning
            With the number of spectra whose labels lie at a bound, or whose polish did not converge.
        """
        labels, covariances = self._infer(X, flux_error, return_std)
        std = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        if self._one_output:
            labels, std = labels[:, 0], std[:, 0]
        return (labels, std) if return_std else labels

    def sample_posterior(self, X, *, flux_error=None, n_draws=1000, random_state=None):
        """Draw labels from their posterior, a Gaussian about the best fit within the bounds.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Fluxes, as those of `fit`.
        flux_error : array-like of shape (n_spectra, n_pixels), default=None
            As in `predict`.
        n_draws : int, default=1000
            Number of draws for each spectrum.
        random_state : int, RandomState instance or None, default=None
            Seed. A spectrum's draws depend on its place in X.

        Returns
        -------
        draws : ndarray of shape (n_spectra, n_draws, n_labels)
            Labels.
        """
        labels, covariances = self._infer(X, flux_error, True)
        rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
        return np.stack(
            [draw_within(rng, *star, self.bounds_, n_draws) for star in zip(labels, covariances, strict=True)]
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # a model of absorption lines cannot follow arbitrary features
        tags.regressor_tags.poor_score = True
        return tags

    def _infer(self, X, flux_error, with_covariance):
        """Labels, shape (n_spectra, n_labels), and their covariances."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        error = self._check_error(flux_error, X)
        if error is not None:
            X = _bridge_masked(X, error)
        flux = np.asarray(self.generator_.normalise(X), dtype=np.float64)
        if error is not None and self.generator_.preprocessor_ is not None:
            error = self._scale_error(error, X, flux)
            _require_pixels(error)
        items = [(flux[i], None if error is None else error[i]) for i in range(len(flux))]
        rows = list(
            map_items(
                partial(infer_at_rest, self, with_covariance),
                items,
                n_jobs=self.n_jobs,
                verbose=self.verbose,
                description="Inferring labels",
            )
        )
        labels, covariances = (np.stack([row[k] for row in rows]) for k in (0, 1))
        self._warn(labels, [row[2] for row in rows], [row[3] for row in rows])
        return labels, covariances

    def _adopt(self, generator, *, one_output):
        """Take a fitted generator and prepare the search."""
        self.generator_ = generator
        self._one_output = one_output
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        names = generator.label_names_
        limits = np.vstack([generator.interpolator_.bounds_, RV_BOUNDS, VSINI_BOUNDS])
        self.observed_bounds_ = check_ranges(self.bounds, (*names, "rv", "vsini"), limits)
        check_priors(self.priors, (*names, "rv", "vsini"))
        self.bounds_ = self.observed_bounds_[: len(names)]
        self._nodes = generator.interpolator_.nodes_
        inside = np.all((self._nodes >= self.bounds_[:, 0]) & (self._nodes <= self.bounds_[:, 1]), axis=1)
        self._nodes = self._nodes[inside] if inside.any() else self.bounds_.mean(axis=1)[None]
        self._templates = None
        if self.search == "nodes":
            flux = np.concatenate([generator.predict_nearest(node[None])[0].astype(np.float32) for node in self._nodes])
            spread = flux.std(axis=0)
            self._scan_pixels = np.sort(np.argsort(-spread, kind="stable")[:_SCAN_PIXELS])
            self._scan_flux = flux[:, self._scan_pixels].astype(np.float64)
            few = choose_nodes(self._nodes)
            self._templates = make_templates(generator, self._nodes[few], flux[few])
        return self

    def _check_error(self, flux_error, X):
        if flux_error is None:
            return None
        error = check_array(flux_error, dtype=np.float64, ensure_all_finite=False, input_name="flux_error")
        if error.shape != X.shape or np.isnan(error).any() or (error <= 0).any():
            raise ValueError(
                f"`flux_error` has shape {error.shape}, {int(np.isnan(error).sum())} NaN and {int((error <= 0).sum())} "
                f"values that are not positive; it needs a positive error for each flux, shape {X.shape}. Give "
                "infinity to mask a pixel."
            )
        _require_pixels(error)
        return error

    def _scale_error(self, error, X, flux):
        """Errors in units of the normalised flux: the normalisation divides by a continuum."""
        pixels = self.generator_.preprocessor_._pixels
        raw = X[:, pixels]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = flux / raw
        return error[:, pixels] * np.where(np.isfinite(ratio), ratio, np.nanmedian(ratio, axis=1, keepdims=True))

    def _warn(self, labels, converged, outside):
        low, high = self.bounds_.T
        slack = _AT_BOUND * (high - low)
        free = high > low
        at_bound = ((labels <= low + slack) | (labels >= high - slack))[:, free].any(axis=1)
        at_bound |= np.array(outside)
        n_bound, n_failed = int(at_bound.sum()), int(len(labels) - sum(converged))
        if n_bound or n_failed:
            warnings.warn(
                f"Of {len(labels)} spectra, {n_bound} have a label at a bound of the grid, {n_failed} did not "
                "converge. A label at a bound may lie outside; widen the grid, or increase n_calls.",
                InferenceWarning,
                stacklevel=4,
            )


def _bridge_masked(X, error):
    """Replace masked pixels by a line between their neighbours, so that the normalisation does not see them."""
    X = X.copy()
    for row, good in zip(X, np.isfinite(error), strict=True):
        pixels = np.arange(len(row))
        row[~good] = np.interp(pixels[~good], pixels[good], row[good])
    return X


def _require_pixels(error):
    """Raise if a spectrum has no pixel left, in all or in the window of the generator."""
    if not np.isfinite(error).any(axis=1).all():
        first = int(np.argmin(np.isfinite(error).any(axis=1)))
        raise ValueError(
            f"All pixels of spectrum {first} that the generator uses are masked by `flux_error`. Leave the spectrum "
            "out, or unmask pixels."
        )
