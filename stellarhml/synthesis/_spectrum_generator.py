"""SpectrumGenerator: labels to flux, by lines that are interpolated over the grid."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.metrics import r2_score
from sklearn.utils.validation import FLOAT_DTYPES, check_array, check_is_fitted, validate_data

from stellarhml._sklearn import HasMethods, Interval, fit_context
from stellarhml._validation import check_label_names, check_wavelength
from stellarhml.exceptions import LineDetectionWarning
from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer
from stellarhml.lines.table import csr_row, dense_row, rows_to_csr
from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator
from stellarhml.manifold.residual import ResidualBasis
from stellarhml.synthesis.line_table import archive_lines, make_line_table


class SpectrumGenerator(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Generate normalised spectra at any labels inside a grid.

    `fit` normalises the spectra of a grid (`preprocessor`), decomposes them into lines (`decomposer`), and prepares the
    interpolation of every line's parameters over the labels (`interpolator`). What the lines leave over is kept in a
    basis of low rank and interpolated with the same weights, :math:`S(x) = \prod_j f_j(x) + r(x)`; with
    ``residual_rank=None`` the model is lines alone, as in the paper.

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
    residual_rank : int, default=32
        Largest rank of the basis of residuals. None leaves residuals out.
    label_names : sequence of str, default=None
        Names of the labels. None: ("teff", "logg", "feh") for three. The one called "teff", in K, goes to
        `preprocessor`.
    n_jobs : int, default=None
        Number of joblib workers for the decomposition, where the decomposer's own is None.
    verbose : bool, default=None
        Whether to show a progress bar, where the decomposer's own is None.

    Attributes
    ----------
    preprocessor_, decomposer_, interpolator_ : estimator
        The fitted steps.
    residual_ : ResidualBasis or None
        What lines leave over.
    wavelength_ : ndarray of shape (n_pixels_out,), dtype float64
        Wavelengths of the generated spectra, in angstrom.
    label_names_ : tuple of str
        Names of the labels.
    n_features_in_ : int
        Number of labels.

    See Also
    --------
    BayesianStellarRegressor : The inverse: flux to labels.

    Examples
    --------
    >>> from stellarhml import SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength).fit(grid.labels, grid.flux)
    >>> generator.predict([[5300.0, 3.8, -0.2]]).shape
    (1, 400)
    >>> list(generator.line_table([5300.0, 3.8, -0.2]).columns)[-2:]
    ['depth', 'equivalent_width']
    """

    _parameter_constraints: dict = {
        "wavelength": ["array-like", None],
        "preprocessor": [HasMethods(["fit", "transform"]), None],
        "decomposer": [HasMethods(["fit", "transform", "inverse_transform"]), None],
        "interpolator": [HasMethods(["fit", "predict", "node_weights"]), None],
        "residual_rank": [Interval(Integral, 1, None, closed="left"), None],
        "label_names": ["array-like", None],
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
        residual_rank=32,
        label_names=None,
        n_jobs=None,
        verbose=None,
    ):
        self.wavelength = wavelength
        self.preprocessor = preprocessor
        self.decomposer = decomposer
        self.interpolator = interpolator
        self.residual_rank = residual_rank
        self.label_names = label_names
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
        self.label_names_ = check_label_names(self.label_names, X.shape[1])
        self.preprocessor_ = None
        wavelength = self.wavelength
        if self.preprocessor is not None:
            self.preprocessor_ = _with_defaults(clone(self.preprocessor), wavelength=wavelength)
            flux = self.preprocessor_.fit_transform(flux, teff=self._teff(X))
            # without wavelengths there is only a pixel index, which is no wavelength to hand on
            wavelength = None if self.preprocessor_.wavelength is None else self.preprocessor_.wavelength_out_
        decomposer = VoigtLineDecomposer() if self.decomposer is None else clone(self.decomposer)
        self.decomposer_ = _with_defaults(decomposer, wavelength=wavelength, n_jobs=self.n_jobs, verbose=self.verbose)
        theta = self.decomposer_.fit_transform(flux, X)
        interpolator = LineManifoldInterpolator() if self.interpolator is None else clone(self.interpolator)
        interpolator.set_params(parameters=self.decomposer_.line_parameters, label_names=self.label_names_)
        self.interpolator_ = interpolator.fit(X, theta)
        self.wavelength_ = self.decomposer_.wavelength_
        self.residual_ = None
        if self.residual_rank is not None:
            left = flux.astype(np.float32) - self.decomposer_.inverse_transform(theta).astype(np.float32)
            self.residual_ = ResidualBasis.learn(left, self.residual_rank)
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
            Fitted, of lines alone, labels (teff, logg, feh).

        Raises
        ------
        GridNotFoundError
            If the folder holds no such file.
        BlaseStateError
            If a file is damaged or lacks a key.
        """
        # the one place where an estimator reads files: the archive *is* the training set
        from stellarhml.io.blase import list_states, read_state_dict

        labels, paths = list_states(folder)
        wavelength = check_wavelength(wavelength)
        catalog, rows, n_dropped = archive_lines([read_state_dict(path) for path in paths], wavelength)
        if n_dropped:
            warnings.warn(
                f"{n_dropped} lines of the archive were left out: their parameters are not finite, or an earlier line "
                "of the same spectrum sits on their pixel.",
                LineDetectionWarning,
                stacklevel=2,
            )
        generator = cls(wavelength=wavelength, interpolator=interpolator, residual_rank=None)
        generator.decomposer_ = VoigtLineDecomposer.from_catalog(
            wavelength, catalog, profile="blase", solver="adam", wing_cut=wing_cut, match_tolerance=0
        )
        parameters = generator.decomposer_.line_parameters
        interpolator = LineManifoldInterpolator() if interpolator is None else clone(interpolator)
        interpolator.set_params(parameters=parameters)
        generator.interpolator_ = interpolator.fit(labels, rows_to_csr(rows, len(catalog), len(parameters)))
        generator.label_names_ = check_label_names(None, labels.shape[1])
        generator.preprocessor_, generator.residual_, generator._one_output = None, None, False
        generator.wavelength_ = generator.decomposer_.wavelength_
        generator.n_features_in_ = labels.shape[1]
        return generator

    def predict(self, X):
        """Generate spectra.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_pixels_out) or (n_spectra,)
            Normalised fluxes.

        Raises
        ------
        LabelsOutsideGridError
            If labels lie outside the grid and the interpolator's `extrapolate` is "raise".
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        weights, outside = self.interpolator_.node_weights(X)
        flux = self._render(weights)
        if self.interpolator_.extrapolate == "nan":
            flux[outside] = np.nan
        return flux[:, 0] if self._one_output else flux

    def predict_nearest(self, X):
        """Generate spectra without refusing labels outside the grid: what a search needs.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_pixels_out)
            Normalised fluxes, at the nearest point of the grid for labels outside.
        outside : ndarray of shape (n_spectra,), bool
            Labels outside the grid.
        """
        check_is_fitted(self)
        weights, outside = self.interpolator_.locate(X)
        return self._render(weights), outside

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

    def jacobian(self, X, *, step=1e-3):
        """Differentiate spectra with respect to the labels, by central differences within the grid's bounds.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.
        step : float, default=1e-3
            Half the distance between the two evaluations, in units of each label's range.

        Returns
        -------
        jacobian : ndarray of shape (n_spectra, n_pixels_out, n_labels)
            Derivatives per unit of the label. Zero for a label with one value only.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        low, high = self.interpolator_.bounds_.T
        columns = []
        for k in range(X.shape[1]):
            shifted = np.stack([X, X])
            half = step * (high[k] - low[k])
            shifted[0, :, k] = np.maximum(X[:, k] - half, low[k])
            shifted[1, :, k] = np.minimum(X[:, k] + half, high[k])
            width = shifted[1, :, k] - shifted[0, :, k]
            below, above = self.predict_nearest(shifted[0])[0], self.predict_nearest(shifted[1])[0]
            difference = above - below
            columns.append(difference / np.where(width > 0, width, 1.0)[:, None])
        return np.stack(columns, axis=2)

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
            parameters, its `depth` and its `equivalent_width` [angstrom].
        """
        check_is_fitted(self)
        theta = self.interpolator_.predict(np.reshape(labels, (1, -1)))
        parameters = self.decomposer_.line_parameters
        if isinstance(theta, np.ndarray):
            lines, theta = dense_row(theta[0], len(parameters))
        else:
            lines, theta = csr_row(theta, 0, len(parameters))
        return make_line_table(
            self.decomposer_.line_catalog_[lines], theta, parameters=parameters, profile=self.decomposer_.profile
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # lines cannot follow arbitrary targets
        tags.regressor_tags.poor_score = True
        return tags

    def _render(self, weights):
        """Normalised fluxes from the weights of the training rows."""
        flux = self.decomposer_.inverse_transform(self.interpolator_.interpolate(weights))
        return flux if self.residual_ is None else flux + self.residual_.at(weights)

    def _teff(self, labels):
        """Column of the effective temperature, or None."""
        return labels[:, self.label_names_.index("teff")] if "teff" in self.label_names_ else None


def _with_defaults(estimator, **defaults):
    """Set parameters that are None."""
    current = estimator.get_params(deep=False)
    return estimator.set_params(**{k: v for k, v in defaults.items() if k in current and current[k] is None})
