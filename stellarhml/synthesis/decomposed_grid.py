"""DecomposedGrid: the lines of all nodes of a grid, found once, and generators of some of the nodes made from them."""

from contextlib import contextmanager
from copy import copy
from typing import NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import FLOAT_DTYPES, check_array

from stellarhml.storage.result_store import digest
from stellarhml.synthesis.grid_learning import learn_from_grid
from stellarhml.synthesis.normalising import normalised_rows


class DecomposedGrid(NamedTuple):
    """A grid of which the lines are known, and generators of parts of it: what a cross-validation over nodes needs.

    A generator for held-out nodes needs no lines to be fitted again: all that it interpolates (lines, their factors,
    what they leave over) and its error are learnt from the other nodes alone. What the nodes share does come from all
    of them: the catalogue of lines, the prior of their fit, and the pixels that carry the continuum.

    Attributes
    ----------
    generator : SpectrumGenerator
        With its preprocessor and decomposer fitted to all nodes.
    labels : ndarray of shape (n_spectra, n_labels)
        Labels of the grid.
    flux, normalised : ndarray of shape (n_spectra, n_pixels) and (n_spectra, n_pixels_out)
        Its raw and its normalised fluxes; may be memory maps.
    theta : csr_matrix or ndarray of shape (n_spectra, n_parameters * n_lines)
        Lines of each spectrum.
    """

    generator: object
    labels: np.ndarray
    flux: np.ndarray
    normalised: np.ndarray
    theta: object

    def fit(self, rows, *, verbose=False):
        """Make a generator of some of the nodes.

        Parameters
        ----------
        rows : ndarray of int
            Rows of the grid that it may know.
        verbose : bool, default=False
            Whether to show progress bars.

        Returns
        -------
        generator : SpectrumGenerator
            Fitted. Of all rows it is what `SpectrumGenerator.fit` makes.

        Raises
        ------
        GridIncompleteError
            If the interpolator asks for a full grid and nodes are missing.
        """
        known, labels, normalised = self.generator, self.labels[rows], self.normalised[rows]
        generator = clone(known)
        for name in ("n_features_in_", "label_names_", "preprocessor_", "_one_output"):
            setattr(generator, name, getattr(known, name))
        generator._adopt(copy(known.decomposer_).set_params(verbose=verbose), labels, self.theta[rows], normalised)
        learn_from_grid(generator, labels, normalised)
        generator.grid_id_ = digest(labels, generator.wavelength_, [digest(row) for row in self.flux[rows]])
        return generator


@contextmanager
def decompose_grid(generator, labels, flux):
    """Find the lines of all nodes of a grid.

    Parameters
    ----------
    generator : SpectrumGenerator
        Not fitted; its parameters count.
    labels : array-like of shape (n_spectra, n_labels)
        Labels of the grid.
    flux : array-like of shape (n_spectra, n_pixels)
        Fluxes: raw where the generator has a preprocessor, else normalised.

    Yields
    ------
    grid : DecomposedGrid
        The grid and its lines. Normalised fluxes that are large lie in a temporary file, which is removed at the end.
    """
    labels, flux = check_array(labels, dtype=np.float64), check_array(flux, dtype=FLOAT_DTYPES)
    generator = clone(generator)
    generator.n_features_in_, generator._one_output = labels.shape[1], False
    generator.decomposer_ = decomposer = generator._prepare(labels, flux)
    with normalised_rows(generator.preprocessor_, flux, generator._teff(labels)) as normalised:
        theta = decomposer.fit_transform(normalised, labels)
        yield DecomposedGrid(generator, labels, flux, normalised, theta)
