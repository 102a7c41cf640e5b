"""VoigtLineDecomposer: from normalised flux to line parameters and back."""

import warnings
from functools import partial
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted, validate_data

from stellarhml._parallel import map_items
from stellarhml._sklearn import Interval, StrOptions, fit_context
from stellarhml._validation import check_wavelength
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.lines.catalog import build_catalog
from stellarhml.lines.fitting import decompose_row
from stellarhml.lines.peaks import detect_lines
from stellarhml.lines.table import csr_row, dense_row, rows_to_csr


class VoigtLineDecomposer(TransformerMixin, BaseEstimator):
    r"""Decompose spectra into Voigt-like absorption lines.

    Lines are minima of the flux with a given prominence; a spectrum is the product of its lines. `fit` detects
    the lines of all spectra and merges them into one catalogue; `transform` fits each spectrum with lines of the
    catalogue; `inverse_transform` renders line parameters.

    By default saturating lines are fitted by Levenberg-Marquardt, and every spectrum gets every line of the catalogue,
    so that a line too weak to be detected in one spectrum keeps its place. The paper's method is
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
        Line profile: two that saturate, Eq. 2 of the paper, and what the code of blase computes (see
        :mod:`stellarhml.kernels.profiles`).
    solver : {"lm", "adam"}, default="lm"
        Levenberg-Marquardt with weak priors, or the paper's training by automatic differentiation.
    wing_cut : int, default=None
        Number of pixels around its center on which a line is evaluated; the paper takes 6000. None evaluates each
        line as far as it changes the flux by more than 1e-5.
    line_margin : float, default=0.0
        Lines closer than this to either end are left out, in angstrom. The paper takes 30.
    loss_margin : float, default=0.0
        Pixels closer than this to either end are left out of the loss, in angstrom. The paper takes 60.
    n_lines : int, default=None
        Largest number of lines detected in a spectrum; the most prominent are kept. None keeps all.
    match_tolerance : int, default=2
        Distance up to which minima of two spectra are the same line, in pixels. 0 is the paper's rule.
    fit_undetected : bool, default=True
        Whether a spectrum is fitted with all lines of the catalogue or only with those detected in it (the paper).
    learning_rate : float, default=0.05
        Step of Adam, in angstrom for centers and in natural logarithms for the rest.
    noise : float, default=0.1
        How well "lm" fits the flux before its priors give way: the smaller, the closer the fit; the larger, the
        smoother the parameters from spectrum to spectrum.
    max_iter : int, default=200
        Number of epochs of "adam" (the paper: 100), largest number of steps of "lm".
    tol : float, default=1e-4
        Relative decrease of its objective at which "lm" stops.
    sparse_output : bool, default=True
        Whether `transform` returns a scipy CSR matrix, in which absent lines take no memory, or a dense array, in
        which they are NaN. ``set_output(transform="pandas")`` needs False.
    backend : {"native", "blase"}, default="native"
        Code that fits the lines. "blase" uses an installed gully/blase (not the tool of that name on PyPI) and needs
        ``profile="blase"`` and ``solver="adam"``.
    n_jobs : int, default=None
        Number of joblib workers over spectra.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.

    Attributes
    ----------
    wavelength_ : ndarray of shape (n_pixels,), dtype float64
        Wavelengths in use, in angstrom.
    line_catalog_ : ndarray of shape (n_catalog_lines,), dtype float64
        Wavelength by which each line is known, in angstrom, increasing.
    n_iter_ : int
        `max_iter`: epochs that "adam" runs, steps that "lm" may take.
    n_features_in_ : int
        Number of pixels seen during :term:`fit`.

    See Also
    --------
    LineManifoldInterpolator : Interpolates the parameters of each line over a grid.

    Notes
    -----
    Rendering and its derivatives are the numba kernels of :mod:`stellarhml.kernels.fused`; for "adam" they stand
    behind a ``torch.autograd.Function``, so that the training is torch's. Memory is linear in pixels plus lines.
    Spectra are independent: a row's result depends neither on the other rows nor on `n_jobs`.

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
        "match_tolerance": [Interval(Integral, 0, None, closed="left")],
        "fit_undetected": ["boolean"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "noise": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "sparse_output": ["boolean"],
        "backend": [StrOptions({"native", "blase"})],
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
        match_tolerance=2,
        fit_undetected=True,
        learning_rate=0.05,
        noise=0.1,
        max_iter=200,
        tol=1e-4,
        sparse_output=True,
        backend="native",
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
        self.max_iter = max_iter
        self.tol = tol
        self.sparse_output = sparse_output
        self.backend = backend
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Detect the lines of all spectra and merge them into the catalogue.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Normalised fluxes, continuum 1.
        y : None
            Ignored, present for the pipeline.

        Returns
        -------
        self : VoigtLineDecomposer
            The fitted transformer.

        Raises
        ------
        ValueError
            If `wavelength` does not fit `X`, or a flux is not finite.
        BlaseNotInstalledError
            If ``backend="blase"`` and gully/blase is not installed.
        """
        X = validate_data(self, X, dtype=FLOAT_DTYPES)
        self.wavelength_ = check_wavelength(self.wavelength, n_pixels=X.shape[1])
        if self.backend == "blase":
            from stellarhml.lines.blase_backend import require_blase

            require_blase()
            if self.profile != "blase" or self.solver != "adam":
                raise ValueError(
                    f"backend='blase' fits profile='blase' by solver='adam' only, but profile={self.profile!r} and "
                    f"solver={self.solver!r}. Change them, or the backend."
                )
        first = np.searchsorted(self.wavelength_, self.wavelength_[0] + self.loss_margin)
        last = np.searchsorted(self.wavelength_, self.wavelength_[-1] - self.loss_margin, side="right")
        if last <= first:
            raise ValueError(
                f"`loss_margin`={self.loss_margin} at either end leaves nothing of the spectra, which cover "
                f"{self.wavelength_[0]:.2f} to {self.wavelength_[-1]:.2f} angstrom. Lower it."
            )
        self._loss_pixels = slice(int(first), int(last))
        detections = [self.detect(row) for row in X]
        self._catalog, self._prominence, self._width = build_catalog(
            detections, n_pixels=X.shape[1], tolerance=self.match_tolerance
        )
        self.line_catalog_ = self.wavelength_[self._catalog]
        self.n_iter_ = self.max_iter
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

        Warns
        -----
        LineDetectionWarning
            With the number of spectra that have no line.
        ConvergenceWarning
            With the number of spectra that ``solver="lm"`` has not fitted within `max_iter` steps.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOAT_DTYPES, reset=False)
        progress = {"n_jobs": self.n_jobs, "verbose": self.verbose, "description": "Decomposing spectra"}
        fits = list(map_items(partial(decompose_row, self), X, **progress))
        n_unfinished = sum(not converged for _, _, converged in fits)
        if n_unfinished:
            warnings.warn(
                f"{n_unfinished} of {len(X)} spectra did not converge in max_iter={self.max_iter} steps. Increase "
                "max_iter, or check that the fluxes are normalised.",
                ConvergenceWarning,
                stacklevel=2,
            )
        rows = [(lines, theta) for lines, theta, _ in fits]
        n_empty = sum(len(lines) == 0 for lines, _ in rows)
        if n_empty:
            warnings.warn(
                f"{n_empty} of {len(X)} spectra have no line of prominence {self.prominence} that the catalogue knows; "
                "their rows are empty. Lower `prominence`, or check that the fluxes are normalised.",
                LineDetectionWarning,
                stacklevel=2,
            )
        table = rows_to_csr(rows, len(self._catalog), self._n_parameters)
        if self.sparse_output:
            return table
        dense = np.full(table.shape, np.nan)
        dense[np.repeat(np.arange(len(X)), np.diff(table.indptr)), table.indices] = table.data
        return dense

    def inverse_transform(self, X):
        """Render line parameters.

        Parameters
        ----------
        X : csr_matrix or array-like of shape (n_spectra, n_parameters * n_catalog_lines)
            Line parameters as `transform` gives them.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_pixels)
            Normalised fluxes, 1 where there is no line; NaN for a sparse row with NaN, and for a dense row of
            NaN only.
        """
        from stellarhml.kernels.rendering import render_lines

        check_is_fitted(self)
        X = check_array(X, accept_sparse="csr", dtype=FLOAT_DTYPES, ensure_all_finite=False, ensure_min_features=0)
        n_columns = self._n_parameters * len(self._catalog)
        if X.shape[1] != n_columns:
            raise ValueError(
                f"X has {X.shape[1]} columns, but {len(self._catalog)} lines of {self._n_parameters} parameters take "
                f"{n_columns}. Pass what `transform` of this decomposer returns."
            )
        flux = np.empty((X.shape[0], self.wavelength_.size), dtype=X.dtype)
        for i in range(X.shape[0]):
            if sparse.issparse(X):
                _, theta = csr_row(X, i, self._n_parameters)
            else:
                _, theta = dense_row(X[i], self._n_parameters)
            flux[i] = render_lines(self.wavelength_, theta, profile=self.profile, wing_cut=self.wing_cut)
            # labels outside the grid: NaN in a sparse row, or a dense row that is NaN throughout
            if np.isnan(theta).any() or (not sparse.issparse(X) and n_columns and np.isnan(X[i]).all()):
                flux[i] = np.nan
        return flux

    @classmethod
    def from_catalog(cls, wavelength, catalog, **parameters):
        """Build a decomposer that knows its lines already, to render or fit them without a training set.

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
            Fitted in all but `fit_undetected` of ``solver="lm"``, whose priors need a training set.
        """
        decomposer = cls(wavelength=np.asarray(wavelength), fit_undetected=False, **parameters)
        decomposer.wavelength_ = check_wavelength(wavelength)
        decomposer.n_features_in_ = decomposer.wavelength_.size
        decomposer._catalog = np.asarray(catalog, dtype=np.int64)
        decomposer._prominence = np.full(len(decomposer._catalog), decomposer.prominence)
        decomposer._width = np.gradient(decomposer.wavelength_)[decomposer._catalog]
        decomposer.line_catalog_ = decomposer.wavelength_[decomposer._catalog]
        decomposer._loss_pixels = slice(None)
        decomposer.n_iter_ = decomposer.max_iter
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
            Such as ``"log_amplitude@8544.430"``.
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
        found = detect_lines(
            self.wavelength_,
            np.asarray(row, dtype=np.float64),
            prominence=self.prominence,
            distance=self.distance,
            edge=self.line_margin,
        )
        if self.n_lines is None or len(found[0]) <= self.n_lines:
            return found
        keep = np.sort(np.argsort(-found[1], kind="stable")[: self.n_lines])
        return tuple(part[keep] for part in found)

    @property
    def line_parameters(self):
        """Names of the parameters of a line, in the order of the columns."""
        from stellarhml.kernels.profiles import get_profile

        return get_profile(self.profile).parameters

    @property
    def _n_parameters(self):
        return len(self.line_parameters)
