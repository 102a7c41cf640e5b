"""BayesianStellarRegressor: labels from fluxes, by a fit of a spectrum generator."""

import warnings
from collections.abc import Iterable
from contextlib import suppress
from copy import copy
from functools import partial
from inspect import signature
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from stellarhml._parallel import map_items, one_thread
from stellarhml._sklearn import HasMethods, Interval, StrOptions, fit_context
from stellarhml._state import StateError, check_keys, estimator_state, make_estimator, take, take_number
from stellarhml.exceptions import InferenceWarning
from stellarhml.flags import InferenceFlag
from stellarhml.forward.blends import Companion, Spots
from stellarhml.forward.chain import RV, VSINI
from stellarhml.forward.line_spread import FACTOR, FACTOR_BOUNDS, factor_parameter, order_factors
from stellarhml.forward.macroturbulence import VMAC, Macroturbulence
from stellarhml.forward.stages import Stage, label_parameters
from stellarhml.forward.tellurics import AMOUNT, AMOUNTS, RV_AIR, WIDTH_AIR
from stellarhml.forward.transmission import Transmission
from stellarhml.forward.veiling import SLOPE, VEILING, Veiling
from stellarhml.inference._inference_result import InferenceResult, draw_within
from stellarhml.inference.line_fit import check_line_settings, limits_of_changes
from stellarhml.inference.node_spectra import NodeSpectra
from stellarhml.inference.order_velocities import check_wavelength_error
from stellarhml.inference.parameter_set import ParameterSet, check_bounds, check_fixed, check_priors
from stellarhml.inference.posterior import check_sampling, sample_posterior
from stellarhml.inference.rest_fit import RestSettings, fit_at_rest
from stellarhml.inference.second_component import fit_second
from stellarhml.inference.star_fit import FitSettings, StarFit
from stellarhml.inference.survey import Survey, check_survey, few_of, is_survey
from stellarhml.inference.telluric_frame import as_tellurics, check_barycentric, in_frame_of
from stellarhml.spectra.conversion import as_observed_spectrum
from stellarhml.synthesis._spectrum_generator import SpectrumGenerator


class BayesianStellarRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Infer labels from spectra by a fit of a spectrum generator.

    `fit` fits the `generator` on (labels, flux). `predict` finds, for each spectrum, the labels whose model spectrum
    fits best: a global search, then a least-squares polish from its best points. The default search compares the
    spectra of all nodes; the paper's is a Gaussian-process minimisation of the RMS difference with 30 random and 20
    guided calls.

    Parameters
    ----------
    generator : SpectrumGenerator, default=None
        Model of the spectra. None is ``SpectrumGenerator()``.
    search : {"nodes", "bayes"}, default="nodes"
        "nodes": compare the spectra of all nodes. "bayes": `skopt.gp_minimize`, as in the paper; ten times slower.
    n_initial_points : int, default=30
        Random calls of the "bayes" search. The published version of the paper takes 100.
    n_calls : int, default=50
        Total number of calls of the "bayes" search. The published version takes 120.
    polish : bool, default=True
        Whether a least-squares fit follows the search. False returns the best point of the search, as the paper does.
    n_starts : int, default=3
        Number of points of the search from which the polish starts; the best result is kept.
    continuum_degree : int, default=3
        Degree of the polynomial continuum by which the model is multiplied, refitted at every evaluation: the
        normalisation of a noisy spectrum is never exact. None compares the fluxes directly, as the paper does.
    bounds : dict, default=None
        Lowest and highest value of labels by name, within those of the grid, such as ``{"teff": (5000, 6000)}``; for
        `infer` also of "rv" and "vsini" in km/s (default -500 to 500 and 0 to 300), and where they are fitted of
        "vmac", "vmic", "damping", abundances such as "[Si/Fe]", "veiling", "veiling_slope", amounts of the atmosphere
        such as "a_H2O", "rv_air", "width_air", and "resolving_power_factor". With astropy units or without.
    priors : dict, default=None
        Mean and standard deviation of a normal prior by name, such as ``{"logg": (4.4, 0.1)}``: of labels, and for
        `infer` of all that `bounds` can name. Microturbulence, damping, abundances, the atmosphere and the resolving
        power have priors of their own, see `infer`, which these replace; other priors are flat between the bounds. A
        prior of "teff" may come from a color, see :func:`stellarhml.inference.teff_from_gaia`.
    generator_error : bool, default=True
        Whether the generator's own error, see `SpectrumGenerator.error_map_`, is included: in the variance of the
        pixels where flux errors are given, and in the standard deviations of the labels.
    line_errors : bool or "auto", default="auto"
        Whether `infer` takes the lines of the grid as uncertain: the strength, velocity and widths of each line may
        differ from the star's, by amounts whose scatter is found from the star. "auto": where that is more likely than
        the grid's own lines. `predict` takes the lines as they are.
    grid_microturbulence : float, default=1.0
        Microturbulence of the grid's spectra, in km/s, from which that of a star is computed.
    random_state : int, RandomState instance or None, default=None
        Seed of the search. It is drawn once in `fit`, so that the result of a spectrum does not depend on the others.
    n_jobs : int, default=None
        Number of joblib workers, over spectra.
    verbose : bool, default=None
        Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.

    Attributes
    ----------
    generator_ : SpectrumGenerator
        The fitted generator.
    bounds_ : dict of str to tuple of (float, float)
        Lowest and highest value of each label, of "rv" and "vsini", and of what else `bounds` names, by name.
    node_spectra_ : NodeSpectra or None
        Spectra of the nodes, from which searches start; None with search="bayes".
    n_features_in_ : int
        Number of pixels.

    See Also
    --------
    SpectrumGenerator : The forward model.

    Notes
    -----
    The standard deviations of ``predict(..., return_std=True)`` come from the linearised least-squares fit with free
    continuum: the noise (`flux_error`, or an estimate from the residuals), and the generator's error as measured on
    held-out nodes.

    Examples
    --------
    >>> from stellarhml import BayesianStellarRegressor, SpectrumGenerator
    >>> from stellarhml.datasets import make_stellar_grid
    >>> grid = make_stellar_grid(random_state=0)
    >>> generator = SpectrumGenerator(wavelength=grid.wavelength)
    >>> regressor = BayesianStellarRegressor(generator=generator, search="nodes", random_state=0)
    >>> regressor.fit(grid.flux, grid.labels).predict(grid.flux.mean(axis=0)[None]).shape
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
        "line_errors": ["boolean", StrOptions({"auto"})],
        "grid_microturbulence": [Interval(Real, 0, 20, closed="both")],
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
        line_errors="auto",
        grid_microturbulence=1.0,
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
        self.line_errors = line_errors
        self.grid_microturbulence = grid_microturbulence
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
                f"The grid has one node only ({len(X)} spectra, n_samples = 1 distinct label), but interpolation needs "
                "two or more. Give spectra at two or more labels."
            )
        generator = SpectrumGenerator() if self.generator is None else clone(self.generator)
        return self._adopt(generator.fit(labels, X), one_output=y.ndim == 1)

    @classmethod
    def from_generator(cls, generator, **parameters):
        """Build a regressor from a fitted generator.

        Parameters
        ----------
        generator : SpectrumGenerator
            A fitted generator.
        **parameters : dict
            Parameters of the constructor, except `generator`.

        Returns
        -------
        regressor : BayesianStellarRegressor
            Fitted; `predict` takes spectra on the pixels and in the unit of the generator's training spectra.
        """
        check_is_fitted(generator)
        regressor = cls(generator=generator, **parameters)
        regressor._validate_params()
        return regressor._adopt(generator, one_output=False)

    def predict(self, X, *, flux_error=None, return_std=False):
        """Infer labels.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Fluxes, as in `fit`.
        flux_error : array-like of shape (n_spectra, n_pixels), default=None
            Standard deviations of the fluxes, positive; infinity masks a pixel. A preprocessor inside the generator
            scales them with the flux. A preprocessor before this step of a pipeline does not: then give the errors of
            the normalised flux.
        return_std : bool, default=False
            Whether to return standard deviations too.

        Returns
        -------
        labels : ndarray of shape (n_spectra, n_labels) or (n_spectra,)
            Inferred labels.
        std : ndarray of the same shape
            Standard deviations, only if `return_std`. Infinite where the spectrum does not depend on a label.

        Warns
        -----
        InferenceWarning
            States how many spectra have a label at a bound, and for how many the polish did not converge.
        """
        results = self._fit_at_rest(X, flux_error, return_std)
        labels, std = (np.array([list(getattr(r, part).values()) for r in results]) for part in ("values", "errors"))
        if self._one_output:
            labels, std = labels[:, 0], std[:, 0]
        return (labels, std) if return_std else labels

    def sample_posterior(self, X, *, flux_error=None, n_draws=1000, random_state=None):
        """Draw labels from their posterior, a Gaussian about the best fit within the bounds.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_pixels)
            Fluxes, as in `fit`.
        flux_error : array-like of shape (n_spectra, n_pixels), default=None
            As in `predict`.
        n_draws : int, default=1000
            Number of draws for each spectrum.
        random_state : int, RandomState instance or None, default=None
            Seed. The draws of a spectrum depend on its row in X.

        Returns
        -------
        draws : ndarray of shape (n_spectra, n_draws, n_labels)
            Labels.
        """
        results = self._fit_at_rest(X, flux_error, True)
        rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
        bounds = np.array([self.bounds_[name] for name in self.generator_.label_names_])
        means = [np.array(list(result.values.values())) for result in results]
        stars = zip(means, results, strict=True)
        return np.stack([draw_within(rng, mean, result.covariance, bounds, n_draws) for mean, result in stars])

    def infer(
        self,
        spectrum,
        *,
        resolving_power,
        medium=None,
        mask=None,
        transmission=None,
        tellurics=None,
        barycentric=None,
        abundances="auto",
        microturbulence="auto",
        damping=False,
        macroturbulence=None,
        resolving_power_error=None,
        resolving_power_scatter=None,
        wavelength_error=None,
        companion=None,
        spots=None,
        veiling=None,
        components="auto",
        line_errors=None,
        stages=(),
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
            As :func:`stellarhml.spectra.read_spectrum` returns it; a `specutils.Spectrum` or a list of them
            (orders, arms); or (wavelength, flux) or (wavelength, flux, error), each an array of shape (n_pixels,), or
            of shape (n_orders, n_pixels), or a list of arrays. Wavelengths in angstrom unless they carry a unit;
            fluxes in any unit; errors are standard deviations, in the unit of the flux unless they carry their own.
            Pixels that are masked, or whose flux or error is not finite, are left out.
        resolving_power : float, array-like, LineSpread, or sequence of one for each order
            Wavelength over the full width at half maximum of the Gaussian line-spread function: a number, or a value
            for each pixel. A :class:`stellarhml.forward.line_spread.LineSpread` is a function that is not Gaussian.
            None: the generator's own resolution, which is the highest allowed of one built for one resolving power.
        medium : {"vacuum", "air"}, default=None
            Medium in which the wavelengths are given. None: as the header of a specutils spectrum states, else vacuum.
            Those of an ObservedSpectrum are in vacuum already.
        mask : array-like or list of those, default=None
            True where a pixel is to be left out, such as one with telluric lines. Like every per-pixel argument, in
            the order of the spectrum's own pixels, also where the wavelengths of a Spectrum decrease.
        transmission : tuple of (array-like, array-like), default=None
            Vacuum wavelengths in angstrom and transmission of the Earth's atmosphere, sampled finely enough to resolve
            its lines, in the frame of the spectrum: the model is multiplied by it before the convolution with the
            line-spread function. Pixels outside the table are masked. It is fixed; `tellurics` fits amounts.
        tellurics : Atmosphere, str, path-like, tuple or Tellurics, default=None
            The atmosphere whose absorption is fitted together with the star: as
            :func:`stellarhml.spectra.read_atmosphere` returns it, or a file that it reads; a tuple of vacuum
            wavelengths in angstrom and transmissions by species; or a
            :class:`stellarhml.forward.tellurics.Tellurics`. The amount of each species, "a_H2O", and the velocity of
            the air, "rv_air" in km/s, are parameters. Pixels outside the table are masked.
        barycentric : float, "header" or None, default=None
            Velocity of the observatory towards the star in km/s, the barycentric correction; "header": from time, place
            and target in the header of the file. With it the result has rv in both frames. A spectrum that was shifted
            to the barycenter needs it for `tellurics`, whose lines are at rest at the observatory.
        abundances : "auto", sequence of str or None, default="auto"
            Elements, such as ``["Si", "Ca"]``, whose abundances "[Si/Fe]" in dex are fitted, from the strengths of
            their lines in a generator with species (`SpectrumGenerator.tag_lines`). Molecules count for their elements,
            and have a factor of their own each, such as "CN strength". "auto": those with two lines or more, if lines
            are taken as uncertain. Their priors have a mean of 0 and a standard deviation of 0.1 dex. Like the next
            two, it needs a generator at full resolution: "auto" is None for one built for one resolving power.
        microturbulence : bool or "auto", default="auto"
            Whether the microturbulence "vmic" in km/s is fitted, with a prior about that of the grid, and a standard
            deviation of 0.3 km/s. "auto": if lines are taken as uncertain.
        damping : bool, default=False
            Whether a common factor of all damping wings, "damping" in dex, is fitted. It trades with log g.
        macroturbulence : {"radial-tangential", "gaussian"}, default=None
            Profile of macroturbulence, whose velocity "vmac" in km/s (0 to 50) is then fitted, see
            :class:`stellarhml.forward.macroturbulence.Macroturbulence`. At moderate resolving power vmac, vsini and the
            resolving power are nearly degenerate: fix one of the velocities, or give vsini a prior. None: no
            macroturbulence, which vsini then absorbs.
        resolving_power_error : float, default=None
            Relative standard deviation of the resolving power, such as 0.1: the factor by which that of all pixels
            differs from the stated one, "resolving_power_factor", is then fitted, with a normal prior of 1 and this
            standard deviation. In slow rotators it is nearly degenerate with vsini. None: it is exact.
        resolving_power_scatter : float, default=None
            Relative standard deviation between orders of the resolving power, such as 0.03: a factor of each order,
            "resolving_power_factor_N" with its number, is then fitted, with a normal prior of 1 and this standard
            deviation, beside that of all orders if `resolving_power_error` is given. None: there is none.
        wavelength_error : float, default=None
            Standard deviation in km/s by which the wavelengths of each order, as a whole, may be off. Shifts of the
            orders are then fitted with this prior and marginalised. None: wavelengths are exact.
        companion : bool, dict or Companion, default=None
            Whether a second star is looked for: True, the parameters of
            :class:`stellarhml.forward.blends.Companion` as a dictionary, such as ``{"tied": ()}``, or such a stage. Its
            parameters are "flux_ratio", "teff_2", "logg_2", "rv_2" and "vsini_2".
        spots : bool, dict or Spots, default=None
            Whether spots are looked for, see :class:`stellarhml.forward.blends.Spots`, with the parameters "teff_spot"
            and "f_spot"; as `companion`, which cannot be given too.
        veiling : bool, "sloped", dict or Veiling, default=None
            Whether a featureless light "veiling", in units of the continuum, is fitted: True, constant; "sloped",
            with "veiling_slope", see :class:`stellarhml.forward.veiling.Veiling`.
        components : {"auto", 1, 2}, default="auto"
            Whether the second star or the spots are in the result: "auto", where two components are more likely than
            one by 10 in ln evidence (from the Bayesian information criterion), which the attribute `log_evidence` of
            the result has; 2, always; 1, never.
        line_errors : bool or "auto", default=None
            As `line_errors` of the regressor, which None takes. With two components or veiling, lines are those of the
            grid.
        stages : sequence of Stage, default=()
            Further effects between star and spectrograph, see :class:`stellarhml.forward.stages.Stage`, from the star
            outwards; rotation and macroturbulence come before, the transmission last. Their parameters are fitted, too.
        fixed : dict, default=None
            Values of parameters that are not fitted, by name, such as ``{"rv": 0.0}``; in km/s, K and dex unless they
            carry a unit.
        limb_darkening : float, default=0.6
            Linear coefficient of limb darkening, from 0 to 1, for the rotation profile.
        continuum_degree : int, "auto" or None, default="auto"
            Degree of the polynomial continuum by which the model of each order is multiplied, with its coefficients
            marginalised. "auto": one degree for each 1,000 km/s of an order, five at least. None: the flux is already
            normalised, and no continuum is fitted.
        jitter : bool, default=False
            Whether a jitter term, constant in units of the continuum, is added in quadrature to the errors, so that
            the reduced chi-square does not exceed 1.
        posterior : {"laplace", "emcee", "dynesty"}, default="laplace"
            "laplace": a Gaussian about the best fit. "emcee", "dynesty": draws by these packages, which evaluate the
            model some thousand times: minutes for windows of a few thousand pixels.
        n_draws : int, default=2000
            Number of draws from a sampled posterior.
        random_state : int, RandomState instance or None, default=None
            Seed of the sampling.
        callback : callable, default=None
            Called before each evaluation of the model with the stage of the fit ("start", "first fit", "fit 1" to
            "fit 3", "line fit", "errors") and the number of evaluations so far. An exception that it raises ends the
            fit.

        Returns
        -------
        result : InferenceResult
            Values and errors by name, covariance, flags, and the model on the data's pixels.

        Raises
        ------
        TypeError
            If `spectrum` is of an unknown type.
        ValueError
            If wavelengths do not increase, shapes do not match, errors are not positive, too few pixels are left, or a
            parameter is out of range.
        WavelengthCoverageError
            If the spectrum does not overlap the generator's band.
        """
        check_is_fitted(self)
        settings = self._fit_settings(
            transmission=transmission,
            tellurics=tellurics,
            barycentric=barycentric,
            abundances=abundances,
            microturbulence=microturbulence,
            damping=damping,
            macroturbulence=macroturbulence,
            resolving_power_error=resolving_power_error,
            resolving_power_scatter=resolving_power_scatter,
            wavelength_error=wavelength_error,
            companion=companion,
            spots=spots,
            veiling=veiling,
            components=components,
            line_errors=line_errors,
            stages=stages,
            fixed=fixed,
            limb_darkening=limb_darkening,
            continuum_degree=continuum_degree,
            jitter=jitter,
            posterior=posterior,
            n_draws=n_draws,
            callback=callback,
        )
        spectrum, powers = as_observed_spectrum(spectrum, medium=medium, mask=mask, resolving_power=resolving_power)
        settings = in_frame_of(spectrum, settings)
        with one_thread():
            star = self.generator_, self.node_spectra_.templates, spectrum, powers
            if getattr(self, "_survey", None) is not None:
                result = self._survey.fit(*star, settings)
                if result is not None:
                    return result
            if settings.second is None:
                fit = StarFit(*star, settings)
                result = fit.run()
            else:
                fit, result = fit_second(*star, settings)
            if posterior != "laplace":
                sample_posterior(fit, result, method=posterior, n_draws=n_draws, random_state=random_state)
        return result

    def infer_many(self, spectra, *, resolving_power, survey="auto", n_jobs=None, verbose=None, **settings):
        """Infer many stars; a star that fails does not stop the others.

        Parameters
        ----------
        spectra : sequence
            Spectra, each as `infer` takes it.
        resolving_power : float or sequence
            As in `infer`, the same for all.
        survey : bool or "auto", default="auto"
            Whether stars on the same pixels share a table of model spectra, which takes a quarter of the time. Results
            are those of `infer` to a few percent of a standard deviation, and do not depend on the other stars.
            "auto": for 16 stars or more. It serves up to four labels, and fits of rv, vsini and labels alone, with
            line errors or without; other stars, and those on other pixels, are fitted as `infer` does.
        n_jobs : int, default=None
            Number of joblib workers, over stars. None takes that of the regressor.
        verbose : bool, default=None
            Whether to show a progress bar. None shows one on a terminal when it takes over two seconds.
        **settings : dict
            Other parameters of `infer`, the same for all.

        Returns
        -------
        results : list of InferenceResult
            In the order of the spectra. A star that failed has the flag FAILED, NaN values, and a message;
            :func:`stellarhml.inference.results_table` makes a table of them.

        Raises
        ------
        TypeError
            If `spectra` is one spectrum, such as a tuple (wavelength, flux, error), and not a list of them.
        """
        settings |= {"resolving_power": resolving_power, "survey": survey}
        return list(self.infer_each(spectra, n_jobs=n_jobs, verbose=verbose, **settings))

    def infer_each(self, spectra, *, resolving_power, survey="auto", n_jobs=None, verbose=None, **settings):
        """Infer many stars like `infer_many`, and yield each result as soon as it is ready.

        A star whose worker process is killed is tried once more, alone, and if that fails too has a failed result.

        Parameters
        ----------
        spectra, resolving_power, survey, n_jobs, verbose, **settings : object
            As in `infer_many`.

        Yields
        ------
        result : InferenceResult
            In the order of the spectra.
        """
        check_is_fitted(self)
        require_many(spectra)
        settings["resolving_power"] = resolving_power
        if "stages" in settings and isinstance(settings["stages"], Iterable):
            settings["stages"] = tuple(settings["stages"])  # an iterator would be used up by the first star
        if settings.get("tellurics") is not None:
            settings["tellurics"] = as_tellurics(settings["tellurics"])  # a file is read once
        # a mistake of the caller is an error, not a failure of each star
        signature(self.infer).bind(None, **settings)
        self._fit_settings(**settings)
        check_survey(survey)
        yield from map_items(
            partial(infer_or_report, self._for_survey(spectra, survey, settings), settings),
            spectra,
            n_jobs=self.n_jobs if n_jobs is None else n_jobs,
            verbose=self.verbose if verbose is None else verbose,
            description="Inferring stars",
            on_death=lambda _, error: failed_result(self, settings, str(error)),
        )

    def _for_survey(self, spectra, survey, settings):
        """Itself, or a copy for the stars of a survey if `spectra` are one."""
        n = len(spectra) if hasattr(spectra, "__getitem__") else 0
        if not is_survey(n, survey):
            return self
        stars, options = [], {name: settings.get(name) for name in ("medium", "mask", "resolving_power")}
        for k in few_of(n):
            with suppress(Exception):  # of any kind, as for a star that fails
                stars.append(as_observed_spectrum(spectra[k], **options))
        return self.with_survey(stars, settings)[0]

    def with_survey(self, stars, settings):
        """Prepare for the stars of a survey, if they are one.

        Parameters
        ----------
        stars : list of (ObservedSpectrum, list)
            A few of them, with the resolving power of each order.
        settings : dict
            Parameters of `infer`.

        Returns
        -------
        regressor : BayesianStellarRegressor
            A shallow copy for these pixels.
        survey : Survey or None
            None, with this regressor, if no two of the stars have the same pixels, or a table does not serve the
            settings.
        """
        survey = None
        if settings.get("posterior", "laplace") == "laplace":
            survey = Survey.of(self.generator_, self._fit_settings(**settings), stars)
        if survey is None:
            return self, None
        regressor = copy(self)
        regressor._survey = survey
        return regressor, survey

    def _fit_settings(
        self,
        *,
        transmission=None,
        tellurics=None,
        barycentric=None,
        abundances="auto",
        microturbulence="auto",
        damping=False,
        macroturbulence=None,
        resolving_power_error=None,
        resolving_power_scatter=None,
        wavelength_error=None,
        companion=None,
        spots=None,
        veiling=None,
        components="auto",
        line_errors=None,
        stages=(),
        fixed=None,
        limb_darkening=0.6,
        continuum_degree="auto",
        jitter=False,
        posterior="laplace",
        n_draws=2000,
        callback=None,
        **of_the_spectrum,
    ):
        """Arguments of `infer` that do not depend on the spectrum, checked."""
        if self.node_spectra_ is None or self.node_spectra_.templates is None:
            raise ValueError(
                "`infer` needs a generator with wavelengths in angstrom and search='nodes'; this one has "
                f"search={self.search!r} and {self.generator_.wavelength_.size} pixels from "
                f"{self.generator_.wavelength_[0]:g}."
            )
        whole = isinstance(continuum_degree, Integral) and not isinstance(continuum_degree, bool)
        if not (continuum_degree in ("auto", None) or (whole and continuum_degree >= 0)):
            raise ValueError(
                f"`continuum_degree` is {continuum_degree!r}; it needs a degree of 0 or more, 'auto' or None."
            )
        check_sampling(posterior, n_draws)
        if components not in ("auto", 1, 2):
            raise ValueError(f"`components` is {components!r}; it needs 'auto', 1 or 2.")
        options = {"macroturbulence": macroturbulence, "companion": companion, "spots": spots, "veiling": veiling}
        if components == 1:
            options |= {"companion": None, "spots": None}
        own = own_stages(self.generator_, limb_darkening, **options)
        stages = (*own, *(tuple(stages) if isinstance(stages, Iterable) else (stages,)))
        strange = [stage for stage in stages if not isinstance(stage, Stage)]
        if strange:
            raise ValueError(
                f"`stages` has {strange[0]!r}, but it needs instances of stellarhml.forward.stages.Stage, such as "
                "stages=[Veiling()]."
            )
        if transmission is not None:
            stages = (*stages, _as_transmission(transmission))
        if tellurics is not None:
            stages = (*stages, as_tellurics(tellurics))
        limits = {p.name: p.bounds for stage in stages for p in stage.parameters}
        limits |= {p.name: p.bounds for p in _factor_of(resolving_power_error)}
        order_factors((), resolving_power_scatter)  # its checks
        limits |= limits_of_changes(self.generator_) | self.bounds_
        line_errors = self.line_errors if line_errors is None else line_errors
        second = next((stage for stage in own if isinstance(stage, (Companion, Spots))), None)
        blends = [stage for stage in stages if isinstance(stage, (Companion, Spots, Veiling))]
        if blends:
            if line_errors is True:
                raise ValueError(
                    "`line_errors` is True, but with a companion, spots or veiling the lines are taken as those of the "
                    "grid. Use line_errors='auto' or False."
                )
            line_errors = line_errors if blends == [second] else False  # the star may turn out to be alone
        changes = abundances, microturbulence, damping, self.grid_microturbulence
        lines = check_line_settings(self.generator_, line_errors, *changes)
        if posterior != "laplace" and lines is not None and lines.line_errors:
            if lines.line_errors is True:
                raise ValueError(
                    f"`posterior` is {posterior!r}, but line errors are marginalised with the Laplace approximation "
                    "alone. Use posterior='laplace', or line_errors=False."
                )
            lines = check_line_settings(self.generator_, False, *changes)
        return FitSettings(
            bounds=self.bounds_,
            priors=self._priors,
            fixed=check_fixed(fixed, limits),
            stages=stages,
            limb_darkening=limb_darkening,
            continuum_degree=continuum_degree,
            jitter=jitter,
            generator_error=self.generator_error,
            n_starts=self.n_starts,
            callback=callback,
            lines=lines,
            barycentric=check_barycentric(barycentric),
            resolving_power_error=resolving_power_error,
            resolving_power_scatter=resolving_power_scatter,
            wavelength_error=check_wavelength_error(wavelength_error),
            second=second,
            components=components,
        )

    def to_state(self):
        """State for a file, see `stellarhml.storage`."""
        fitted, own = None, getattr(self, "generator_", None)
        if own is not None:
            fitted = {
                "generator": own,
                "generator_was_given": self.generator is own,
                "node_spectra": self.node_spectra_,
                "seed": self._seed,
                "one_output": self._one_output,
            }
        state = estimator_state(self, fitted)
        if own is not None and self.generator is own:
            state["parameters"]["generator"] = None
        return state

    @classmethod
    def from_state(cls, state):
        """Rebuild the regressor from a state, after checks."""
        regressor, fitted = make_estimator(cls, state)
        if fitted is None:
            return regressor
        check_keys(fitted, ("generator", "generator_was_given", "node_spectra", "seed", "one_output"))
        generator = take(fitted, "generator", SpectrumGenerator)
        if not hasattr(generator, "interpolator_"):
            raise StateError("The regressor is fitted, but its generator is not. Save it again.")
        if take(fitted, "generator_was_given", bool):
            regressor.generator = generator
        spectra = take(fitted, "node_spectra", (NodeSpectra, type(None)))
        if (spectra is None) != (regressor.search != "nodes"):
            raise StateError(f"`node_spectra` belongs to search='nodes', but `search` is {regressor.search!r}.")
        if spectra is not None:
            spectra.check_against(generator)
        seed = take_number(fitted, "seed", low=0, high=2**31 - 1, integer=True)
        one_output = take(fitted, "one_output", bool)
        if one_output and len(generator.label_names_) > 1:
            raise StateError(f"`one_output` is True, but the generator has {len(generator.label_names_)} labels.")
        try:
            return regressor._adopt(generator, one_output=one_output, seed=seed, node_spectra=spectra)
        except (ValueError, TypeError) as error:
            raise StateError(f"`bounds` or `priors` of the regressor are wrong: {error!s:.300}") from error

    @classmethod
    def from_state_1_0(cls, state):
        """Rebuild from a state of version 1.0, which knows no line errors; StateError if it is invalid."""
        parameters = state.get("parameters") if isinstance(state, dict) else None
        if not isinstance(parameters, dict):
            return cls.from_state(state)
        later = {"line_errors": "auto", "grid_microturbulence": 1.0}
        if set(later) & set(parameters):
            raise StateError("A regressor of version 1.0 has no parameters of line errors.")
        return cls.from_state(state | {"parameters": parameters | later})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # a model of absorption lines cannot follow arbitrary features
        tags.regressor_tags.poor_score = True
        return tags

    def _fit_at_rest(self, X, flux_error, with_covariance):
        """Result of each spectrum of X."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        error = self._check_error(flux_error, X)
        if error is not None:
            X = _bridge_masked(X, error)
        flux = np.asarray(self.generator_.normalise(X), dtype=np.float64)
        if error is not None:
            error = self.generator_.normalise_error(X, error, flux)
            _require_pixels(error)
        names = self.generator_.label_names_
        settings = RestSettings(
            search=self.search,
            n_initial_points=self.n_initial_points,
            n_calls=self.n_calls,
            polish=self.polish,
            n_starts=self.n_starts,
            continuum_degree=self.continuum_degree,
            generator_error=self.generator_error,
            bounds={name: self.bounds_[name] for name in names},
            priors=self._priors,
            seed=self._seed,
        )
        results = list(
            map_items(
                partial(fit_at_rest, self.generator_, self.node_spectra_, settings, with_covariance),
                [(flux[i], None if error is None else error[i]) for i in range(len(flux))],
                n_jobs=self.n_jobs,
                verbose=self.verbose,
                description="Inferring labels",
            )
        )
        _warn(results)
        return results

    def _adopt(self, generator, *, one_output, seed=None, node_spectra=None):
        """Store a fitted generator and prepare the search."""
        self.generator_, self._one_output = generator, one_output
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1)) if seed is None else seed
        names, ends = generator.label_names_, generator.interpolator_.bounds_
        limits = {name: (float(low), float(high)) for name, (low, high) in zip(names, ends, strict=True)}
        limits |= {RV.name: RV.bounds, VSINI.name: VSINI.bounds}
        every = limits_of_changes(generator) | _limits_of_effects((self.bounds or {}, self.priors or {})) | limits
        bounds = check_bounds(self.bounds, every, labels=names)
        self.bounds_ = {name: bounds[name] for name in (*limits, *(n for n in self.bounds or () if n not in limits))}
        self._priors = check_priors(self.priors, every)
        self.n_features_in_ = (generator.preprocessor_ or generator.decomposer_).n_features_in_
        self.node_spectra_ = node_spectra
        if self.search == "nodes" and node_spectra is None:
            bounds = np.array([self.bounds_[name] for name in names])
            nodes = generator.interpolator_.nodes_
            inside = np.all((nodes >= bounds[:, 0]) & (nodes <= bounds[:, 1]), axis=1)
            nodes = nodes[inside] if inside.any() else bounds.mean(axis=1)[None]
            self.node_spectra_ = NodeSpectra.render(generator, nodes)
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


def _warn(results):
    """Warn once about spectra at a bound, or without convergence."""
    n_bound, n_failed = (
        sum(bool(result.flags & flag) for result in results)
        for flag in (InferenceFlag.AT_BOUND, InferenceFlag.NOT_CONVERGED)
    )
    if n_bound or n_failed:
        warnings.warn(
            f"Of {len(results)} spectra, {n_bound} have a label at a bound of the grid, {n_failed} did not "
            "converge. A star at a bound may lie outside; widen the grid, or increase n_calls.",
            InferenceWarning,
            stacklevel=4,
        )


def infer_or_report(regressor, settings, spectrum, infer=None):
    """Result of one star, or a failed result with the reason; `infer` stands in for the regressor's."""
    try:
        return (infer or regressor.infer)(spectrum, **settings)
    except Exception as error:  # of any kind, also from a stage or callback of the caller: the other stars go on
        known = isinstance(error, (ValueError, TypeError))
        return failed_result(
            regressor, settings, " ".join(str(error).split()) if known else f"{type(error).__name__}: {error}"
        )


def failed_result(regressor, settings, message):
    """Result of a star that could not be inferred with these settings."""
    labels = label_parameters(regressor.generator_.label_names_, regressor.generator_.interpolator_.bounds_)
    options = {name: settings.get(name) for name in ("macroturbulence", "companion", "spots", "veiling")}
    if settings.get("components") != 2:
        options |= {"companion": None, "spots": None}
    stages = (*own_stages(regressor.generator_, 0.6, **options), *settings.get("stages", ()))
    if settings.get("tellurics") is not None:
        stages = (*stages, as_tellurics(settings["tellurics"]))
    own = [parameter for stage in stages for parameter in stage.parameters]
    own += _factor_of(settings.get("resolving_power_error"))
    return InferenceResult.failed(ParameterSet((*labels, RV, VSINI, *own), bounds=regressor.bounds_), message)


def _limits_of_effects(given):
    """Bounds of parameters that stages and the spectrograph may have, by name.

    Species, and so amounts, and orders are not known: they are those that are named in `given`, two dictionaries.
    """
    limits = {one.name: one.bounds for one in (VMAC, VEILING, SLOPE, RV_AIR, WIDTH_AIR)} | {FACTOR: FACTOR_BOUNDS}
    for name in (name for names in given if isinstance(names, dict) for name in names):
        if str(name).startswith(AMOUNT):
            limits[name] = AMOUNTS
        elif str(name).startswith(f"{FACTOR}_"):
            limits[name] = FACTOR_BOUNDS
    return limits


def _factor_of(resolving_power_error):
    """The factor of the resolving power, if it is fitted."""
    return [] if resolving_power_error is None else [factor_parameter(resolving_power_error)]


def own_stages(generator, limb_darkening, *, macroturbulence, companion, spots, veiling):
    """Stages of the package before those of the caller, from the star outwards."""
    if companion and spots:
        raise ValueError(
            "`companion` and `spots` are both given, but two photospheres at a time are fitted. Ask for one, and "
            "compare the `log_evidence` of the two results."
        )
    middle = float(np.mean(generator.wavelength_[[0, -1]]))
    makers = {
        "spots": (spots, Spots, {"generator": generator, "limb_darkening": limb_darkening}),
        "macroturbulence": (macroturbulence, Macroturbulence, {}),
        "companion": (companion, Companion, {"generator": generator, "limb_darkening": limb_darkening}),
        "veiling": ({"sloped": True} if veiling == "sloped" else veiling, Veiling, {"reference": middle}),
    }
    return tuple(
        _make_stage(name, *maker) for name, maker in makers.items() if maker[0] is not None and maker[0] is not False
    )


def _make_stage(name, given, kind, options):
    """A stage of one kind, from an argument of `infer`."""
    if isinstance(given, kind):
        return given
    if kind is Macroturbulence:
        return Macroturbulence(given)
    if given is True or isinstance(given, dict):
        try:
            return kind(**options | ({} if given is True else given))
        except TypeError as error:
            raise ValueError(f"`{name}` has parameters that {kind.__name__} does not know: {error}.") from error
    raise ValueError(f"`{name}` is {given!r}; it needs True, a dictionary of parameters, or a {kind.__name__}.")


def require_many(spectra):
    """Raise if `spectra` is one spectrum: each of its arrays or pixels would be taken for a star."""
    one = hasattr(spectra, "spectral_axis") or hasattr(spectra, "orders") or isinstance(spectra, np.ndarray)
    listed = isinstance(spectra, (tuple, list)) and len(spectra) > 0
    if one or (listed and all(map(_is_column, spectra))):
        raise TypeError(
            f"`spectra` is one {type(spectra).__name__}{' of arrays' if listed else ''}, but a list of spectra is "
            "needed. Pass [spectrum] for one star, such as [(wavelength, flux, error)], or call `infer`."
        )


def _is_column(part):
    """Whether something is an array or a list of arrays, and no spectrum."""
    if hasattr(part, "spectral_axis") or hasattr(part, "orders"):
        return False
    if isinstance(part, list):  # of arrays, not of the orders of a star as specutils has them
        return not (part and all(hasattr(order, "spectral_axis") for order in part))
    return getattr(part, "ndim", 0) > 0


def _as_transmission(transmission):
    """Transmission from a pair of arrays."""
    if not isinstance(transmission, (tuple, list)) or len(transmission) != 2:
        raise ValueError(
            f"`transmission` is a {type(transmission).__name__} of length {np.size(transmission)}; it needs a table "
            "(wavelength, transmission), two arrays of the same length, that resolves the lines of the atmosphere. Use "
            "a transmission on the pixels of the spectrum to mask or divide it: see stellarhml.spectra.mask_tellurics."
        )
    return Transmission(*transmission)


def _bridge_masked(X, error):
    """Interpolate masked pixels linearly, so that their fluxes do not affect the normalisation."""
    X = X.copy()
    for row, good in zip(X, np.isfinite(error), strict=True):
        pixels = np.arange(len(row))
        row[~good] = np.interp(pixels[~good], pixels[good], row[good])
    return X


def _require_pixels(error):
    """Raise if a spectrum has no unmasked pixel."""
    if not np.isfinite(error).any(axis=1).all():
        first = int(np.argmin(np.isfinite(error).any(axis=1)))
        raise ValueError(
            f"All pixels of spectrum {first} that the generator uses are masked by `flux_error`. Leave the spectrum "
            "out, or unmask pixels."
        )
