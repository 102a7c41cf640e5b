"""rvspecfit, fed with the grid of `compare.py` as its documentation tells: one spectral configuration for each order.

The library is made by its own commands (rvs_read_grid, rvs_make_interpol, rvs_make_nd, rvs_make_ccf) from FITS files
in PHOENIX's layout; a fit is `fitter_ccf.fit`, then `vel_fit.process`.
"""

import contextlib
import io
import sqlite3
import sys
import time
import warnings

import numpy as np

C_KMS = 299792.458
FWHM = 2 * np.sqrt(2 * np.log(2))
STEP = 0.03  # angstrom, of the templates
NPOLY = 10  # of its README
VELOCITIES = (-200, 200)


def require():
    try:
        import rvspecfit
    except ImportError:
        sys.exit(
            "rvspecfit is not installed here, and `--tools rvspecfit` needs it. Make an environment for it: "
            "pip install rvspecfit (0.9 was used), and run this script with that Python."
        )
    return rvspecfit.__version__


def quietly(function, arguments):
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function([str(item) for item in arguments])


@contextlib.contextmanager
def unequal_axes(serializer):
    """Let `rvs_make_nd --regulargrid` of 0.9.0 save a grid whose axes differ in length, which it cannot by itself."""
    original = serializer.save_dict_to_hdf5

    def save(filename, contents, **settings):
        if "uvecs" in contents:
            *others, last = contents["uvecs"]
            contents["uvecs"] = [*others, tuple(last)]  # of mixed types, they are stored one by one
        original(filename, contents, **settings)

    serializer.save_dict_to_hdf5 = save
    try:
        yield
    finally:
        serializer.save_dict_to_hdf5 = original


class Rvspecfit:
    """The library of one grid, made once and kept in `folder`."""

    def __init__(self, folder, write_grid, pixels, *, resolving_power, interpolation, n_nodes):
        self.version = require()
        from rvspecfit import make_ccf, make_interpol, make_nd, read_grid, utils

        self.setups = [f"order{np.mean(order):.0f}" for order in pixels]
        library = folder / f"rvspecfit{n_nodes}-{interpolation}"
        grid = folder / f"phoenix-layout{n_nodes}"
        library.mkdir(parents=True, exist_ok=True)
        if not grid.is_dir():
            write_grid(grid)
        self.seconds_to_build = 0.0
        begin = time.process_time()
        prefix, database = f"{grid}/PHOENIX-ACES-AGSS-COND-2011/", library / "files.db"
        if not database.is_file():
            quietly(read_grid.main, ["--prefix", prefix, "--templdb", database])
            with sqlite3.connect(database) as connection:
                # alpha is the same everywhere: an axis of one value cannot be interpolated
                connection.execute("delete from grid_parameters where name = 'alpha'")
        waves = grid / "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits"
        for setup, order in zip(self.setups, pixels, strict=True):
            made = [(library / f"{part}_{setup}.h5").is_file() for part in ("specs", "interp", "ccf")]
            if all(made):
                continue
            # what it calls resolution is that of the data, detector pixels included; its templates have pixels too
            width2 = ((order[-1] - order[0]) / (len(order) - 1)) ** 2 - STEP**2
            resolution = f"x / np.sqrt((x / {resolving_power}) ** 2 + {FWHM**2 / 12 * width2})"
            span = ["--setup", setup, "--lambda0", order[0], "--lambda1", order[-1], "--step", STEP]
            common = [*span, "--resol_func", resolution, "--resolution0", 1e6, "--nthreads", 1, "--wavefile", waves]
            names = ["--parameter_names", "teff,logg,feh", "--templdb", database, "--templprefix", prefix]
            if not made[0]:
                quietly(make_interpol.main, [*common, *names, "--oprefix", library])
            if not made[1]:
                regular = ["--regulargrid"] if interpolation == "regulargrid" else []
                with unequal_axes(make_nd.serializer):
                    quietly(make_nd.main, ["--prefix", library, "--setup", setup, *regular])
            if not made[2]:
                ccf = [*span, "--every", 1, "--vsinis", "0,10", "--nthreads", 1]
                quietly(make_ccf.main, [*ccf, "--prefix", library, "--oprefix", library])
            self.seconds_to_build = time.process_time() - begin
        settings = {"template_lib": f"{library}/", "min_vel": VELOCITIES[0], "max_vel": VELOCITIES[1]}
        # its default of 0.2 km/s is wider than the error of these spectra: the error bar would be meaningless
        settings |= {"max_vsini": 100, "min_vel_step": 0.001}
        self.config = utils.freezeDict(utils.get_default_config() | settings)
        self.pixels = pixels

    def _data(self, flux, error):
        from rvspecfit import spec_fit

        parts = zip(self.setups, self.pixels, flux, error, strict=True)
        return [spec_fit.SpecData(name, order, row, sigma) for name, order, row, sigma in parts]

    def spectrum(self, labels):
        """Templates of all orders, as many pixels as they have."""
        from rvspecfit import spec_inter

        return [spec_inter.getInterpolator(setup, self.config).eval(tuple(labels)) for setup in self.setups]

    def observe(self, labels, flux):
        """Its model of an observation at rest without rotation, continua included, for comparison with `flux`."""
        from rvspecfit import spec_fit

        data = self._data(flux, np.ones_like(flux))
        settings = {"config": self.config, "options": {"npoly": NPOLY}, "full_output": True}
        found = spec_fit.get_chisq(data, 0.0, tuple(labels), None, **settings)
        return np.array(found["models"])

    def fit(self, flux, error):
        """Values and errors of labels, velocity, vsini (no error for this one); seconds."""
        from rvspecfit import fitter_ccf, vel_fit

        data = self._data(flux, error)
        begin = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = fitter_ccf.fit(data, self.config)
            guess = start["best_par"] | {"vsini": max(start["best_vsini"] or 0.0, 1.0)}
            found = vel_fit.process(data, guess, config=self.config, options={"npoly": NPOLY})
        seconds = time.process_time() - begin
        beta = found["vel"] / C_KMS
        # it shifts by the relativistic formula, the mock observations by 1 + v/c
        rv = C_KMS * (np.sqrt((1 + beta) / (1 - beta)) - 1)
        names = ("teff", "logg", "feh")
        values = [*(found["param"][name] for name in names), rv, found["vsini"]]
        errors = [*(found["param_err"][name] for name in names), found["vel_err"], np.nan]
        return np.array(values, dtype=float), np.array(errors, dtype=float), seconds
