"""ObservingMixin: the methods by which a regressor infers from spectra as telescopes deliver them."""

from functools import partial

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stellarhml._parallel import map_items, one_thread
from stellarhml._units import plain_array, plain_number
from stellarhml.exceptions import WavelengthCoverageError
from stellarhml.flags import InferenceFlag
from stellarhml.forward.observation import Observation
from stellarhml.inference._inference_result import InferenceResult
from stellarhml.inference.observed_data import read_data, require_measured_in
from stellarhml.inference.observed_fit import ObservedFit
from stellarhml.inference.parameters import plain_values
from stellarhml.inference.posterior import sample_posterior


class ObservingMixin:
    """The methods `infer` and `infer_many` of a regressor."""

    def infer(
        self,
        spectrum,
        *,
        resolving_power,
        medium="vacuum",
        mask=None,
        transmission=None,
        fixed=None,
        limb_darkening=0.6,
        continuum_degree="auto",
        jitter=False,
        posterior="laplace",
        n_draws=2000,
        random_state=None,
        callback=None,
    ):
        """Infer labels, radial velocity and vsini of an observed star.

        Parameters
        ----------
        spectrum : ObservedSpectrum, Spectrum, sequence of Spectrum, or tuple of arrays
            What :func:`stellarhml.spectra.read_spectrum` returns; a `specutils.Spectrum` or a list of them
            (orders, arms); or (wavelength, flux) or (wavelength, flux, error), each an array of shape (n_pixels,), or of shape
            (n_orders, n_pixels), or a list of arrays. Wavelengths in angstrom unless they carry a unit; fluxes in any
            unit; errors are standard deviations, in the unit of the flux unless they carry their own. Pixels whose flux
            or error is not finite are left out, and those that a masked array masks.
        resolving_power : float, array-like, or sequence of one for each order
            Wavelength over the full width at half maximum of the Gaussian line-spread function: a number, or a value
            for each pixel. None: the spectrograph is as sharp as the generator.
        medium : {"vacuum", "air"}, default="vacuum"
            What wavelengths are measured in. Those of an ObservedSpectrum are in vacuum, whatever was read.
        mask : array-like or list of those, default=None
            True where a pixel is to be left out, such as one with telluric lines. As all that is given for each pixel,
            in the order of the spectrum's own pixels, also where the wavelengths of a Spectrum decrease.
        transmission : array-like or list of those, default=None
            What the star's light has gone through on its way, for each pixel, such as telluric lines; the model is
            multiplied by it.
        fixed : dict, default=None
            Values of parameters that are known, by name, such as ``{"rv": 0.0}``; in km/s, K and dex unless they carry
            a unit.
        limb_darkening : float, default=0.6
            Linear coefficient of limb darkening, from 0 to 1, for the rotation profile.
        continuum_degree : int, "auto" or None, default="auto"
            Degree of the polynomial of each order by which the model is multiplied, with its coefficients
            marginalised. "auto": a degree for each 1,000 km/s of an order, five at least. None: the flux is
            normalised and is taken as it is.
        jitter : bool, default=False
            Whether a constant, times the continuum, is added to the errors, such that the residuals have their size.
        posterior : {"laplace", "emcee", "dynesty"}, default="laplace"
            "laplace": a Gaussian about the best fit. "emcee", "dynesty": draws by these packages, which evaluate the
            model some thousand times: for windows of a few thousand pixels, or for patience.
        n_draws : int, default=2000
            Number of draws from a sampled posterior.
        random_state : int, RandomState instance or None, default=None
            Seed of the sampling.
        callback : callable, default=None
            Called before each evaluation of the model with the stage of the fit ("start", "first fit", "fit 1" to
            "fit 3", "errors") and the number of evaluations so far. What it raises ends the fit and is passed on.

        Returns
        -------
        result : InferenceResult
            Values and errors by name, covariance, flags, and the model on the data's pixels.

        Raises
        ------
        TypeError
            If `spectrum` is of no known kind.
        ValueError
            If wavelengths do not increase, shapes do not match, errors are not positive, all or nearly all pixels are
            masked, or a parameter is out of range.
        WavelengthCoverageError
            If the spectrum does not overlap the generator's band.
        """
        check_is_fitted(self)
        if self._templates is None:
            raise ValueError(
                "`infer` needs a generator with wavelengths in angstrom and search='nodes'; this one has "
                f"search={self.search!r} and {self.generator_.wavelength_.size} pixels from "
                f"{self.generator_.wavelength_[0]:g}."
            )
        if not (continuum_degree in ("auto", None) or (isinstance(continuum_degree, int) and continuum_degree >= 0)):
            raise ValueError(
                f"`continuum_degree` is {continuum_degree!r}; it needs a degree of 0 or more, 'auto' or None."
            )
        require_measured_in(medium, spectrum)
        data = read_data(spectrum, mask)
        wavelengths = data.wavelengths
        powers = _plain_power(resolving_power)
        if data.single and not (powers is None or np.isscalar(powers)):
            powers = [powers]
        if any(data.flipped) and isinstance(powers, (list, np.ndarray)) and len(powers) == len(data.flipped):
            powers = [p[::-1] if f and np.ndim(p) else p for p, f in zip(powers, data.flipped, strict=True)]
        observation = Observation(wavelengths, resolving_power=powers, medium=medium)
        settings = {
            "fixed": self._check_fixed(fixed),
            "limb_darkening": limb_darkening,
            "transmission": _check_transmission(transmission, data),
            "continuum_degree": continuum_degree,
            "jitter": jitter,
            "callback": callback,
        }
        with one_thread():
            fit = ObservedFit(self, data, observation, settings)
            result = fit.run()
            if posterior != "laplace":
                sample_posterior(fit, result, method=posterior, n_draws=n_draws, random_state=random_state)
        return result

    def infer_many(self, spectra, *, resolving_power, n_jobs=None, verbose=None, **settings):
        """Infer many stars; one that cannot be done does not stop the others.

        Parameters
        ----------
        spectra : sequence
            Spectra, each as `infer` takes it.
        resolving_power : float or sequence
            As in `infer`, the same for all.
        n_jobs : int, default=None
            Number of joblib workers over stars. None takes that of the regressor.
        verbose : bool, default=None
            Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.
        **settings : dict
            Other parameters of `infer`, the same for all.

        Returns
        -------
        results : list of InferenceResult
            In the order of the spectra. A star that failed has the flag FAILED, NaN values, and a message;
            :func:`stellarhml.inference.results_table` makes a table of them.
        """
        settings["resolving_power"] = resolving_power
        return list(infer_each(self, spectra, n_jobs=n_jobs, verbose=verbose, **settings))

    def _check_fixed(self, fixed):
        names = (*self.generator_.label_names_, "rv", "vsini")
        fixed = plain_values(fixed, "fixed")
        for name, value in fixed.items():
            if name not in names:
                raise ValueError(f"`fixed` names {name!r}, but the parameters are {names}.")
            low, high = self.observed_bounds_[names.index(name)]
            if not low <= value <= high:
                raise ValueError(f"`fixed` sets {name!r} to {value}, which is not within {low:g} to {high:g}.")
        return fixed


def _plain_power(power):
    """Resolving powers without units."""
    if power is None or np.isscalar(power):
        return power
    if isinstance(power, (list, tuple)):
        return [_plain_power(part) for part in power]
    return (
        plain_array(power, "", "`resolving_power`") if np.ndim(power) else plain_number(power, (), "`resolving_power`")
    )


def _check_transmission(transmission, data):
    if transmission is None:
        return None
    parts = [transmission] if data.single else list(transmission)
    parts = [np.asarray(part, dtype=np.float64) for part in parts]
    wanted = [flux.shape for flux in data.fluxes]
    if len(parts) == len(wanted):
        parts = [part[::-1] if flipped else part for part, flipped in zip(parts, data.flipped, strict=True)]
    if [part.shape for part in parts] != wanted or not all(np.isfinite(part).all() for part in parts):
        raise ValueError(
            f"`transmission` has shapes {[part.shape for part in parts]}; it needs a finite value for each pixel, "
            f"{wanted}. Mask pixels where it is not known, and give 1 there."
        )
    return parts


def infer_each(regressor, spectra, *, n_jobs=None, verbose=None, **settings):
    """Infer many stars, and give each result as soon as it is there.

    Parameters
    ----------
    regressor : BayesianStellarRegressor
        Fitted.
    spectra, n_jobs, verbose, **settings : object
        As in `infer_many`.

    Yields
    ------
    result : InferenceResult
        As in `infer_many`.
    """
    check_is_fitted(regressor)
    yield from map_items(
        partial(_infer_or_tell, regressor, settings),
        spectra,
        n_jobs=regressor.n_jobs if n_jobs is None else n_jobs,
        verbose=regressor.verbose if verbose is None else verbose,
        description="Inferring stars",
    )


def _infer_or_tell(regressor, settings, spectrum):
    """Result of one star, or one that says why there is none."""
    try:
        return regressor.infer(spectrum, **settings)
    except (ValueError, TypeError, WavelengthCoverageError) as error:
        names = (*regressor.generator_.label_names_, "rv", "vsini")
        nothing = dict.fromkeys(names, np.nan)
        return InferenceResult(
            names=names,
            values=nothing,
            errors=nothing,
            noise_errors=nothing,
            generator_errors=nothing,
            covariance=np.full((len(names),) * 2, np.nan),
            generator_covariance=np.full((len(names),) * 2, np.nan),
            bounds=regressor.observed_bounds_.copy(),
            reduced_chi2=np.nan,
            n_pixels=0,
            n_rejected=0,
            resolving_power_factor=(1.0, np.inf),
            jitter=0.0,
            flags=InferenceFlag.FAILED,
            messages=(" ".join(str(error).split()),),
            orders=[],
            n_evaluations=0,
            seconds=0.0,
        )
