r"""Residuals of the line model: a mean and a few components over the nodes, interpolated like the lines.

The residual of each training spectrum, flux minus its own lines, is :math:`\bar r + \sum_m c_{km} b_m`; its
coefficients are interpolated with the weights that the lines have.
"""

import numpy as np
from scipy import sparse

from stellarhml._state import StateError, check_keys, take, take_array
from stellarhml.manifold.coded_rows import CodedRows


class ResidualBasis:
    """Mean and components of residuals.

    Parameters
    ----------
    rows : CodedRows of shape (1 + rank, n_pixels)
        The mean, then the components, such that no coefficient exceeds 1.
    coefficients : ndarray of shape (n_rows, rank), float64
        Coefficients of the training rows.
    """

    def __init__(self, rows, coefficients):
        self.rows, self.coefficients = rows, coefficients

    def to_state(self) -> dict:
        """State that a file holds.

        Returns
        -------
        state : dict
            "rows" and "coefficients".
        """
        return {"rows": self.rows, "coefficients": self.coefficients}

    @classmethod
    def from_state(cls, state):
        """Make it again from its state.

        Parameters
        ----------
        state : dict
            As from `to_state`.

        Returns
        -------
        basis : ResidualBasis
            With the same values.

        Raises
        ------
        StateError
            If a value is not one that it can have.
        """
        check_keys(state, ("rows", "coefficients"))
        rows = take(state, "rows", CodedRows)
        coefficients = take_array(state, "coefficients", dtype="f8", shape=(None, None))
        if rows.n_rows != 1 + coefficients.shape[1]:
            raise StateError(
                f"There are {rows.n_rows} `rows`, but {coefficients.shape[1]} coefficients; rows have a mean, too."
            )
        return cls(rows, coefficients)

    @property
    def rank(self):
        """Number of components."""
        return self.coefficients.shape[1]

    @property
    def nbytes(self):
        """Memory of the tables, in bytes."""
        return self.rows.nbytes + self.coefficients.nbytes

    def at(self, weights, pixels=slice(None), *, slopes=False):
        """Residuals at weighted means of the training rows.

        Parameters
        ----------
        weights : csr_matrix or ndarray of shape (n, n_rows)
            Weights of the rows, of sum 1.
        pixels : slice or ndarray of int, default=slice(None)
            Pixels wanted.
        slopes : bool, default=False
            Whether the weights are derivatives, of sum 0.

        Returns
        -------
        residual : ndarray of shape (n, n_wanted), float32
            Residuals, in units of the normalised flux.
        """
        if sparse.issparse(weights) and weights.shape[0] == 1:  # a tenth of the time of a sparse product
            coefficients = (weights.data @ self.coefficients[weights.indices])[None]
        else:
            coefficients = np.asarray(weights @ self.coefficients)
        mean = np.full((len(coefficients), 1), 0.0 if slopes else 1.0)
        return self.rows.combine(np.hstack([mean, coefficients]), pixels)
