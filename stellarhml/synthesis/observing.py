"""ObserveMixin: the method by which a generator predicts what a spectrograph records."""

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from stellarhml._units import plain_array
from stellarhml._validation import is_plain
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation


class ObserveMixin:
    """The method `observe` of a generator."""

    def observe(self, X, wavelength, *, resolving_power=None, rv=0.0, vsini=0.0, limb_darkening=0.6):
        """Generate spectra as a spectrograph records them.

        Parameters
        ----------
        X : array-like of shape (n_spectra, n_labels)
            Labels.
        wavelength : array-like of shape (n_pixels,), or sequence of those
            Vacuum wavelengths of the pixels in angstrom, or in their own unit if they have one: of one order, or of
            several orders or arms. Light is integrated over each pixel; edges lie half way between.
        resolving_power : float, array-like, or sequence of one for each order, default=None
            Wavelength over the full width at half maximum of the Gaussian line-spread function: a number, or a value
            for each pixel. None: the spectrograph is as sharp as the model.
        rv : float or array-like of shape (n_spectra,), default=0.0
            Radial velocities in km/s, or in their own unit.
        vsini : float or array-like of shape (n_spectra,), default=0.0
            Projected rotational velocities in km/s, or in their own unit.
        limb_darkening : float, default=0.6
            Linear coefficient of limb darkening, from 0 to 1.

        Returns
        -------
        flux : ndarray of shape (n_spectra, n_pixels), or list of those
            Normalised fluxes, a list if `wavelength` is a sequence of orders. NaN where a pixel needs light from beyond
            the band.

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
            chain.flux(dict(zip(self.label_names_, row, strict=True)) | {"rv": shift, "vsini": spin})
            for row, shift, spin in zip(X, rv, vsini, strict=True)
        ]
        if self.interpolator_.extrapolate == "nan":
            rows = [
                [np.full_like(part, np.nan) for part in row] if out else row
                for row, out in zip(rows, outside, strict=True)
            ]
        fluxes = [np.stack(parts) for parts in zip(*rows, strict=True)]
        return fluxes[0] if observation.single else fluxes
