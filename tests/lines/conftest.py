"""A small grid whose lines are known."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from stellarhml import VoigtLineDecomposer
from stellarhml.kernels.rendering import render_lines

WAVELENGTH = 8500 + 0.05 * np.arange(320)


def line(center, tau, log_sigma=-2.0, log_gamma=-1.0, logit_depth=0.8, log_wing=-3.0):
    """Parameters of a line of the default profile."""
    return [center, np.log(tau), log_sigma, log_gamma, logit_depth, log_wing]


def lines_of(teff, feh):
    """Lines of a node: strong; saturated; from 1e-5 to 0.14 deep; strong, and in its wing one without a minimum."""
    t, f = (teff - 5300) / 300, feh
    return np.array(
        [
            line(8502.02, 0.5 * np.exp(0.3 * f - 0.2 * t)),
            line(8506.01, 14 * np.exp(0.1 * f - 0.1 * t), log_sigma=-2.3, log_gamma=-1.3, log_wing=-4.0),
            line(8510.03, 0.002 * np.exp(4.8 * f + 2.4 * t)),
            line(8512.52, 0.6 * np.exp(0.2 * f + 0.2 * t)),
            line(8512.92, 0.12 * np.exp(0.5 * f - 0.3 * t)),
        ]
    )


def render(*lines):
    """Flux of lines."""
    return render_lines(WAVELENGTH, np.array(lines).reshape(-1, 6), profile="minnaert", wing_cut=None)


@pytest.fixture(scope="session")
def known():
    """Wavelengths, labels, flux and true lines of a grid of twelve; functions that make more of both; a decomposer."""
    labels = np.array(list(product([5000.0, 5200.0, 5400.0, 5600.0], [-0.5, 0.0, 0.5])))
    theta = np.array([lines_of(*node) for node in labels])
    flux = np.array([render(*row) for row in theta])
    # so close a fit that what is found is what is there
    options = {"wavelength": WAVELENGTH, "noise": 5e-4}
    decomposer = VoigtLineDecomposer(**options).fit(flux, labels)
    return SimpleNamespace(
        wavelength=WAVELENGTH,
        labels=labels,
        theta=theta,
        flux=flux,
        line=line,
        lines_of=lines_of,
        render=render,
        options=options,
        decomposer=decomposer,
        result=decomposer.decompose(flux),
    )
