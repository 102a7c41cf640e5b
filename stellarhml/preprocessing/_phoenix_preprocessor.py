"""PhoenixPreprocessor: normalisation of the raw flux of a model grid."""

import warnings
from numbers import Integral, Real

import numpy as np
from numpy.polynomial import legendre
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted, validate_data

from stellarhml._sklearn import Interval, StrOptions, fit_context
from stellarhml._state import (
    Sizes,
    StateError,
    check_keys,
    estimator_state,
    make_estimator,
    take_array,
    take_list,
)
from stellarhml._validation import check_wavelength
from stellarhml.exceptions import ContinuumWarning, WavelengthCoverageError
from stellarhml.physics.blackbody import blackbody_flux

SUNKEN = 0.02
"""Share of the continuum by which a maximum may lie below it; lower maxima lie inside broad lines."""


def find_anchors(flux, *, distance, width=1):
    """Pixels of the local maxima of a spectrum (n_pixels,), at least `distance` pixels apart, increasing, int64.

    If `distance` exceeds the length of the spectrum, or there is no local maximum, only the highest pixel is kept. The
    flux is averaged over `width` pixels first.
    """
    smooth = uniform_filter1d(flux, width, mode="nearest") if width > 1 else flux
    anchors = find_peaks(smooth, distance=max(1, min(distance, flux.size)))[0]
    return anchors if anchors.size else np.array([int(np.argmax(smooth))])


def drop_sunken_anchors(flux, wavelength, anchors, *, degree, width=1):
    """Leave out anchors that lie inside lines: more than 2 % below the polynomial through the others.

    They are dropped one by one from the lowest; degree + 2 are always kept. `flux` (n_pixels,) is the spectrum on which
    the anchors were found; `degree` and `width` are as in `continuum_operator`.
    """
    while len(anchors) > degree + 2:
        solve, basis, members = continuum_operator(wavelength, anchors, degree=degree, width=width)
        level = flux[members].mean(axis=1)
        ratio = level / (basis[anchors] @ (solve @ level))
        lowest = int(np.argmin(ratio))
        if ratio[lowest] > 1 - SUNKEN:
            break
        anchors = np.delete(anchors, lowest)
    return anchors


def continuum_operator(wavelength, anchors, *, degree, width=1):
    """Least-squares polynomial through anchors, as two small matrices.

    `wavelength` (n_pixels,) is in angstrom; a `degree` of n_anchors - 1 at most is used. Returns `solve`
    (n_coefficients, n_anchors), from anchor fluxes to Legendre coefficients, `basis` (n_pixels, n_coefficients), from
    these to the continuum, and `members` (n_anchors, width), the pixels around each anchor whose mean is its flux.
    """
    degree = min(degree, len(anchors) - 1)
    span = max(wavelength[-1] - wavelength[0], np.finfo(float).tiny)
    x = 2 * (wavelength - wavelength[0]) / span - 1
    basis = legendre.legvander(x, degree)
    solve = np.linalg.pinv(basis[anchors])
    members = np.clip(anchors[:, None] + np.arange(width) - width // 2, 0, wavelength.size - 1)
    return solve, basis, members


_STORED_DEGREE = 30  # limit for a file: a higher degree would let a small file take much memory


class PhoenixPreprocessor(TransformerMixin, BaseEstimator):
    r"""Divide spectra by a black body, a percentile and a polynomial continuum.

    The paper's :math:`\bar S = S / (B\,Q_5\,P_{99})`: black body at the known Teff, percentile of the flux, polynomial
    through local maxima. By default the maxima are found once, on the mean of the training spectra, and shared by
    all spectra: the continuum is then linear in the flux and varies smoothly with the labels, whereas maxima that
    change from node to node would make it jump. Maxima inside broad lines, more than 2 % below the polynomial through
    the others, are left out. ``continuum="each"`` is the paper's method.

    Parameters
    ----------
    wavelength : array-like of shape (n_pixels,), default=None
        Vacuum wavelengths of the columns of `X`, in angstrom, strictly increasing. If None, the pixel index
        is used; the black body cannot be divided then.
    window : tuple of (float, float), default=None
        Wavelengths to keep, both ends included, in angstrom. None keeps all.
    percentile : float, default=99
        Percentile of the flux that becomes 1 before the continuum is fitted, in (0, 100].
    degree : int, default=5
        Degree of the polynomial. (gollum's `polyorder=5` has five coefficients, that is degree 4.)
    peak_distance : int, default=5001
        Smallest distance between two maxima, in pixels. With fewer than `degree` + 1 maxima the degree is
        lowered, with a :class:`~stellarhml.exceptions.ContinuumWarning`.
    anchor_width : int, default=1
        Number of pixels around a maximum over which its flux is averaged; more than one for noisy spectra.
    continuum : {"shared", "each", "none"}, default="shared"
        Maxima shared by all spectra, each spectrum's own (the paper), or no polynomial.

    Attributes
    ----------
    wavelength_ : ndarray of shape (n_pixels,), dtype float64
        Wavelengths of the columns of `X`, in angstrom.
    wavelength_out_ : ndarray of shape (n_pixels_out,), dtype float64
        Wavelengths of the columns that `transform` returns.
    anchors_ : ndarray of shape (n_anchors,), dtype int64
        Columns of the output that carry the shared continuum.
    n_features_in_ : int
        Number of pixels seen during :term:`fit`.

    See Also
    --------
    VoigtLineDecomposer : Turns normalised flux into lines.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml import PhoenixPreprocessor
    >>> wavelength = np.linspace(8500, 8510, 201)
    >>> slope = 3 + 0.1 * (wavelength - 8500)
    >>> flux = slope * (1 - 0.5 * np.exp(-(((wavelength - 8505) / 0.1) ** 2)))[None]
    >>> scaler = PhoenixPreprocessor(wavelength=wavelength, continuum="none", window=(8504, 8506))
    >>> scaler.fit_transform(flux).round(2)[0, ::10]
    array([0.94, 0.96, 0.49, 0.99, 1.  ])
    """

    _parameter_constraints: dict = {
        "wavelength": ["array-like", None],
        "window": [tuple, None],
        "percentile": [Interval(Real, 0, 100, closed="right")],
        "degree": [Interval(Integral, 0, None, closed="left")],
        "peak_distance": [Interval(Integral, 1, None, closed="left")],
        "anchor_width": [Interval(Integral, 1, None, closed="left")],
        "continuum": [StrOptions({"shared", "each", "none"})],
    }

    def __init__(
        self,
        *,
        wavelength=None,
        window=None,
        percentile=99,
        degree=5,
        peak_distance=5001,
        anchor_width=1,
        continuum="shared",
    ):
        self.wavelength = wavelength
        self.window = window
        self.percentile = percentile
        self.degree = degree
        self.peak_distance = peak_distance
        self.anchor_width = anchor_width
        self.continuum = continuum

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, teff=None):
        """Find the maxima that carry the continuum.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Raw fluxes, any unit.
        y : None
            Ignored, present for the pipeline.
        teff : array-like of shape (n_spectra,), default=None
            Effective temperatures in K; NaN or None where unknown.

        Returns
        -------
        self : PhoenixPreprocessor
            The fitted transformer.

        Raises
        ------
        WavelengthCoverageError
            If no pixel lies within `window`.
        ValueError
            If `wavelength` does not match `X`, or `teff` is given without wavelengths.
        """
        X = validate_data(self, X, dtype=FLOAT_DTYPES)
        self.wavelength_ = check_wavelength(self.wavelength, n_pixels=X.shape[1])
        self._pixels = self._window_pixels()
        self.wavelength_out_ = self.wavelength_[self._pixels]
        rows = self._scaled_rows(X, teff)
        mean = sum((row for row, _ in rows), np.zeros(self.wavelength_out_.size)) / len(X)
        self.anchors_ = drop_sunken_anchors(
            mean, self.wavelength_out_, self._anchors(mean), degree=self.degree, width=self.anchor_width
        )
        self._operator = continuum_operator(
            self.wavelength_out_, self.anchors_, degree=self.degree, width=self.anchor_width
        )
        if self.continuum == "shared" and len(self.anchors_) <= self.degree:
            warnings.warn(
                f"The spectra have {len(self.anchors_)} local maxima at least peak_distance={self.peak_distance} "
                f"pixels apart, too few for degree={self.degree}: degree {len(self.anchors_) - 1} is used. "
                "Lower `peak_distance` or `degree`.",
                ContinuumWarning,
                stacklevel=2,
            )
        return self

    def fit_transform(self, X, y=None, *, teff=None):
        """Fit to `X`, then normalise it.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Raw fluxes, any unit.
        y : None
            Ignored.
        teff : array-like of shape (n_spectra,), default=None
            Effective temperatures in K.

        Returns
        -------
        X_normalised : ndarray of shape (n_spectra, n_pixels_out)
            Normalised fluxes.
        """
        return self.fit(X, teff=teff).transform(X, teff=teff)

    def transform(self, X, teff=None):
        """Normalise spectra.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Raw fluxes, any unit.
        teff : array-like of shape (n_spectra,), default=None
            Effective temperatures in K. The black body is divided only where Teff is finite.

        Returns
        -------
        X_normalised : ndarray of shape (n_spectra, n_pixels_out)
            Dimensionless fluxes, of the dtype of `X`.

        Warns
        -----
        ContinuumWarning
            States the number of spectra whose continuum or percentile is not positive: they are only divided by their
            largest absolute value.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOAT_DTYPES, reset=False)
        out = np.empty((len(X), self.wavelength_out_.size), dtype=X.dtype)
        n_bad = 0
        for i, (row, good) in enumerate(self._scaled_rows(X, teff)):
            continuum = self._continuum(row)
            good &= bool(np.all(continuum > 0))
            out[i] = row / (continuum if good else np.abs(row).max() or 1.0)
            n_bad += not good
        if n_bad:
            warnings.warn(
                f"{n_bad} of {len(X)} spectra have no positive continuum; they were only divided by their largest "
                "absolute flux. Check their fluxes, or lower `degree`.",
                ContinuumWarning,
                stacklevel=2,
            )
        return out

    def inverse_transform(self, X):
        """Return normalised fluxes unchanged: the continuum of a spectrum is not stored.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels_out)
            Normalised fluxes.

        Returns
        -------
        X : ndarray of shape (n_spectra, n_pixels_out)
            The same fluxes. It lets the preprocessor stand in front of a decomposer in a
            :class:`~sklearn.compose.TransformedTargetRegressor`, whose predictions are then normalised.
        """
        check_is_fitted(self)
        return np.asarray(X)

    def get_feature_names_out(self, input_features=None):
        """Names of the output columns.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of shape (n_pixels_out,), dtype object
            Wavelengths in angstrom as text.
        """
        check_is_fitted(self)
        return np.array([f"{value:.3f}" for value in self.wavelength_out_], dtype=object)

    def to_state(self) -> dict:
        """State for a file: parameters and fitted values; "window_pixels" are the first and the last + 1."""
        if not hasattr(self, "anchors_"):
            return estimator_state(self, None)
        # the same array is stored once
        given = isinstance(self.wavelength, np.ndarray) and np.array_equal(self.wavelength, self.wavelength_)
        first, last, _ = self._pixels.indices(self.wavelength_.size)
        fitted = {
            "wavelength": self.wavelength if given else self.wavelength_,
            "window_pixels": [first, last],
            "anchors": self.anchors_,
            "feature_names": getattr(self, "feature_names_in_", None),
        }
        return estimator_state(self, fitted)

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        preprocessor, fitted = make_estimator(cls, state)
        if fitted is None:
            return preprocessor
        check_keys(fitted, ("wavelength", "window_pixels", "anchors", "feature_names"))
        sizes, width, degree = Sizes(), preprocessor.anchor_width, preprocessor.degree
        wavelength = take_array(
            fitted, "wavelength", dtype="f8", shape=("n_pixels",), sizes=sizes, low=0, increasing="strictly"
        )
        first, last = take_list(fitted, "window_pixels", int, length=2)
        if not 0 <= first < last <= sizes["n_pixels"]:
            raise StateError(f"`window_pixels` is {first}, {last}; there are {sizes['n_pixels']} pixels.")
        anchors = take_array(
            fitted, "anchors", dtype="i8", shape=(None,), low=0, high=last - first - 1, increasing="strictly"
        )
        names = take_list(fitted, "feature_names", str, length="n_pixels", sizes=sizes, distinct=True, optional=True)
        if not anchors.size or degree > _STORED_DEGREE or not width * anchors.size <= 10**6 + 4 * sizes["n_pixels"]:
            raise StateError(
                f"A continuum has {anchors.size} `anchors` of `anchor_width` {width} and `degree` {degree}. A file "
                f"holds degrees up to {_STORED_DEGREE}, and anchors that do not cover the pixels many times."
            )
        preprocessor.n_features_in_ = sizes["n_pixels"]
        if names is not None:
            preprocessor.feature_names_in_ = np.array(names, dtype=object)
        preprocessor.wavelength_, preprocessor.anchors_ = wavelength, anchors
        preprocessor._pixels = slice(first, last)
        preprocessor.wavelength_out_ = wavelength[first:last]
        preprocessor._operator = continuum_operator(
            preprocessor.wavelength_out_, anchors, degree=degree, width=preprocessor.anchor_width
        )
        return preprocessor

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def pixels_(self):
        """Columns inside `window`, a slice of the input pixels."""
        check_is_fitted(self)
        return self._pixels

    def _window_pixels(self):
        """Columns inside `window`."""
        if self.window is None:
            return slice(None)
        low, high = self.window
        first, last = np.searchsorted(self.wavelength_, low), np.searchsorted(self.wavelength_, high, side="right")
        if last <= first:
            raise WavelengthCoverageError(
                f"`window` is ({low}, {high}) angstrom, but the spectra cover {self.wavelength_[0]:.2f} to "
                f"{self.wavelength_[-1]:.2f}. Give a window that overlaps them."
            )
        return slice(int(first), int(last))

    def _scaled_rows(self, X, teff):
        """Yield each cropped spectrum, divided by black body and percentile, and whether the percentile is positive."""
        teff = np.full(len(X), np.nan) if teff is None else np.asarray(teff, dtype=np.float64)
        if teff.shape != (len(X),) or np.any(teff <= 0):
            raise ValueError(
                f"`teff` has shape {teff.shape} and smallest value {np.nanmin(teff, initial=np.inf)}; it needs one "
                f"positive temperature in K (or NaN where unknown) for each of the {len(X)} spectra."
            )
        if self.wavelength is None and np.any(np.isfinite(teff)):
            raise ValueError(
                "A black body needs wavelengths. Pass `wavelength`, in vacuum angstrom, or leave `teff` out."
            )
        for row, temperature in zip(X, teff, strict=True):
            row = row[self._pixels].astype(np.float64)
            if np.isfinite(temperature):
                row = row / blackbody_flux(self.wavelength_out_, temperature)
            scale = np.percentile(row, self.percentile)
            good = bool(scale > 0)
            yield row / (scale if good else 1.0), good

    def _anchors(self, row):
        return find_anchors(row, distance=self.peak_distance, width=self.anchor_width)

    def _continuum(self, row):
        """Continuum of one scaled spectrum, shape (n_pixels_out,)."""
        if self.continuum == "none":
            return np.ones(1)
        operator = self._operator
        if self.continuum == "each":
            operator = continuum_operator(
                self.wavelength_out_, self._anchors(row), degree=self.degree, width=self.anchor_width
            )
        solve, basis, members = operator
        return basis @ (solve @ row[members].mean(axis=1))
