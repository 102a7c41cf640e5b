"""SpectrumGenerator: fluxes from labels, with lines that are interpolated over the grid."""

import re
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, validate_data

from stellarhml._sklearn import HasMethods, Interval, StrOptions, fit_context
from stellarhml._state import StateError, check_keys, estimator_state, make_estimator, take, take_array
from stellarhml._units import plain_array
from stellarhml._validation import check_label_names, feature_names, is_plain, stored_wavelength, take_feature_names
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.kernels.line_profiles import get_profile
from stellarhml.kernels.rendering import line_components
from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer
from stellarhml.lines.line_lists import as_line_list
from stellarhml.lines.tags import LineTags
from stellarhml.manifold._line_manifold_interpolator import LineManifoldInterpolator
from stellarhml.manifold.residual import ResidualBasis
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.synthesis.blase_archive import parts_of_archive
from stellarhml.synthesis.calibration_errors import CalibrationErrors
from stellarhml.synthesis.decomposed_grid import FittedParts, decompose_grid
from stellarhml.synthesis.error_model import ErrorModel
from stellarhml.synthesis.evaluation import (
    LineModel,
    expected_error,
    generate,
    generate_jacobian,
    generate_with_jacobian,
)
from stellarhml.synthesis.flux_level import FluxLevel, learn_level, level_of
from stellarhml.synthesis.line_table import make_line_table, tags_of


class SpectrumGenerator(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Generate normalised spectra at any labels inside a grid, with their error.

    `fit` normalises the spectra of a grid (`preprocessor`), decomposes them into lines (`decomposer`), and prepares the
    interpolation of every line's parameters over the labels (`interpolator`). The residuals of the line model are
    stored as a few principal components and interpolated with the same weights, :math:`S(x) = \prod_j f_j(x) + r(x)`.
    Held-out nodes give the numbers of factors and components, and the error of the generator. With
    ``n_factors=None, residual_rank=None`` the model consists of lines only, as in the paper.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,), default=None
        Vacuum wavelengths of the columns of the flux, in angstrom, strictly increasing; passed to `preprocessor` and
        `decomposer` where theirs is None. If None, the pixel index is used.
    preprocessor : PhoenixPreprocessor, default=None
        Normalises the flux, given the Teff of each spectrum. None: the flux is already normalised.
    decomposer : VoigtLineDecomposer, default=None
        Finds and fits lines. None is ``VoigtLineDecomposer()``.
    interpolator : LineManifoldInterpolator, default=None
        Interpolates line parameters. None is ``LineManifoldInterpolator()``.
    n_factors : int, "auto" or None, default="auto"
        Number of factors that represent the lines of all nodes, see :mod:`stellarhml.manifold.line_tables`. "auto"
        takes the number that predicts held-out nodes best (all, if there are up to 32), or stores the lines themselves
        where no node can be held out or more than 1 % of the lines are absent at a node. None stores the lines.
    residual_rank : int, "auto" or None, default="auto"
        Number of principal components of the residuals. "auto" takes the number that predicts held-out nodes best (all,
        if there are up to 32); None leaves residuals out. On a coarse grid, more components can be better.
    label_names : sequence of str, default=None
        Names of the labels. None: ("teff", "logg", "feh") for three. The label "teff", in K, is passed to
        `preprocessor`.
    resolving_power : float, default=None
        Resolving power of the grid's spectra, if they are broadened for one spectrograph, see
        :func:`stellarhml.datasets.load_grid`. Spectra observed with a lower one are broadened by the difference; a
        higher one is an error. None: the spectra are as computed.
    device : str, default=None
        Device on which `predict` renders lines, such as "cuda". None: the CPU, which always renders spectra with a
        radial velocity, and derivatives.
    n_jobs : int, default=None
        Number of joblib workers of `fit`, where that of the decomposer is None.
    verbose : bool, default=None
        Whether to show a progress bar, where that of the decomposer is None.

    Attributes
    ----------
    preprocessor_, decomposer_, interpolator_ : estimator
        The fitted steps.
    residual_ : ResidualBasis or None
        Residuals of the line model.
    error_map_ : ErrorModel or None
        Error of the generator over the grid, measured on held-out nodes.
    wavelength_ : ndarray of shape (n_pixels_out,), dtype float64
        Wavelengths of the generated spectra, in angstrom.
    label_names_ : tuple of str
        Names of the labels.
    level_ : FluxLevel or None
        Level of the spectra of the grid, which the preprocessor divided out, see `log_level`. None without a
        preprocessor, before `learn_level`.
    tags_ : LineTags or None
        Species of the lines, after `tag_lines`.
    calibration_ : CalibrationErrors or None
        What is uncertain of lines that a `LineCalibrator` has corrected.
    grid_id_ : str
        Hash of the labels, wavelengths and fluxes of the grid.
    n_features_in_ : int
        Number of labels.

    See Also
    --------
    BayesianStellarRegressor : The inverse: flux to labels.

    Notes
    -----
    `fit` reads the spectra in windows of pixels, not all at once; the flux may be a memory map.

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
        "resolving_power": [Interval(Real, 1, None, closed="neither"), None],
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
        resolving_power=None,
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
        self.resolving_power = resolving_power
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
            If shapes do not match, a value is not finite, a node has two different spectra, or a spectrum of 50 pixels
            or more has a stretch that is zero, negative or constant, or is not normalised and there is no preprocessor.
        GridIncompleteError
            If the interpolator needs a full grid and nodes are missing.

        Warns
        -----
        GridWarning
            Names nodes that are given twice, or whose spectra seem to belong to other nodes.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        with decompose_grid(self, X, y.reshape(len(y), -1)) as grid:
            self._set_fitted(grid.learn(), one_output=y.ndim == 1)
        return self

    @classmethod
    def from_parts(cls, parts, **parameters):
        """Build a generator from fitted parts.

        Parameters
        ----------
        parts : FittedParts
            Steps, lines, residuals and error, see `stellarhml.synthesis.decomposed_grid.FittedParts`.
        **parameters : dict
            Parameters of the constructor.

        Returns
        -------
        generator : SpectrumGenerator
            A fitted generator.
        """
        generator = cls(**parameters)
        generator.n_features_in_ = len(parts.label_names)
        generator._set_fitted(parts, one_output=False)
        return generator

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
            Number of pixels on which blase evaluated a line.
        interpolator : LineManifoldInterpolator, default=None
            None is ``LineManifoldInterpolator()``; ``absent="vanish"`` is the paper's rule.

        Returns
        -------
        generator : SpectrumGenerator
            Fitted, with lines only and labels (teff, logg, feh). Its error is unknown without spectra of the nodes.

        Raises
        ------
        GridNotFoundError
            If the folder holds no such file.
        BlaseStateError
            If a file is damaged or lacks a key.
        """
        parts = parts_of_archive(folder, wavelength, wing_cut, interpolator)
        return cls.from_parts(
            parts, wavelength=wavelength, interpolator=interpolator, n_factors=None, residual_rank=None
        )

    def predict(self, X, *, pixels=None, rv=None, return_std=False, absolute=False):
        """Generate spectra.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.
        pixels : slice, array-like of int or array-like of bool, default=None
            Pixels of `wavelength_` to generate, in increasing order; the time is proportional to their number. None:
            all.
        rv : float or array-like of shape (n_spectra,), default=None
            Radial velocities in km/s. The flux is given on `wavelength_`; pixels whose light comes from outside the
            band are NaN.
        return_std : bool, default=False
            Whether to return the generator's own error as well.
        absolute : bool, default=False
            Whether to return fluxes in the unit of the grid: normalised fluxes times the level of `log_level`.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_wanted) or (n_spectra,)
            Normalised fluxes, or with `absolute` those in the unit of the grid.
        std : ndarray of the same shape
            Standard deviations of the fluxes, only if `return_std`: the RMS error expected between nodes from
            held-out nodes, see `error_map_`. NaN where the grid is too small to measure it.

        Raises
        ------
        LabelsOutsideGridError
            If labels lie outside the grid and the interpolator's `extrapolate` is "raise".
        ValueError
            If `pixels` or `rv` have a wrong shape or value, `return_std` is set without an error map, or `absolute`
            where the level of the grid is not known.
        """
        if not is_plain(self, X):
            check_is_fitted(self)
            X = validate_data(self, X, dtype=np.float64, reset=False)
        weights, outside = self.interpolator_.node_weights(X)
        results = generate(self, X, weights, pixels, rv, return_std)
        if absolute:
            seen = np.asarray(self.wavelength_)[slice(None) if pixels is None else pixels]
            velocities = np.broadcast_to(0.0 if rv is None else rv, len(X))
            for i, (labels, velocity) in enumerate(zip(X, velocities, strict=True)):
                level = np.exp(self.log_level(labels, seen / doppler_shift(1.0, velocity)))
                for result in results:
                    result[i] *= level
        if self.interpolator_.extrapolate == "nan":
            for result in results:
                result[outside] = np.nan
        results = [result[:, 0] if self._one_output else result for result in results]
        return tuple(results) if return_std else results[0]

    def predict_nearest(self, X, *, pixels=None, rv=None):
        """Generate spectra at the nearest point of the grid, without warnings, as in a search.

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
            True for labels outside the grid.
        """
        check_is_fitted(self)
        weights, outside = self.interpolator_.locate(X)
        return generate(self, X, weights, pixels, rv)[0], outside

    def log_level(self, labels, wavelength=None, *, derivatives=False):
        """Natural logarithm of the level by which the grid's spectra were divided, interpolated over the labels.

        Parameters
        ----------
        labels : array-like of shape (n_labels,)
            Labels of one spectrum; those outside the grid are moved to its nearest point.
        wavelength : array-like of shape (n,), default=None
            Vacuum wavelengths in angstrom. None: `wavelength_`. Beyond the band, that of the band's end over the black
            body is taken.
        derivatives : bool, default=False
            Whether to return the derivatives too.

        Returns
        -------
        level : ndarray of shape (n,)
            Logarithm of the level, which is in the unit of the grid's flux.
        slopes : ndarray of shape (n_labels, n)
            Derivatives per unit of each label, only with `derivatives`.

        Raises
        ------
        ValueError
            If the level is not known: the flux was normalised before `fit`, the preprocessor divides by what is not
            smooth, or the generator was saved by an earlier version.
        """
        check_is_fitted(self)
        if self.level_ is None:
            raise ValueError(
                "This generator has no flux level: it was fitted to flux that was normalised already, its preprocessor "
                "divides by a level that is not smooth, or it was saved by an earlier version of stellarhml. Build it "
                "again from raw flux, with a preprocessor such as PhoenixPreprocessor, or give raw flux to "
                "`learn_level`."
            )
        wavelength = np.asarray(self.wavelength_ if wavelength is None else wavelength, dtype=np.float64)
        return level_of(self, labels, wavelength, derivatives=derivatives)

    def learn_level(self, X, y):
        """Learn the flux level of a grid that was normalised before `fit`.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels of all nodes of the grid, in any order.
        y : array-like of shape (n_spectra, n_pixels)
            Their raw fluxes on `wavelength_`; may be a memory map.

        Returns
        -------
        self : SpectrumGenerator
            The generator, with `level_`.

        Raises
        ------
        ValueError
            If a node is missing, or the raw flux over the generator's is not smooth.
        """
        check_is_fitted(self)
        self.level_ = learn_level(self, X, y)
        return self

    def jacobian(self, X, *, pixels=None, rv=None):
        """Differentiate spectra with respect to the labels, analytically.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels. The derivative is zero for labels that are moved to the edge of the grid.
        pixels, rv : object
            As in `predict`.

        Returns
        -------
        jacobian : ndarray of shape (n_spectra, n_wanted, n_labels)
            Derivatives per unit of the label. Zero for a label with one value in the grid.
        """
        check_is_fitted(self)
        if not is_plain(self, X):
            X = validate_data(self, X, dtype=np.float64, reset=False)
        return generate_jacobian(self, X, pixels, rv)

    def render_rows(self, labels, pixels, *, tangents=False, change=None):
        """Generate one spectrum for the forward model: a row of flux, then a row of derivatives for each label.

        Parameters
        ----------
        labels : ndarray of shape (n_labels,)
            Labels; those outside the grid are moved to its nearest point.
        pixels : slice
            Pixels of `wavelength_`.
        tangents : bool, default=False
            Whether to add the derivatives.
        change : callable, default=None
            Change of the lines: takes their numbers in the catalogue, parameters, and derivatives of these, and returns
            changed parameters and derivatives, see `stellarhml.synthesis.line_changes.LineChanges.apply`.

        Returns
        -------
        rows : ndarray of shape (1, n_wanted) or (1 + n_labels + n_more, n_wanted)
            Normalised flux, and its derivatives per unit of each label, and of what else `change` depends on.
        """
        X = np.asarray(labels, dtype=np.float64)[None]
        if not tangents:
            return generate(self, X, self.interpolator_.locate(X)[0], pixels, change=change)[0]
        flux, jacobian = generate_with_jacobian(self, X, pixels, change=change)
        return np.concatenate([flux, jacobian[0].T])

    def line_components(self, labels, pixels, *, change=None):
        """Lines that have an effect on some pixels, as the kernels take them.

        Parameters
        ----------
        labels, pixels, change : object
            As in `render_rows`.

        Returns
        -------
        lines : ndarray of shape (n,), int
            Their numbers in the catalogue.
        components : ndarray of shape (n, 6)
            As in `stellarhml.kernels.fused`.
        form : int
            Form of the lines in the product.
        """
        X = np.asarray(labels, dtype=np.float64)[None]
        mixture = self.interpolator_.split_at_breaks(X)
        if mixture is not None:  # on one side of a jump of the grid
            X = mixture.labels[[np.argmax(mixture.share)]]
        lines, theta, _ = self.lines_.lines(self.interpolator_.locate(X)[0], pixels=pixels, change=change)
        profile = self.decomposer_.profile
        return lines, line_components(theta, profile), get_profile(profile).form

    def observe(self, X, wavelength, *, resolving_power=None, rv=0.0, vsini=0.0, limb_darkening=0.6):
        """Generate spectra as observed with a spectrograph.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.
        wavelength : array-like of shape (n_pixels,), or sequence of those
            Vacuum wavelengths of the pixels in angstrom, unless they carry a unit: of one order, or of several orders
            or arms. Light is integrated over each pixel; edges lie half way between centers.
        resolving_power : float, array-like, or sequence of one for each order, default=None
            Wavelength over the full width at half maximum of the Gaussian line-spread function: a number, or a value
            for each pixel, at most that of the generator where it has one. None: the generator's own resolution.
        rv : float or array-like of shape (n_spectra,), default=0.0
            Radial velocities in km/s, unless they carry a unit.
        vsini : float or array-like of shape (n_spectra,), default=0.0
            Projected rotational velocities in km/s, unless they carry a unit.
        limb_darkening : float, default=0.6
            Linear coefficient of limb darkening, from 0 to 1.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_pixels), or list of those
            Normalised fluxes, a list if `wavelength` is a sequence of orders. NaN where a pixel needs light from
            outside the band.

        Raises
        ------
        ValueError
            If wavelengths are not finite and increasing, or a parameter is out of range.
        WavelengthCoverageError
            If no order overlaps the band.
        """
        observation = Observation(wavelength, resolving_power=resolving_power)
        if not is_plain(self, X):
            check_is_fitted(self)
            X = validate_data(self, X, dtype=np.float64, reset=False)
        rv, vsini = plain_array(rv, "km/s", "`rv`"), plain_array(vsini, "km/s", "`vsini`")
        try:
            rv, vsini = np.broadcast_to(rv, len(X)), np.broadcast_to(vsini, len(X))
        except ValueError as error:
            raise ValueError(
                f"`rv` and `vsini` have shapes {np.shape(rv)} and {np.shape(vsini)}, but X has {len(X)} rows. Pass one "
                "velocity for all, or one for each."
            ) from error
        _, outside = self.interpolator_.node_weights(X)
        chain = ForwardChain(self, observation, limb_darkening=limb_darkening)
        rows = [
            chain.flux(dict(zip(self.label_names_, labels, strict=True)) | {"rv": shift, "vsini": spin})
            for labels, shift, spin in zip(X, rv, vsini, strict=True)
        ]
        if self.interpolator_.extrapolate == "nan":
            rows = [[part * np.nan for part in row] if out else row for row, out in zip(rows, outside, strict=True)]
        fluxes = [np.stack(parts) for parts in zip(*rows, strict=True)]
        return fluxes[0] if observation.single else fluxes

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
        """Normalise spectra in the same way as those of the grid.

        Parameters
        ----------
        flux : array-like of shape (n_spectra, n_pixels)
            Raw fluxes.
        labels : array-like of shape (n_spectra, n_labels), default=None
            Labels, if known. Without them the spectra are not divided by a black body.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_pixels_out)
            Normalised fluxes; unchanged if there is no preprocessor.
        """
        check_is_fitted(self)
        if self.preprocessor_ is None:
            return np.asarray(flux)
        return self.preprocessor_.transform(flux, teff=None if labels is None else self._teff(np.asarray(labels)))

    @property
    def input_wavelength_(self):
        """Wavelengths of the pixels that `normalise` takes, ndarray of shape (n_pixels,), in angstrom."""
        check_is_fitted(self)
        return self.wavelength_ if self.preprocessor_ is None else self.preprocessor_.wavelength_

    def normalise_error(self, flux, error, normalised):
        """Errors in units of the normalised flux.

        Parameters
        ----------
        flux, error : ndarray of shape (n_spectra, n_pixels)
            Raw fluxes and their errors.
        normalised : ndarray of shape (n_spectra, n_pixels_out)
            Fluxes as from `normalise`.

        Returns
        -------
        error : ndarray of shape (n_spectra, n_pixels_out)
            Errors times the ratio of normalised to raw flux, where that is finite, else times its median; unchanged if
            there is no preprocessor.
        """
        check_is_fitted(self)
        if self.preprocessor_ is None:
            return error
        pixels = self.preprocessor_.pixels_
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = normalised / flux[:, pixels]
        return error[:, pixels] * np.where(np.isfinite(ratio), ratio, np.nanmedian(ratio, axis=1, keepdims=True))

    def expected_error(self, labels, pixels=slice(None)):
        """Standard deviation of one generated spectrum, at the nearest point of the grid.

        Parameters
        ----------
        labels : ndarray of shape (n_labels,)
            Labels.
        pixels : slice or ndarray of int, default=slice(None)
            Pixels of `wavelength_`.

        Returns
        -------
        std : ndarray of shape (n_wanted,) or None
            Standard deviations of the normalised flux; NaN where the grid is too small to measure them, None without an
            error map.
        """
        check_is_fitted(self)
        if self.error_map_ is None:
            return None
        return expected_error(self, np.asarray(labels, dtype=np.float64)[None], pixels)[0]

    def line_table(self, labels):
        """Tabulate the lines at given labels.

        Parameters
        ----------
        labels : array-like of shape (n_labels,)
            Labels of one spectrum.

        Returns
        -------
        table : DataFrame
            One row per line present, indexed by its wavelength in the catalogue [angstrom]; columns are the line's
            parameters, its `depth`, its `equivalent_width` [angstrom], its `saturation` (0 on the linear part of the
            curve of growth, 1 where the core no longer grows), and for each label the derivative of the equivalent
            width, such as `equivalent_width_per_teff` [angstrom / K]. After `tag_lines` also the `species` with the
            largest share of the line ("" if not known), this `share`, and `excitation` [eV] and `log_gf` of its
            strongest transition.
        """
        check_is_fitted(self)
        labels = np.reshape(np.asarray(labels, dtype=np.float64), (1, -1))
        weights, _ = self.interpolator_.node_weights(labels)
        _, _, slopes = self.interpolator_.locate(labels, derivatives=True)
        return make_line_table(self, weights, slopes)

    def tag_lines(self, line_list, *, medium=None):
        """Give each line its species, by a list of transitions.

        Parameters
        ----------
        line_list : LineList, str or path-like
            Transitions, or a file of them, see :func:`stellarhml.lines.line_lists.read_line_list`. It should be the
            list behind the grid, or a similar one.
        medium : {"vacuum", "air"}, default=None
            Medium of the wavelengths of a file. None: as it states, else air above 2000 angstrom.

        Returns
        -------
        self : SpectrumGenerator
            The generator, with `tags_`; `line_table` has them.

        Raises
        ------
        ValueError
            If the labels have no "teff", no transition lies in the band, or the file cannot be read.
        """
        check_is_fitted(self)
        self.tags_ = tags_of(self, as_line_list(line_list, medium=medium))
        return self

    def to_state(self) -> dict:
        """State for a file: parameters, and what was fitted.

        The latter: "preprocessor", "decomposer", "interpolator", "residual", "error_map", "line_span" [angstrom],
        "grid_id", "one_output", "feature_names", "tags", "calibration" and "level".
        """
        fitted = None
        if hasattr(self, "lines_"):
            fitted = {
                "preprocessor": self.preprocessor_,
                "decomposer": self.decomposer_,
                "interpolator": self.interpolator_,
                "residual": self.residual_,
                "error_map": self.error_map_,
                "line_span": self.lines_.span,
                "grid_id": self.grid_id_,
                "one_output": self._one_output,
                "feature_names": feature_names(self),
                "tags": None if self.tags_ is None else self.tags_.to_state(),
                "calibration": None if self.calibration_ is None else self.calibration_.to_state(),
                "level": None if self.level_ is None else self.level_.to_state(),
            }
        state = estimator_state(self, fitted)
        state["parameters"]["wavelength"] = stored_wavelength(self.wavelength, getattr(self, "wavelength_", None))
        if self.label_names is not None:
            state["parameters"]["label_names"] = [str(name) for name in self.label_names]
        return state

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        generator, fitted = make_estimator(cls, state)
        if generator.device is not None and not re.fullmatch(r"cpu|cuda(:\d{1,3})?", generator.device):
            raise StateError(f'`device` is {generator.device!r:.100}; it must be None, "cpu", "cuda" or "cuda:N".')
        if fitted is None:
            return generator
        keys = ("preprocessor", "decomposer", "interpolator", "residual", "error_map", "line_span", "grid_id")
        check_keys(fitted, (*keys, "one_output", "feature_names", "tags", "calibration", "level"))
        parts = _parts_of_state(fitted)
        vars(generator).update(take_feature_names(fitted, len(parts.label_names)))
        generator._set_fitted(parts, one_output=take(fitted, "one_output", bool))
        n_lines = len(generator.decomposer_.line_catalog_)
        if fitted["tags"] is not None:
            generator.tags_ = LineTags.from_state(fitted["tags"], n_lines)
        if fitted["calibration"] is not None:
            generator.calibration_ = CalibrationErrors.from_state(fitted["calibration"], n_lines)
        if generator._one_output and len(generator.wavelength_) != 1:
            raise StateError(f"`one_output` needs one pixel; there are {len(generator.wavelength_)}.")
        return generator

    @classmethod
    def from_state_1_0(cls, state):
        """Rebuild from a state of version 1.0, which has no tags of lines; StateError if it is invalid."""
        fitted = state.get("fitted") if isinstance(state, dict) else None
        if not isinstance(fitted, dict):
            return cls.from_state_1_1(state)
        if "tags" in fitted:
            raise StateError("A generator of version 1.0 has no `tags`.")
        return cls.from_state_1_1(state | {"fitted": fitted | {"tags": None}})

    @classmethod
    def from_state_1_1(cls, state):
        """Rebuild from a state of version 1.1, which has no errors of a calibration; StateError if it is invalid."""
        fitted = state.get("fitted") if isinstance(state, dict) else None
        if not isinstance(fitted, dict):
            return cls.from_state_1_2(state)
        if "calibration" in fitted:
            raise StateError("A generator before version 1.2 has no `calibration`.")
        return cls.from_state_1_2(state | {"fitted": fitted | {"calibration": None}})

    @classmethod
    def from_state_1_2(cls, state):
        """Rebuild from a state of version 1.2, which has no level; StateError if it is invalid."""
        fitted = state.get("fitted") if isinstance(state, dict) else None
        if not isinstance(fitted, dict):
            return cls.from_state_1_3(state)
        if "level" in fitted:
            raise StateError("A generator before version 1.3 has no `level`.")
        return cls.from_state_1_3(state | {"fitted": fitted | {"level": None}})

    @classmethod
    def from_state_1_3(cls, state):
        """Rebuild from a state of version 1.3, which has no resolving power; StateError if it is invalid."""
        parameters = state.get("parameters") if isinstance(state, dict) else None
        if not isinstance(parameters, dict):
            return cls.from_state_1_4(state)
        if "resolving_power" in parameters:
            raise StateError("A generator before version 1.4 has no `resolving_power`.")
        return cls.from_state_1_4(state | {"parameters": parameters | {"resolving_power": None}})

    @classmethod
    def from_state_1_4(cls, state):
        """Rebuild from a state of version 1.4, whose calibration has no corrections; StateError if it is invalid."""
        fitted = state.get("fitted") if isinstance(state, dict) else None
        calibration = fitted.get("calibration") if isinstance(fitted, dict) else None
        if not isinstance(calibration, dict):
            return cls.from_state(state)
        if "shifts" in calibration:
            raise StateError("The calibration of a generator before version 1.5 has no `shifts`.")
        return cls.from_state(state | {"fitted": fitted | {"calibration": calibration | {"shifts": None}}})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # lines cannot follow arbitrary targets
        tags.regressor_tags.poor_score = True
        return tags

    def _set_fitted(self, parts, *, one_output):
        self.label_names_, self.preprocessor_, self.decomposer_ = (
            parts.label_names,
            parts.preprocessor,
            parts.decomposer,
        )
        self.interpolator_, self.lines_ = parts.interpolator, parts.lines
        self.residual_, self.error_map_, self.grid_id_ = parts.residual, parts.error_map, parts.grid_id
        self.wavelength_ = parts.decomposer.wavelength_
        self.tags_, self.calibration_, self.level_, self._one_output = None, None, parts.level, one_output

    def _teff(self, labels):
        """Column of the effective temperature, or None."""
        return labels[:, self.label_names_.index("teff")] if "teff" in self.label_names_ else None


def _parts_of_state(fitted):
    """FittedParts from the "fitted" of a state; checks the parts, which are valid by themselves, against each other."""
    decomposer = take(fitted, "decomposer", VoigtLineDecomposer)
    interpolator = take(fitted, "interpolator", LineManifoldInterpolator)
    if not (hasattr(decomposer, "line_catalog_") and hasattr(interpolator, "table_")):
        raise StateError("`decomposer` and `interpolator` must be fitted.")
    wavelength, table, parameters = decomposer.wavelength_, interpolator.table_, decomposer.line_parameters
    n_pixels, n_lines = len(wavelength), len(decomposer.line_catalog_)
    if isinstance(table, np.ndarray) or table.n_lines != n_lines or tuple(interpolator.parameters) != parameters:
        raise StateError(f"`interpolator` must hold the {n_lines} lines of `decomposer`, with parameters {parameters}.")
    names = check_label_names(interpolator.label_names, interpolator.nodes_.shape[1])
    residual = take(fitted, "residual", (ResidualBasis, type(None)))
    if residual is not None and (residual.rows.n_pixels, len(residual.coefficients)) != (n_pixels, table.n_nodes):
        raise StateError(f"`residual` must have {n_pixels} pixels and {table.n_nodes} rows of coefficients.")
    error_map = take(fitted, "error_map", (ErrorModel, type(None)))
    if error_map is not None:
        sizes = (len(error_map.code), len(error_map.gain), error_map.label_names)
        if sizes != (n_pixels, table.n_nodes, names):
            raise StateError(
                f"`error_map` is of (pixels, rows, labels) {sizes}; it must be {(n_pixels, table.n_nodes, names)}."
            )
        error_map = error_map.with_interpolator(interpolator)
    preprocessor = take(fitted, "preprocessor", object)
    if preprocessor is not None and np.shape(getattr(preprocessor, "wavelength_out_", None)) != (n_pixels,):
        raise StateError(f"`preprocessor` must be fitted, and give the {n_pixels} pixels of `decomposer`.")
    measured = decomposer.wing_cut is None and n_pixels > 0
    span = take_array(fitted, "line_span", dtype="f8", shape=(n_lines, 2), optional=not measured)
    if span is not None and not measured:
        raise StateError("`line_span` must be None where lines are cut after a number of pixels.")
    options = {"profile": decomposer.profile, "wing_cut": decomposer.wing_cut, "span": span}
    lines = LineModel(interpolator, wavelength, **options)
    grid_id = take(fitted, "grid_id", (str, type(None)))
    level = fitted["level"]
    if level is not None:
        level = FluxLevel.from_state(level, table.n_nodes, wavelength, names)
    return FittedParts(names, preprocessor, decomposer, interpolator, lines, residual, error_map, grid_id, level)
