"""SpectrumGenerator: labels to flux, by lines that are interpolated over the grid."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.metrics import r2_score
from sklearn.utils.validation import FLOAT_DTYPES, check_array, check_is_fitted, validate_data

from stellarhml._sklearn import HasMethods, Interval, StrOptions, fit_context
from stellarhml._validation import check_label_names, is_plain
from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer
from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator
from stellarhml.manifold.breaks import find_breaks
from stellarhml.storage.result_store import digest
from stellarhml.synthesis.blase_archive import generator_from_archive
from stellarhml.synthesis.evaluation import expected_error, generate, generate_jacobian, generate_with_jacobian
from stellarhml.synthesis.grid_learning import learn_from_grid
from stellarhml.synthesis.line_table import make_line_table
from stellarhml.synthesis.normalising import normalised_rows
from stellarhml.synthesis.observing import ObserveMixin


class SpectrumGenerator(ObserveMixin, MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Generate normalised spectra at any labels inside a grid, with their error.

    `fit` normalises the spectra of a grid (`preprocessor`), decomposes them into lines (`decomposer`), and prepares the
    interpolation of every line's parameters over the labels (`interpolator`). What the lines leave over is kept in a
    basis of low rank and interpolated with the same weights, :math:`S(x) = \prod_j f_j(x) + r(x)`. How many factors the
    lines and how many components the residuals are worth is found out on nodes that are held out, and so is the error
    of the whole. With ``n_factors=None, residual_rank=None`` the model is lines alone, as in the paper.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,), default=None
        Vacuum wavelengths of the columns of the flux, in angstrom, strictly increasing; handed to `preprocessor` and
        `decomposer` where theirs is None. If None, the pixel index is used.
    preprocessor : PhoenixPreprocessor, default=None
        Normalises the flux; gets the Teff of each spectrum. None means that the flux is normalised already.
    decomposer : VoigtLineDecomposer, default=None
        Finds and fits lines. None is ``VoigtLineDecomposer()``.
    interpolator : LineManifoldInterpolator, default=None
        Interpolates them. None is ``LineManifoldInterpolator()``.
    n_factors : int, "auto" or None, default="auto"
        Number of factors that stand for the lines of all nodes, see :mod:`stellarhml.manifold.line_factors`. "auto"
        takes as many as held-out nodes ask for (all of up to 32), or keeps all lines where no node can be held out or
        more than 1 % of the lines are absent somewhere. None keeps all.
    residual_rank : int, "auto" or None, default="auto"
        Rank of the basis of residuals. "auto" takes as many as held-out nodes ask for, all of up to 32; None leaves
        residuals out. Where the grid's steps are large for what changes between nodes, more can be better.
    label_names : sequence of str, default=None
        Names of the labels. None: ("teff", "logg", "feh") for three. The one called "teff", in K, goes to
        `preprocessor`.
    device : str, default=None
        Where `predict` renders lines, such as "cuda". None: the compiled kernels of the CPU, which also do spectra
        with a radial velocity, and derivatives.
    n_jobs : int, default=None
        Number of joblib workers for `fit`, where the decomposer's own is None.
    verbose : bool, default=None
        Whether to show a progress bar, where the decomposer's own is None.

    Attributes
    ----------
    preprocessor_, decomposer_, interpolator_ : estimator
        The fitted steps.
    residual_ : ResidualBasis or None
        What lines leave over.
    error_map_ : ErrorModel or None
        Error of the generator over the grid, measured by leaving nodes out.
    wavelength_ : ndarray of shape (n_pixels_out,), dtype float64
        Wavelengths of the generated spectra, in angstrom.
    label_names_ : tuple of str
        Names of the labels.
    grid_id_ : str
        Hash of the labels, wavelengths and fluxes of the grid.
    n_features_in_ : int
        Number of labels.

    See Also
    --------
    BayesianStellarRegressor : The inverse: flux to labels.

    Notes
    -----
    `fit` goes through the spectra window by window and never holds all of them; the flux may be a memory map.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> flux, std = generator.predict([[5300.0, 3.8, -0.2]], return_std=True)
    >>> flux.shape, std.shape
    ((1, 400), (1, 400))
    >>> generator.predict([[5300.0, 3.8, -0.2]], pixels=slice(100, 120), rv=12.5).shape
    (1, 20)
    >>> list(generator.line_table([5300.0, 3.8, -0.2]).columns)[6:9]
    ['depth', 'equivalent_width', 'saturation']
    """

    _parameter_constraints: dict = {
        "wavelength": ["array-like", None],
        "preprocessor": [HasMethods(["fit", "transform"]), None],
        "decomposer": [HasMethods(["fit", "transform", "inverse_transform"]), None],
        "interpolator": [LineManifoldInterpolator, None],
        "n_factors": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "residual_rank": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "label_names": ["array-like", None],
        "device": [str, None],
        "n_jobs": [Integral, None],
        "verbose": ["boolean", None],
    }

    def __init__(
        self,
        *,
        wavelength=None,
        preprocessor=None,
        decomposer=None,
        interpolator=None,
        n_factors="auto",
        residual_rank="auto",
        label_names=None,
        device=None,
        n_jobs=None,
        verbose=None,
    ):
        self.wavelength = wavelength
        self.preprocessor = preprocessor
        self.decomposer = decomposer
        self.interpolator = interpolator
        self.n_factors = n_factors
        self.residual_rank = residual_rank
        self.label_names = label_names
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Learn the lines of a grid.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels of the spectra.
        y : array-like of shape (n_spectra, n_pixels) or (n_spectra,)
            Fluxes: raw with a `preprocessor`, else normalised.

        Returns
        -------
        self : SpectrumGenerator
            The fitted generator.

        Raises
        ------
        ValueError
            If shapes do not match or a value is not finite.
        GridIncompleteError
            If the interpolator asks for a full grid and nodes are missing.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self._one_output = y.ndim == 1
        flux = check_array(y.reshape(len(y), -1), dtype=FLOAT_DTYPES)
        decomposer = self._prepare(X, flux)
        with normalised_rows(self.preprocessor_, flux, self._teff(X)) as normalised:
            theta = decomposer.fit_transform(normalised, X)
            self._adopt(decomposer, X, theta, normalised)
            learn_from_grid(self, X, normalised)
        self.grid_id_ = digest(X, self.wavelength_, [digest(row) for row in flux])
        return self

    @classmethod
    def from_blase_archive(cls, folder, *, wavelength, wing_cut=6000, interpolator=None):
        """Build a generator from gully/blase's state dictionaries, with no fitting.

        Parameters
        ----------
        folder : str or path
            Folder of files ``T{teff}G{logg}Z{Z}.pt``.
        wavelength : array-like of shape (n_pixels,)
            Wavelengths on which blase was trained, vacuum angstrom, strictly increasing.
        wing_cut : int, default=6000
            Pixels on which blase evaluated a line.
        interpolator : LineManifoldInterpolator, default=None
            None is ``LineManifoldInterpolator()``; ``absent="vanish"`` is the paper's rule.

        Returns
        -------
        generator : SpectrumGenerator
            Fitted, of lines alone, labels (teff, logg, feh). Its error is unknown: there are no spectra to compare.

        Raises
        ------
        GridNotFoundError
            If the folder holds no such file.
        BlaseStateError
            If a file is damaged or lacks a key.
        """
        generator = cls(wavelength=wavelength, interpolator=interpolator, n_factors=None, residual_rank=None)
        return generator_from_archive(generator, folder, wavelength, wing_cut)

    def predict(self, X, *, pixels=None, rv=None, return_std=False):
        """Generate spectra.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.
        pixels : slice, array-like of int or array-like of bool, default=None
            Pixels of `wavelength_` to generate, in increasing order; the time is proportional to their number. None:
            all.
        rv : float or array-like of shape (n_spectra,), default=None
            Radial velocities in km/s. The flux is still given on `wavelength_`; pixels whose light comes from beyond
            the band are NaN.
        return_std : bool, default=False
            Whether to return the generator's own error as well.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_wanted) or (n_spectra,)
            Normalised fluxes.
        std : ndarray of the same shape
            Standard deviations of the fluxes, only if `return_std`: the root mean square error that leaving nodes out
            lets expect between them, see `error_map_`. NaN where the grid is too small to tell.

        Raises
        ------
        LabelsOutsideGridError
            If labels lie outside the grid and the interpolator's `extrapolate` is "raise".
        ValueError
            If `pixels` or `rv` do not fit, or the error is asked for and unknown.
        """
        if not is_plain(self, X):
            check_is_fitted(self)
            X = validate_data(self, X, dtype=np.float64, reset=False)
        weights, outside = self.interpolator_._node_weights(X)
        results = generate(self, X, weights, pixels, rv, return_std)
        if self.interpolator_.extrapolate == "nan":
            for result in results:
                result[outside] = np.nan
        results = [result[:, 0] if self._one_output else result for result in results]
        return tuple(results) if return_std else results[0]

    def predict_nearest(self, X, *, pixels=None, rv=None):
        """Generate spectra without refusing labels outside the grid: what a search needs.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.
        pixels, rv : object
            As in `predict`.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_wanted)
            Normalised fluxes, at the nearest point of the grid for labels outside.
        outside : ndarray of shape (n_spectra,), bool
            Labels outside the grid.
        """
        check_is_fitted(self)
        weights, outside = self.interpolator_.locate(X)
        return generate(self, X, weights, pixels, rv)[0], outside

    def jacobian(self, X, *, pixels=None, rv=None):
        """Differentiate spectra with respect to the labels, analytically.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels. Outside the grid those that are moved to its edge have the derivative zero.
        pixels, rv : object
            As in `predict`.

        Returns
        -------
        jacobian : ndarray of shape (n_spectra, n_wanted, n_labels)
            Derivatives per unit of the label. Zero for a label with one value only.
        """
        check_is_fitted(self)
        if not is_plain(self, X):
            X = validate_data(self, X, dtype=np.float64, reset=False)
        return generate_jacobian(self, X, pixels, rv)

    def render_rows(self, labels, pixels, *, tangents=False):
        """Generate one spectrum as the forward model takes it: the flux and, below it, its derivatives by the labels.

        Parameters
        ----------
        labels : ndarray of shape (n_labels,)
            Labels; outside the grid its nearest point is taken.
        pixels : slice
            Pixels of `wavelength_`.
        tangents : bool, default=False
            Whether to add the derivatives.

        Returns
        -------
        rows : ndarray of shape (1, n_wanted) or (1 + n_labels, n_wanted)
            Normalised flux, and its derivatives per unit of each label.
        """
        X = np.asarray(labels, dtype=np.float64)[None]
        if not tangents:
            return generate(self, X, self.interpolator_.locate(X)[0], pixels)[0]
        flux, jacobian = generate_with_jacobian(self, X, pixels)
        return np.concatenate([flux, jacobian[0].T])

    def expected_error(self, labels, pixels=slice(None)):
        """Standard deviations of the generator's own error (interim)."""
        return expected_error(self, np.asarray(labels, dtype=np.float64)[None], pixels)[0]

    def normalise_error(self, error, flux, normalised):
        """Errors in units of the normalised flux (interim)."""
        if self.preprocessor_ is None:
            return error
        pixels = self.preprocessor_._pixels
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = normalised / flux[:, pixels]
        return error[:, pixels] * np.where(np.isfinite(ratio), ratio, np.nanmedian(ratio, axis=1, keepdims=True))

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination of generated spectra, pixels weighted by their variance.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.
        y : array-like of shape (n_spectra, n_pixels) or (n_spectra,)
            Fluxes as for `fit`; they are normalised first if there is a preprocessor.
        sample_weight : array-like of shape (n_spectra,), default=None
            Weights of the spectra.

        Returns
        -------
        score : float
            R squared, at most 1.
        """
        check_is_fitted(self)
        y = self.normalise(y, labels=X) if self.preprocessor_ is not None else y
        return r2_score(y, self.predict(X), sample_weight=sample_weight, multioutput="variance_weighted")

    def normalise(self, flux, labels=None):
        """Normalise spectra as those of the grid were.

        Parameters
        ----------
        flux : array-like of shape (n_spectra, n_pixels)
            Raw fluxes.
        labels : array-like of shape (n_spectra, n_labels), default=None
            Labels, where known: the black body is divided only then.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_pixels_out)
            Normalised fluxes; unchanged if there is no preprocessor.
        """
        check_is_fitted(self)
        if self.preprocessor_ is None:
            return np.asarray(flux)
        return self.preprocessor_.transform(flux, teff=None if labels is None else self._teff(np.asarray(labels)))

    def line_table(self, labels):
        """Tabulate the lines at given labels.

        Parameters
        ----------
        labels : array-like of shape (n_labels,)
            Labels of one spectrum.

        Returns
        -------
        table : DataFrame
            One row per line present, indexed by the wavelength [angstrom] by which it is known; columns are the line's
            parameters, its `depth`, its `equivalent_width` [angstrom], its `saturation` (0 for a line that grows in
            proportion to its absorbers, 1 for one whose core grows no more), and for each label the derivative of the
            equivalent width, such as `equivalent_width_per_teff` [angstrom / K].
        """
        check_is_fitted(self)
        labels = np.reshape(np.asarray(labels, dtype=np.float64), (1, -1))
        weights, _ = self.interpolator_.node_weights(labels)
        _, _, slopes = self.interpolator_.locate(labels, derivatives=True)
        return make_line_table(self, weights, slopes)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # lines cannot follow arbitrary targets
        tags.regressor_tags.poor_score = True
        return tags

    def _prepare(self, labels, flux):
        """Fit the preprocessor to a grid, and set up a decomposer for what it gives."""
        self.label_names_ = check_label_names(self.label_names, labels.shape[1])
        self.preprocessor_ = None
        wavelength = self.wavelength
        if self.preprocessor is not None:
            self.preprocessor_ = _with_defaults(clone(self.preprocessor), wavelength=wavelength)
            self.preprocessor_.fit(flux, teff=self._teff(labels))
            # without wavelengths there is only a pixel index, which is no wavelength to hand on
            wavelength = None if self.preprocessor_.wavelength is None else self.preprocessor_.wavelength_out_
        decomposer = VoigtLineDecomposer() if self.decomposer is None else clone(self.decomposer)
        return _with_defaults(decomposer, wavelength=wavelength, n_jobs=self.n_jobs, verbose=self.verbose)

    def _adopt(self, decomposer, labels, theta, flux=None):
        """Take a fitted decomposer and the lines of a grid, whose spectra tell where it jumps."""
        interpolator = LineManifoldInterpolator() if self.interpolator is None else clone(self.interpolator)
        interpolator.set_params(parameters=decomposer.line_parameters, label_names=self.label_names_)
        if flux is not None and interpolator.breaks is None and interpolator.method == "auto":
            interpolator.set_params(breaks=find_breaks(labels, flux, self.label_names_))
        self.decomposer_, self.wavelength_ = decomposer, decomposer.wavelength_
        self.interpolator_ = interpolator.fit(labels, theta if sparse.issparse(theta) else _as_sparse(theta))
        self.residual_ = self.error_map_ = self.grid_id_ = None

    def _teff(self, labels):
        """Column of the effective temperature, or None."""
        return labels[:, self.label_names_.index("teff")] if "teff" in self.label_names_ else None


def _as_sparse(theta):
    """Dense line parameters, NaN where a line is absent, as a sparse matrix."""
    row, column = np.nonzero(~np.isnan(theta))
    return sparse.csr_matrix((theta[row, column], (row, column)), shape=theta.shape)


def _with_defaults(estimator, **defaults):
    """Set parameters that are None."""
    current = estimator.get_params(deep=False)
    return estimator.set_params(**{k: v for k, v in defaults.items() if k in current and current[k] is None})
