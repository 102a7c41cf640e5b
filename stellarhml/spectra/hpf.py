"""Spectra of the Habitable-zone Planet Finder (HPF) from the instrument team's pipeline or from Goldilocks.

Both write ten images of 28 orders: flux, its variance (instrument team) or its standard deviation (Goldilocks), and
vacuum wavelengths in angstrom, each for the science, the sky and the calibration fibre. Fluxes are rates and include
the blaze; wavelengths are in the frame of the telescope, without barycentric correction.
"""

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra.echelle import check_range, read_images, source_meta
from stellarhml.spectra.orders import OrderBuilder

RESOLVING_POWER = 55000.0  # Mahadevan et al. (2014), doi:10.1117/12.2056417
_N_ORDERS = 28
_RANGE = (7500.0, 13500.0)  # angstrom


def is_hpf(content) -> bool:
    """Whether the extensions of a FITS file are those of HPF."""
    return "SCI FLUX" in content["names"]


def read_hpf(path, content, *, sky, sky_scale=1.0):
    """Orders and meta of an HPF file with the `content` that `list_extensions` returned.

    With `sky` "subtract" the flux of the sky fibre is subtracted, interpolated linearly to the pixels of the science
    fibre, times `sky_scale` (throughput of the science fibre over that of the sky fibre), and its variance is added.
    SpectrumFileError if the file is damaged or not as those pipelines write it.
    """
    variances = "SCI VARIANCE" in content["names"]
    kind = "Variance" if variances else "Error"
    fibres = ("Sci", "Sky") if sky == "subtract" else ("Sci",)
    images = read_images(path, [f"{fibre} {what}" for fibre in fibres for what in ("Flux", kind, "Wavl")])
    n_orders = len(images["Sci Flux"])
    if n_orders != _N_ORDERS:
        raise SpectrumFileError(
            f"{path} has {n_orders} orders, but HPF has {_N_ORDERS}. Use the file as the pipeline wrote it, and choose "
            "orders afterwards with `select`."
        )
    check_range(path, images["Sci Wavl"], *_RANGE, "angstrom")
    builder = OrderBuilder(path)
    for number in range(n_orders):
        wavelength, flux = images["Sci Wavl"][number], images["Sci Flux"][number]
        variance = _variance(images[f"Sci {kind}"][number], variances)
        if sky == "subtract":
            sky_variance = _variance(images[f"Sky {kind}"][number], variances)
            sky_flux, sky_variance = _at(
                wavelength, images["Sky Wavl"][number], images["Sky Flux"][number], sky_variance
            )
            flux, variance = flux - sky_scale * sky_flux, variance + sky_scale**2 * sky_variance
        builder.add(number, wavelength, flux, np.sqrt(variance))
    notes = [
        f"Columns used: {', '.join(images)}.",
        f"Sky fibre subtracted, times {sky_scale:g}." if sky == "subtract" else "Sky not subtracted.",
        "Wavelengths are in the frame of the telescope; the blaze is not removed.",
        *builder.notes(),
    ]
    return builder.orders, source_meta(
        path,
        content,
        instrument="HPF",
        format="hpf (instrument team)" if variances else "hpf (Goldilocks)",
        medium="vacuum",
        resolving_power=RESOLVING_POWER,
        errors_known=builder.errors_known,
        flux_unit=None,
        order_numbers=builder.numbers,
        notes=notes,
    )


def _variance(values, variances):
    """Variances, NaN where they are not positive: those pixels are masked."""
    with np.errstate(all="ignore"):
        good = np.isfinite(values) & (values > 0)
        return np.where(good, values if variances else values**2, np.nan)


def _at(wavelength, grid, flux, variance):
    """Flux and variance of the sky fibre interpolated to other wavelengths, NaN outside its range."""
    with np.errstate(all="ignore"):
        if not (np.all(np.isfinite(grid)) and np.all(np.diff(grid) > 0)):
            return np.full_like(flux, np.nan), np.full_like(flux, np.nan)
        right = np.clip(np.searchsorted(grid, wavelength), 1, len(grid) - 1)
        weight = (wavelength - grid[right - 1]) / (grid[right] - grid[right - 1])
        # the two fibres are offset by part of a pixel: keep the outermost pixel
        weight = np.where((weight < -1) | (weight > 2), np.nan, np.clip(weight, 0, 1))
        # a NaN with weight zero must not spread
        left_flux, right_flux = np.where(weight == 1, 0, flux[right - 1]), np.where(weight == 0, 0, flux[right])
        left_var, right_var = np.where(weight == 1, 0, variance[right - 1]), np.where(weight == 0, 0, variance[right])
        return (
            (1 - weight) * left_flux + weight * right_flux,
            (1 - weight) ** 2 * left_var + weight**2 * right_var,
        )
