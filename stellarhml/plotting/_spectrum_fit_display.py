"""SpectrumFitDisplay: a spectrum, its model and the residual."""

import numpy as np

from stellarhml.plotting._spectrum_fit import compare
from stellarhml.plotting._style import MODEL, NOISE, OBSERVED, RESIDUAL


class SpectrumFitDisplay:
    """Flux and model of one spectrum, with residuals below.

    Create it with :meth:`from_estimator` or :meth:`from_arrays`. Arrays are attributes; artists end in an underscore.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,)
        Vacuum wavelengths in angstrom.
    flux, fitted : ndarray of shape (n_pixels,)
        Normalised flux and its model. NaN masks a pixel.
    flux_error : ndarray of shape (n_pixels,), default=None
        Standard deviations of `flux`, drawn around a residual of zero.
    title : str, default=None
        Text above the figure.

    Attributes
    ----------
    ax_ : tuple of two matplotlib axes
        Fluxes and residuals.
    figure_ : matplotlib figure
        Their figure.
    flux_line_, fitted_line_, residual_line_ : matplotlib line
        Artists of flux, model and residual.

    Examples
    --------
    >>> import numpy as np
    >>> from stellarhml.plotting import SpectrumFitDisplay
    >>> flux, fitted = np.array([1, 0.5, 1]), np.array([1, 0.6, 1])
    >>> display = SpectrumFitDisplay(wavelength=np.arange(3.0), flux=flux, fitted=fitted)
    >>> display.residual
    array([ 0. , -0.1,  0. ])
    """

    def __init__(self, *, wavelength, flux, fitted, flux_error=None, title=None):
        self.wavelength, self.flux, self.fitted = wavelength, flux, fitted
        self.flux_error, self.title = flux_error, title

    @property
    def residual(self):
        """Flux minus model, shape (n_pixels,)."""
        return self.flux - self.fitted

    @classmethod
    def from_estimator(cls, regressor, flux, *, flux_error=None, labels=None, title=None, ax=None, window=None):
        """Draw a spectrum and a regressor's model of it.

        Parameters
        ----------
        regressor : BayesianStellarRegressor
            Fitted regressor.
        flux : array-like of shape (n_pixels,)
            Flux, as the regressor's `predict` takes it.
        flux_error : array-like of shape (n_pixels,), default=None
            Standard deviations of the flux; infinity masks a pixel.
        labels : array-like of shape (n_labels,), default=None
            Labels of the model. None infers them.
        title : str, default=None
            Text above the figure.
        ax : pair of matplotlib axes, default=None
            Axes for fluxes and residuals. None makes a figure.
        window : tuple of (float, float), default=None
            Wavelengths to show, in angstrom. None shows all.

        Returns
        -------
        display : SpectrumFitDisplay
            The drawn display.
        """
        if labels is None:
            error = None if flux_error is None else np.asarray(flux_error)[None]
            labels = regressor.predict(np.asarray(flux)[None], flux_error=error)[0]
        fit = compare(regressor, flux, labels, flux_error=flux_error)
        return cls.from_arrays(fit.wavelength, fit.flux, fit.fitted, fit.flux_error, title, ax=ax, window=window)

    @classmethod
    def from_arrays(cls, wavelength, flux, fitted, flux_error=None, title=None, *, ax=None, window=None):
        """Draw given arrays.

        Parameters
        ----------
        wavelength, flux, fitted : array-like of shape (n_pixels,)
            Vacuum wavelengths in angstrom, flux and its model.
        flux_error : array-like of shape (n_pixels,), default=None
            Standard deviations of the flux.
        title : str, default=None
            Text above the figure.
        ax : pair of matplotlib axes, default=None
            Axes for fluxes and residuals. None makes a figure.
        window : tuple of (float, float), default=None
            Wavelengths to show, in angstrom. None shows all.

        Returns
        -------
        display : SpectrumFitDisplay
            The drawn display.
        """
        arrays = [np.asarray(values, dtype=np.float64) for values in (wavelength, flux, fitted)]
        if len({values.shape for values in arrays}) != 1 or arrays[0].ndim != 1:
            raise ValueError(
                f"`wavelength`, `flux` and `fitted` have the shapes {[values.shape for values in arrays]}; they need "
                "one value for each pixel of one spectrum."
            )
        error = None if flux_error is None else np.asarray(flux_error, dtype=np.float64)
        display = cls(wavelength=arrays[0], flux=arrays[1], fitted=arrays[2], flux_error=error, title=title)
        return display.plot(ax=ax, window=window)

    def plot(self, *, ax=None, window=None):
        """Draw the display.

        Parameters
        ----------
        ax : pair of matplotlib axes, default=None
            Axes for fluxes and residuals. None makes a figure.
        window : tuple of (float, float), default=None
            Wavelengths to show, in angstrom. None shows all.

        Returns
        -------
        self : SpectrumFitDisplay
            The display.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(2, 1, sharex=True, height_ratios=(3, 1), figsize=(9, 4.5), layout="constrained")[1]
        ax = np.ravel(ax)
        if len(ax) != 2:
            raise ValueError(f"`ax` has {len(ax)} axes; 2 are needed, for fluxes and residuals.")
        top, bottom = ax
        low, high = (self.wavelength[0], self.wavelength[-1]) if window is None else window
        shown = (self.wavelength >= low) & (self.wavelength <= high)
        x = self.wavelength[shown]
        (self.flux_line_,) = top.step(x, self.flux[shown], where="mid", color=OBSERVED, lw=0.6, label="spectrum")
        (self.fitted_line_,) = top.plot(x, self.fitted[shown], color=MODEL, lw=1.0, label="model")
        (self.residual_line_,) = bottom.step(x, self.residual[shown], where="mid", color=RESIDUAL, lw=0.5)
        bottom.axhline(0.0, color="0.3", lw=0.6)
        handles = [self.flux_line_, self.fitted_line_]
        if self.flux_error is not None:
            sigma = np.where(np.isfinite(self.flux_error), self.flux_error, np.nan)[shown]
            bottom.plot(x, -sigma, ls="--", color=NOISE, lw=1.0)
            handles += bottom.plot(x, sigma, ls="--", color=NOISE, lw=1.0, label="noise, 1 std")
        top.set(ylabel="Normalised flux", xlim=(low, high))
        top.tick_params(labelbottom=False)
        bottom.set(ylabel="Residual", xlabel="Vacuum wavelength [Å]", xlim=(low, high))
        # above the axes, which the spectrum fills from top to bottom
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.0, "ncols": len(handles)}
        top.legend(handles=handles, fontsize="small", frameon=False, **place)
        if self.title:
            top.set_title(self.title, fontsize="medium", loc="left", pad=20)
        self.ax_, self.figure_ = (top, bottom), top.figure
        return self
