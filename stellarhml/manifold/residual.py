r"""What lines leave over, in a low-rank basis over the nodes.

The residual of each training spectrum, flux minus its own lines, is :math:`\bar r + \sum_m c_{km} b_m` with few basis
vectors; the coefficients are interpolated with the weights that the lines have.
"""

import numpy as np


class ResidualBasis:
    """Principal components of residuals.

    Parameters
    ----------
    mean : ndarray of shape (n_pixels,), float32
        Mean residual.
    basis : ndarray of shape (rank, n_pixels), float32
        Orthonormal basis vectors.
    coefficients : ndarray of shape (n_rows, rank), float64
        Coefficients of the training rows.
    """

    def __init__(self, mean, basis, coefficients):
        self.mean, self.basis, self.coefficients = mean, basis, coefficients

    @classmethod
    def learn(cls, residual, rank):
        """Take the leading components from the Gram matrix, n_rows x n_rows.

        Parameters
        ----------
        residual : ndarray of shape (n_rows, n_pixels)
            Residuals; overwritten.
        rank : int
            Largest number of components.

        Returns
        -------
        basis : ResidualBasis
            The components.
        """
        mean = residual.mean(axis=0)
        residual -= mean
        values, vectors = np.linalg.eigh(residual @ residual.T)
        keep = np.argsort(values)[::-1][: min(rank, len(values))]
        keep = keep[values[keep] > np.finfo(np.float32).eps * max(values.max(), 0)]
        scale = np.sqrt(values[keep])
        vectors = vectors[:, keep] * np.sign(
            vectors[np.abs(vectors[:, keep]).argmax(axis=0), keep]
        )  # no sign left free
        basis = (vectors / scale).T @ residual
        return cls(mean.astype(np.float32), basis.astype(np.float32), vectors * scale)

    def at(self, weights):
        """Residuals at weighted means of the training rows.

        Parameters
        ----------
        weights : csr_matrix of shape (n, n_rows)
            Weights of the rows.

        Returns
        -------
        residual : ndarray of shape (n, n_pixels), float64
            Residuals, in units of the normalised flux.
        """
        return (weights @ self.coefficients) @ self.basis.astype(np.float64) + self.mean
