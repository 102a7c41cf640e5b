"""A computed grid of lines in the form that the generator fits, so that it knows every line of the grid exactly.

Strengths are smooth in the labels, as in `make_stellar_grid`, but lines are sampled finely, have wings of their own and
may overlap. Lines of several species are told by a line list.
"""

import itertools

import numpy as np

from stellarhml import SpectrumGenerator, VoigtLineDecomposer
from stellarhml.lines.line_lists import LineList

STEP = 0.02  # angstrom
_DEPTH = 0.8


def make_line_generator(n_lines, *, first=8500.0, spacing=1.2, strongest=0.0, seed=0):
    """A generator of `n_lines` lines on nodes of three labels, and one more, in the middle, with the given strength.

    Lines are `spacing` angstrom apart on average; `strongest` is ln of the optical depth of the line in the middle,
    which has wings.
    """
    rng = np.random.default_rng(seed)
    center = first + spacing * (np.arange(n_lines) + 2 + rng.uniform(-0.3, 0.3, n_lines))
    tau, heat, metals = rng.uniform(-3, 1, n_lines), rng.uniform(-0.4, 0.8, n_lines), rng.uniform(0.8, 1.3, n_lines)
    gravity, sigma, wing = rng.uniform(-0.2, 0.2, n_lines), rng.uniform(0.045, 0.065, n_lines), np.full(n_lines, 0.04)
    middle = n_lines // 2
    tau[middle], sigma[middle], wing[middle] = strongest, 0.07, 0.4
    wavelength = np.arange(first, first + spacing * (n_lines + 3), STEP)
    labels = np.array(list(itertools.product((5000.0, 5500.0, 6000.0), (3.5, 4.5), (-0.5, 0.0, 0.5))))
    flux = np.ones((len(labels), len(wavelength)))
    for row, (teff, logg, feh) in zip(flux, labels, strict=True):
        strength = np.exp(tau + heat * (5500 - teff) / 500 + gravity * (logg - 4) + np.log(10) * metals * feh)
        for j in range(n_lines):
            x = wavelength - center[j]
            v = np.exp(-((x / sigma[j]) ** 2) / 2) + wing[j] / (1 + (x / (0.08 * 10 ** (0.2 * (logg - 4)))) ** 2)
            row *= 1 - _DEPTH * strength[j] * v / (1 + strength[j] * v)
    decomposer = VoigtLineDecomposer(n_rounds=0)
    generator = SpectrumGenerator(wavelength=wavelength, decomposer=decomposer, residual_rank=None, n_factors=None)
    return generator.fit(labels, flux)


def tag_in_turn(generator, species):
    """Tag the lines of a generator with `species` in turn, as strong as they are in the middle of the grid."""
    table = generator.line_table(generator.interpolator_.nodes_.mean(axis=0))
    names = np.array(species)[np.arange(len(table)) % len(species)]
    log_gf = table["log_amplitude"].to_numpy() / np.log(10)
    return generator.tag_lines(LineList(names, table["center"].to_numpy(), np.zeros(len(table)), log_gf))
