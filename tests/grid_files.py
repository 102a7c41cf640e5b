"""Write small grids in the layouts of their families, from their descriptions and not from the package's readers."""

import gzip

import numpy as np
from astropy.io import fits

GRAVITIES = {3.5: 31, 4.0: 100, 4.5: 316, 5.0: 1000}  # log g and the m/s2 in the names of Sonora
SPEED = 2.99792458e18  # angstrom/s


def write_fits_folder(folder, grid, *, keys=("TEFF", "LOGG", "FEH"), medium=None, header=(), packed=False):
    """One image for each node, labels in its header; wavelengths in the header, or nowhere if it has none."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (labels, flux) in enumerate(zip(grid.labels, grid.flux, strict=True)):
        hdu = fits.PrimaryHDU(np.asarray(flux, dtype=np.float32))
        hdu.header.update(dict(zip(keys, map(float, labels), strict=True)) | dict(header))
        if medium:
            hdu.header["AIRORVAC"] = medium
        hdu.writeto(folder / f"model{number:02d}.fits{'.gz' if packed else ''}")
    return folder


def linear_axis(grid, unit="Angstrom"):
    """Keywords of evenly spaced wavelengths, in angstrom."""
    step = float(grid.wavelength[1] - grid.wavelength[0])
    cards = {"CRVAL1": float(grid.wavelength[0]), "CDELT1": step, "CRPIX1": 1.0, "CTYPE1": "WAVE"}
    return cards | ({"CUNIT1": unit} if unit else {})


def write_fits_tables(folder, grid, *, names=("WAVE", "FLUX"), unit="nm", scale=0.1, header=()):
    """One table for each node in the first extension; labels in its header."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (labels, flux) in enumerate(zip(grid.labels, grid.flux, strict=True)):
        columns = [
            fits.Column(names[0], "D", unit=unit, array=scale * grid.wavelength),
            fits.Column(names[1], "E", array=np.asarray(flux)),
        ]
        hdu = fits.BinTableHDU.from_columns(columns)
        hdu.header.update(dict(zip(("TEFF", "LOGG", "FEH"), map(float, labels), strict=True)) | dict(header))
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / f"model{number:02d}.fits")
    return folder


def write_starfish(path, grid, *, air=False, names=("T", "logg", "Z"), key_name="T{0:.0f}_g{1:.2f}_Z{2:.2f}"):
    """As HDF5Creator of Starfish.grid_tools does."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["grid_name"] = "PHOENIX"
        group = file.create_group("flux")
        group.attrs["units"] = "erg/cm^2/s/cm"
        group.attrs["key_name"] = key_name
        wl = file.create_dataset("wl", data=grid.wavelength, compression=9)
        wl.attrs["air"], wl.attrs["dv"], wl.attrs["units"] = air, 1.5, "Angstrom"
        for labels, flux in zip(grid.labels, grid.flux, strict=True):
            part = group.create_dataset(key_name.format(*labels), data=flux, compression=9)
            part.attrs["PHXTEFF"] = labels[0]
        points = file.create_dataset("grid_points", data=grid.labels, compression=9)
        points.attrs["names"] = list(names)
    return path


def arrays_of(grid, **more):
    """Arrays of a grid by name."""
    return {"labels": grid.labels, "wavelength": grid.wavelength, "flux": grid.flux} | more


def write_hdf5_arrays(path, grid, *, attributes, chunks=None, **more):
    """Arrays in an HDF5 file, with attributes of the file."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays_of(grid, **more).items():
            file.create_dataset(name, data=array, chunks=chunks if name == "flux" else None)
        file.attrs.update(attributes)
    return path


def write_zarr(path, grid, *, attributes):
    """Arrays in a group of zarr, the flux in pieces of five spectra and 50 pixels."""
    import zarr

    group = zarr.open_group(str(path), mode="w")
    for name, array in arrays_of(grid).items():
        chunks = {"chunks": (5, 50)} if name == "flux" else {}
        create = getattr(group, "create_array", None) or group.create_dataset  # the latter before version 3
        create(name, data=np.ascontiguousarray(array), **chunks)
    group.attrs.update(attributes)
    return path


def write_sonora_bobcat(folder, grid):
    """Text of Sonora Bobcat (Marley et al. 2021): two lines, then micron, decreasing, and flux per frequency."""
    folder.mkdir()
    for (teff, logg, feh), flux in zip(grid.labels, grid.flux, strict=True):
        text = _sonora(grid.wavelength, flux, n_header=2)
        name = (
            f"sp_t{teff:.0f}g{GRAVITIES[logg]}nc_m{feh:+.1f}" if feh else f"sp_t{teff:.0f}g{GRAVITIES[logg]}nc_m0.0.gz"
        )
        with gzip.open(folder / name, "wt") if name.endswith("gz") else open(folder / name, "w") as file:
            file.write(text)
    return folder


def write_sonora_diamondback(folder, grid, fsed):
    """Text of Sonora Diamondback (Morley et al. 2024): three lines, then micron and flux per frequency."""
    folder.mkdir()
    for (teff, logg, feh), flux in zip(grid.labels, grid.flux, strict=True):
        for value in fsed:
            cloud, z = (f"f{value}" if value else "nc"), (f"{feh:+.1f}" if feh else "0.0")
            path = folder / f"t{teff:.0f}g{GRAVITIES[logg]}{cloud}_m{z}_co1.0_std.spec"
            path.write_text(_sonora(grid.wavelength, flux * (1 + value), n_header=3))
    return folder


def write_cool_tlusty(folder, grid, *, shift=0.0):
    """Text of coolTLUSTY (Lacy and Burrows 2023), exponents with D, wavelengths that move with log g by `shift`."""
    folder.mkdir()
    for (teff, logg, z), flux in zip(grid.labels, grid.flux, strict=True):
        wavelength = grid.wavelength + shift * (logg - 4)
        rows = [f"{w / 1e4:.10E} {f:.8E} 0".replace("E", "D") for w, f in zip(wavelength, flux, strict=True)]
        path = folder / f"T{teff:.0f}_g{logg:.2f}_Z{z:.3f}.21"
        path.write_text("\n".join(["LAMBDA(mic) FLAM other", *rows]) + "\n")
    return folder


def _sonora(wavelength, flux, *, n_header):
    rows = [f"{w / 1e4:.10e} {f * w**2 / SPEED / 1e8:.8e}" for w, f in zip(wavelength, flux, strict=True)]
    return "\n".join([*["header"] * n_header, *rows[::-1]]) + "\n"


def write_medres(folder, grid, *, kind="R10000FITS", alphas=(0.0,)):
    """Unpacked archives of PHOENIX's MedResFITS, whose wavelengths must be evenly spaced in ln or linearly."""
    name = "PHOENIX-ACES-AGSS-COND-2011"
    first, second = np.log(grid.wavelength[:2]) if kind == "R10000FITS" else grid.wavelength[:2]
    for (teff, logg, feh), flux in zip(grid.labels, grid.flux, strict=True):
        for alpha in alphas:
            z = (f"{feh:+.1f}" if feh else "-0.0") + (f".Alpha={alpha:+.2f}" if alpha else "")
            hdu = fits.PrimaryHDU((flux * (1 + alpha)).astype(np.float32))
            hdu.header.update(PHXTEFF=teff, PHXLOGG=logg, PHXM_H=feh, PHXALPHA=alpha)
            hdu.header.update(CRVAL1=float(first), CDELT1=float(second - first), CRPIX1=1.0)
            hdu.header["CTYPE1"] = "AWAV-LOG" if kind == "R10000FITS" else "AWAV"
            path = folder / f"{name}_{kind}_Z{z}" / f"lte{teff:05.0f}-{logg:.2f}{z}.{name}-HiRes.fits"
            path.parent.mkdir(parents=True, exist_ok=True)
            hdu.writeto(path)
    return folder
