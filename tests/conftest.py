"""Fixtures for all tests."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """The module ../shared/tools/shared_data.py, which reads the project's test data."""
    path = Path(__file__).resolve().parents[2] / "shared" / "tools" / "shared_data.py"
    if not path.is_file():
        pytest.skip(f"needs the shared test data, and {path} is not there")
    spec = importlib.util.spec_from_file_location("shared_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def phoenix_folder(tmp_path):
    """A folder in PHOENIX's layout: Teff 5000, 5100, 5200 x log g 4, 4.5 x [Fe/H] -0.5, 0, and 80 pixels from 8030 A.

    The flux of a node is teff + 10 logg + feh + pixel / 1000, so that every value says where it belongs. The names are
    spelt out here, not taken from the package.
    """
    from itertools import product

    import numpy as np
    from astropy.io import fits

    root = tmp_path / "phoenix"
    root.mkdir()
    wave = fits.PrimaryHDU(8030.0 + 0.5 * np.arange(80))
    wave.header["UNIT"] = "Angstrom"
    wave.writeto(root / "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits")
    for teff, logg, feh in product((5000, 5100, 5200), (4.0, 4.5), (-0.5, 0.0)):
        hdu = fits.PrimaryHDU((teff + 10 * logg + feh + np.arange(80) / 1000).astype(np.float32))
        hdu.header.update(PHXTEFF=float(teff), PHXLOGG=logg, PHXM_H=feh, PHXALPHA=0.0)
        abundances = fits.ImageHDU(np.zeros(10, dtype=np.float32))
        z = "-0.5" if feh else "-0.0"
        path = (
            root / f"PHOENIX-ACES-AGSS-COND-2011/Z{z}/lte0{teff}-{logg:.2f}{z}.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.HDUList([hdu, abundances]).writeto(path)
    return root
