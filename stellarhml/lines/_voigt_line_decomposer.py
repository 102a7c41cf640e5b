"""VoigtLineDecomposer: line parameters from normalised flux, and back."""

import copy
import os
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted, validate_data

from stellarhml._grid_faults import check_grid_spectra
from stellarhml._sklearn import Interval, StrOptions, fit_context
from stellarhml._state import StateError, check_keys, estimator_state, make_estimator, take, take_number
from stellarhml._validation import (
    check_wavelength,
    feature_names,
    stored_wavelength,
    take_feature_names,
    take_wavelength,
)
from stellarhml.kernels.line_profiles import get_profile
from stellarhml.lines.catalog import LineCatalog, velocity_scale
from stellarhml.lines.catalog_learning import learn_catalog, refine_catalog
from stellarhml.lines.decomposition import FitSettings, decompose_rows, find_minima, render_rows
from stellarhml.lines.prior import LinePrior
from stellarhml.storage.result_store import ResultStore


class VoigtLineDecomposer(TransformerMixin, BaseEstimator):
    r"""Decompose spectra into Voigt-like absorption lines.

    Lines are minima of the flux with a given prominence; a spectrum is the product of its lines. `fit` detects the
    lines of all spectra and tracks them over the grid into one catalogue; `transform` fits each spectrum with lines of
    the catalogue; `inverse_transform` renders line parameters; `decompose` is `transform` with errors and flags.

    By default saturating lines are fitted by Levenberg-Marquardt. `fit` then also fits training spectra, adds lines
    where the residuals have minima, and learns to predict the line parameters of a spectrum from a few principal
    components of its flux: the prediction is the first guess and the prior of later fits. Each spectrum is fitted with
    all lines of the catalogue that change its flux, detected or not. The paper's method is
    ``profile="pseudo-voigt", solver="adam", wing_cut=6000, max_iter=100, match_tolerance=0, fit_undetected=False,
    line_margin=30, loss_margin=60`` (:data:`stellarhml.pipeline.PAPER_SETTINGS`): mean squared error, Adam with
    amsgrad.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,), default=None
        Vacuum wavelengths of the columns of `X`, in angstrom, strictly increasing. If None, the pixel index is used,
        and every length below is in pixels.
    prominence : float, default=0.005
        Smallest prominence of a line, in units of the continuum.
    distance : int, default=4
        Smallest distance between two lines of a spectrum, in pixels.
    profile : {"minnaert", "saturated-voigt", "pseudo-voigt", "blase"}, default="minnaert"
        Line profile: two that saturate, Eq. 2 of the paper, and that of the code of blase (see
        :mod:`stellarhml.kernels.line_profiles`).
    solver : {"lm", "adam"}, default="lm"
        Levenberg-Marquardt with priors, or the paper's training by automatic differentiation.
    wing_cut : int, default=None
        Number of pixels around its center on which a line is evaluated; the paper takes 6000. None: all pixels whose
        flux it changes.
    line_margin : float, default=0.0
        Lines closer than this to either end are left out, in angstrom. The paper takes 30.
    loss_margin : float, default=0.0
        Pixels closer than this to either end are left out of the loss, in angstrom. The paper takes 60.
    n_lines : int, default=None
        Largest number of lines detected in a spectrum; the most prominent are kept, and none is added later. None
        keeps all.
    match_tolerance : float, default=2.0
        Distance up to which minima of neighbouring spectra are the same line, in km/s. 0 takes equal pixels for the
        same line, which is the paper's rule.
    fit_undetected : bool, default=True
        Whether a spectrum is fitted with all lines of the catalogue, or only with those detected in it (the paper).
    learning_rate : float, default=0.05
        Step of Adam, in angstrom for centers and in natural logarithms for the rest.
    noise : float, default=None
        Standard deviation of the flux for "lm", which sets the weight of the data against the priors: the smaller, the
        closer the fit; the larger, the smoother the parameters from spectrum to spectrum. At several times the default,
        the prior biases lines that move by several pixels over the grid. None: 0.01, and 0.005 if there are lines of
        hydrogen as wide as in hot stars.
    n_rounds : int, default=3
        Largest number of rounds in which "lm" adds lines where the residuals of the training spectra have minima of
        the given prominence.
    rms_tol : float, default=0.001
        Median RMS of the residuals, in units of the continuum, at which no more lines are added.
    subsample : int, default=32
        Largest number of training spectra, whose fits give the added lines and the prior: those that differ most from
        each other. None takes all.
    max_iter : int, default=200
        Number of epochs of "adam" (the paper: 100), largest number of steps of "lm".
    tol : float, default=1e-4
        Relative decrease of its objective at which "lm" stops.
    sparse_output : bool, default=True
        Whether `transform` returns a scipy CSR matrix, in which absent lines take no memory, or a dense array, in
        which they are NaN. ``set_output(transform="pandas")`` needs False.
    backend : {"native", "blase"}, default="native"
        Code that fits the lines. "blase" uses an installed gully/blase (not the package of that name on PyPI) and needs
        ``profile="blase"`` and ``solver="adam"``.
    store : str or path-like, default=None
        Folder to which the fit of each spectrum is written at once. The same job, started again after an interruption,
        reads and verifies these fits and computes the rest.
    n_jobs : int, default=None
        Number of joblib workers, over spectra.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.

    Attributes
    ----------
    wavelength_ : ndarray of shape (n_pixels,), dtype float64
        Wavelengths in use, in angstrom.
    line_catalog_ : ndarray of shape (n_catalog_lines,), dtype float64
        Wavelength of each line of the catalogue, in angstrom, increasing.
    n_detected_ : ndarray of shape (n_catalog_lines,), dtype int64
        Number of spectra in which `fit` detected each line; 0 for lines that were added.
    n_iter_ : int
        Equal to `max_iter`: number of epochs of "adam", largest number of steps of "lm".
    n_features_in_ : int
        Number of pixels seen during :term:`fit`.

    See Also
    --------
    LineManifoldInterpolator : Interpolates the parameters of each line over a grid.

    Notes
    -----
    The numba kernels of :mod:`stellarhml.kernels.fused` compute the flux and its derivatives; "adam" calls them through
    a ``torch.autograd.Function`` and trains with torch. Memory is linear in pixels plus lines. The result for a row
    depends on what `fit` has learnt, but neither on the other rows nor on `n_jobs`. Rows are read one at a time, so
    that `X` may be a memory map; the line parameters then lie in one too, of a temporary file.

    Examples
    --------
    >>> from stellarhml import VoigtLineDecomposer
    >>> from stellarhml.datasets import make_stellar_grid
    >>> grid = make_stellar_grid(random_state=0)
    >>> decomposer = VoigtLineDecomposer(wavelength=grid.wavelength)
    >>> theta = decomposer.fit_transform(grid.flux)
    >>> theta.shape == (len(grid.flux), 6 * len(decomposer.line_catalog_))
    True
    >>> bool(abs(decomposer.inverse_transform(theta) - grid.flux).mean() < 0.01)
    True
    """

    _parameter_constraints: dict = {
        "wavelength": ["array-like", None],
        "prominence": [Interval(Real, 0, None, closed="neither")],
        "distance": [Interval(Integral, 1, None, closed="left")],
        "profile": [StrOptions({"minnaert", "saturated-voigt", "pseudo-voigt", "blase"})],
        "solver": [StrOptions({"lm", "adam"})],
        "wing_cut": [Interval(Integral, 1, None, closed="left"), None],
        "line_margin": [Interval(Real, 0, None, closed="left")],
        "loss_margin": [Interval(Real, 0, None, closed="left")],
        "n_lines": [Interval(Integral, 1, None, closed="left"), None],
        "match_tolerance": [Interval(Real, 0, None, closed="left")],
        "fit_undetected": ["boolean"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "noise": [Interval(Real, 0, None, closed="neither"), None],
        "n_rounds": [Interval(Integral, 0, None, closed="left")],
        "rms_tol": [Interval(Real, 0, None, closed="left")],
        "subsample": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "sparse_output": ["boolean"],
        "backend": [StrOptions({"native", "blase"})],
        "store": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "verbose": ["boolean", None],
    }

    def __init__(
        self,
        *,
        wavelength=None,
        prominence=0.005,
        distance=4,
        profile="minnaert",
        solver="lm",
        wing_cut=None,
        line_margin=0.0,
        loss_margin=0.0,
        n_lines=None,
        match_tolerance=2.0,
        fit_undetected=True,
        learning_rate=0.05,
        noise=None,
        n_rounds=3,
        rms_tol=0.001,
        subsample=32,
        max_iter=200,
        tol=1e-4,
        sparse_output=True,
        backend="native",
        store=None,
        n_jobs=None,
        verbose=None,
    ):
        self.wavelength = wavelength
        self.prominence = prominence
        self.distance = distance
        self.profile = profile
        self.solver = solver
        self.wing_cut = wing_cut
        self.line_margin = line_margin
        self.loss_margin = loss_margin
        self.n_lines = n_lines
        self.match_tolerance = match_tolerance
        self.fit_undetected = fit_undetected
        self.learning_rate = learning_rate
        self.noise = noise
        self.n_rounds = n_rounds
        self.rms_tol = rms_tol
        self.subsample = subsample
        self.max_iter = max_iter
        self.tol = tol
        self.sparse_output = sparse_output
        self.backend = backend
        self.store = store
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the lines of a grid.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Normalised fluxes, continuum 1.
        y : array-like of shape (n_spectra, n_labels), default=None
            Labels of the spectra, if known: lines are tracked along their axes. A `y` that is not numeric is ignored.

        Returns
        -------
        self : VoigtLineDecomposer
            The fitted transformer.

        Raises
        ------
        ValueError
            If `wavelength` does not match `X`, a flux is not finite, or a spectrum of 50 pixels or more is not
            normalised or has a stretch without light.
        BlaseNotInstalledError
            If ``backend="blase"`` and gully/blase is not installed.
        StoreError
            If `store` cannot be written.
        """
        X = validate_data(self, X, dtype=FLOAT_DTYPES)
        self.wavelength_ = check_wavelength(self.wavelength, n_pixels=X.shape[1])
        check_grid_spectra(X, None if self.wavelength is None else self.wavelength_, normalised=True)
        settings = self._fit_settings()
        if self.backend == "blase":
            from stellarhml.lines.blase_backend import require_blase

            require_blase()
            if self.profile != "blase" or self.solver != "adam":
                raise ValueError(
                    f"backend='blase' fits profile='blase' by solver='adam' only, but profile={self.profile!r} and "
                    f"solver={self.solver!r}. Change them, or the backend."
                )
        if y is not None:
            check_consistent_length(X, y)
        labels = labels_of(y, len(X))
        catalog, tracks = learn_catalog(X, labels, settings, n_jobs=self.n_jobs, verbose=self.verbose)
        settings = settings.replace(catalog=catalog)
        if self.solver == "lm":
            options = {name: getattr(self, name) for name in ("n_rounds", "rms_tol", "subsample")}
            settings = refine_catalog(X, labels, settings, tracks, **options, **self._workers())
        self._set_learnt(settings.catalog, settings.prior, settings.typical_rms)
        return self

    def transform(self, X):
        """Fit lines to spectra.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Normalised fluxes, continuum 1.

        Returns
        -------
        theta : csr_matrix or ndarray of shape (n_spectra, n_parameters * n_catalog_lines)
            Column ``n_parameters * i + j`` is parameter j of catalogue line i. Always float64: in float32 a
            center would be rounded to 0.001 angstrom.

        Raises
        ------
        StoreError
            If `store` cannot be written.

        Warns
        -----
        LineDetectionWarning
            States the number of spectra without lines.
        ConvergenceWarning
            States the number of spectra that ``solver="lm"`` has not fitted within `max_iter` steps.
        StoreWarning
            States the number of stored fits that were damaged and have been computed again.
        """
        table = self.decompose(X).theta
        if self.sparse_output:
            return table
        dense = np.full(table.shape, np.nan)
        dense[np.repeat(np.arange(table.shape[0]), np.diff(table.indptr)), table.indices] = table.data
        return dense

    def decompose(self, X):
        """Fit lines to spectra, with flags and residuals.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Normalised fluxes, continuum 1.

        Returns
        -------
        decomposition : Decomposition
            Lines, flags of lines and spectra, and residual RMS by window. Raises and warns as `transform`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOAT_DTYPES, reset=False)
        return decompose_rows(X, self._fit_settings(learnt=True), **self._workers())

    def inverse_transform(self, X):
        """Render line parameters.

        Parameters
        ----------
        X : csr_matrix or array-like of shape (n_spectra, n_parameters * n_catalog_lines)
            Line parameters as `transform` returns them.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_pixels)
            Normalised fluxes, 1 where there is no line; NaN for a sparse row with NaN, and for a dense row of
            NaN only.
        """
        check_is_fitted(self)
        X = check_array(X, accept_sparse="csr", dtype=FLOAT_DTYPES, ensure_all_finite=False, ensure_min_features=0)
        options = {"profile": self.profile, "wing_cut": self.wing_cut}
        return render_rows(X, self.wavelength_, len(self.line_catalog_), **options)

    @classmethod
    def from_catalog(cls, wavelength, catalog, **parameters):
        """Build a decomposer from known lines, to render or fit them without a training set.

        Parameters
        ----------
        wavelength : array-like of shape (n_pixels,)
            Vacuum wavelengths in angstrom, strictly increasing.
        catalog : array-like of shape (n_catalog_lines,), int
            Pixels of the lines, strictly increasing.
        **parameters : dict
            Parameters of the constructor.

        Returns
        -------
        decomposer : VoigtLineDecomposer
            A fitted decomposer without `fit_undetected`, whose priors need a training set.
        """
        decomposer = cls(wavelength=np.asarray(wavelength), fit_undetected=False, **parameters)
        decomposer.wavelength_ = check_wavelength(wavelength)
        decomposer.n_features_in_ = decomposer.wavelength_.size
        pixels = np.asarray(catalog, dtype=np.int64)
        prominences, widths = np.full(len(pixels), decomposer.prominence), np.gradient(decomposer.wavelength_)[pixels]
        lines = LineCatalog.of_detections(pixels, prominences, widths, np.zeros(len(pixels), dtype=np.int64))
        decomposer._set_learnt(lines, None, np.inf)
        return decomposer

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of `transform`.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of shape (n_parameters * n_catalog_lines,), dtype object
            Names such as ``"log_amplitude@8544.430"``.
        """
        check_is_fitted(self)
        names = self.line_parameters
        return np.array([f"{name}@{line:.3f}" for line in self.line_catalog_ for name in names], dtype=object)

    def detect(self, row):
        """Detect the lines of one spectrum.

        Parameters
        ----------
        row : array-like of shape (n_pixels,)
            Normalised flux.

        Returns
        -------
        pixels, prominences, widths : ndarray of shape (n_lines,)
            Pixels of the minima, their prominences, and their widths as standard deviations [angstrom].
        """
        check_is_fitted(self)
        found = find_minima(self._fit_settings(), row)
        return found.pixels, found.prominences, found.widths

    def to_state(self) -> dict:
        """State for a file: fitted values and parameters except `store`: a file must not state where to write."""
        fitted = None
        if hasattr(self, "line_catalog_"):
            fitted = {
                "wavelength": self.wavelength_,
                "catalog": self._catalog.to_state(),
                "prior": self._prior,
                "typical_rms": float(self._typical_rms),
                "feature_names": feature_names(self),
            }
        state = estimator_state(self, fitted)
        wavelength = stored_wavelength(self.wavelength, getattr(self, "wavelength_", None))
        state["parameters"].update(wavelength=wavelength, store=None)
        return state

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        decomposer, fitted = make_estimator(cls, state)
        if fitted is None:
            return decomposer
        check_keys(fitted, ("wavelength", "catalog", "prior", "typical_rms", "feature_names"))
        wavelength = take_wavelength(fitted, "wavelength")
        n_pixels = len(wavelength)
        given = np.arange(n_pixels) if decomposer.wavelength is None else decomposer.wavelength
        if not np.array_equal(given, wavelength):
            raise StateError("The parameter `wavelength` differs from the fitted wavelengths; both must be the same.")
        catalog = LineCatalog.from_state(take(fitted, "catalog", dict), n_pixels)
        prior = take(fitted, "prior", (LinePrior, type(None)))
        shape = (len(catalog.pixels), len(decomposer.line_parameters))
        if prior is not None and (prior.coefficients.shape[1:] != shape or prior.pixels.max(initial=0) >= n_pixels):
            raise StateError(
                f"`prior` predicts {prior.coefficients.shape[1:]} lines and parameters from pixels up to "
                f"{prior.pixels.max(initial=0)}; there are {shape}, and {n_pixels} pixels."
            )
        vars(decomposer).update(take_feature_names(fitted, n_pixels))
        decomposer.wavelength_ = wavelength
        decomposer._set_learnt(catalog, prior, take_number(fitted, "typical_rms", low=0, finite=False))
        try:
            decomposer._fit_settings(learnt=True)
        except ValueError as error:
            raise StateError(str(error)) from None
        return decomposer

    def with_lines(self, pixels, prominences, widths, like):
        """Copy with more lines in the catalogue, which is in order of pixels.

        Parameters
        ----------
        pixels : ndarray of shape (n_new,), int64
            Their pixels, at which the catalogue has no line.
        prominences, widths : ndarray of shape (n_new,)
            Prominences in units of the continuum, and widths (standard deviations) in angstrom.
        like : ndarray of shape (n_new, n_like), int
            Lines of the catalogue whose mean predicts the parameters of each line in spectra to be decomposed.

        Returns
        -------
        decomposer : VoigtLineDecomposer
            The copy.
        """
        copied = copy.copy(self)
        catalog = self._catalog.with_lines(pixels, prominences, widths)
        prior = self._prior
        if prior is not None:
            own = prior.coefficients[:, like].mean(axis=2)
            own[:, :, 0] = 0.0
            own[0, :, 0] = self.wavelength_[pixels]
            order = np.argsort(np.concatenate([self._catalog.pixels, pixels]), kind="stable")
            prior = prior._replace(coefficients=np.concatenate([prior.coefficients, own], axis=1)).only(order)
            catalog = catalog._replace(predicted=np.ones(len(catalog.pixels), dtype=bool))
        copied._set_learnt(catalog, prior, self._typical_rms)
        return copied

    @property
    def line_pixels(self):
        """Pixels of the lines of the catalogue, (n_catalog_lines,), int64."""
        return self._catalog.pixels

    @property
    def line_parameters(self):
        """Names of the parameters of a line, in the order of the columns."""
        return get_profile(self.profile).parameters

    def _fit_settings(self, *, learnt=False):
        """Settings of the fit of a spectrum; with `learnt`, also catalogue, prior and typical RMS."""
        scale = velocity_scale(self.wavelength_.size if self.wavelength is None else self.wavelength_)
        names = set(FitSettings.__dataclass_fields__) & set(self._parameter_constraints)
        parameters = {name: getattr(self, name) for name in names - {"wavelength"}}
        settings = FitSettings(self.wavelength_, scale, **parameters)
        if learnt:
            return settings.replace(catalog=self._catalog, prior=self._prior, typical_rms=self._typical_rms)
        return settings

    def _workers(self):
        store = None if self.store is None else ResultStore(self.store)
        return {"store": store, "n_jobs": self.n_jobs, "verbose": self.verbose}

    def _set_learnt(self, catalog, prior, typical_rms):
        self._catalog, self._prior, self._typical_rms = catalog, prior, typical_rms
        self.line_catalog_ = self.wavelength_[catalog.pixels]
        self.n_detected_ = catalog.n_detected
        self.n_iter_ = self.max_iter


def labels_of(y, n_spectra):
    """Labels (n_spectra, n_labels) in the `y` of `fit`, or None unless they are finite numbers, a row per spectrum."""
    try:
        labels = np.asarray(y)
        if labels.dtype.kind not in "fiubO":
            return None
        labels = labels.astype(np.float64)
    except (TypeError, ValueError):  # ragged, or objects that are not numbers
        return None
    if not labels.size or not np.isfinite(labels).all():
        return None
    return labels.reshape(n_spectra, -1)
