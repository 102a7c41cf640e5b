"""Line parameters of many spectra as the rows of one matrix, dense or sparse.

Column ``n_parameters * i + j`` is parameter j of catalogue line i. In a scipy CSR matrix a line is present where
its block has stored entries; in a dense array it is absent where its center is NaN.
"""

import numpy as np
from scipy import sparse


def rows_to_csr(rows, n_lines, n_parameters):
    """Stack per-spectrum lines into a CSR matrix.

    Parameters
    ----------
    rows : list of (lines, theta)
        Increasing catalogue indices, shape (k,), and parameters, shape (k, n_parameters), of each spectrum.
    n_lines : int
        Length of the catalogue.
    n_parameters : int
        Parameters of a line.

    Returns
    -------
    table : csr_matrix of shape (n_spectra, n_parameters * n_lines), float64
        All parameters, zeros stored explicitly.
    """
    columns = [(lines[:, None] * n_parameters + np.arange(n_parameters)).ravel() for lines, _ in rows]
    indptr = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    data = np.concatenate([theta.ravel() for _, theta in rows]) if rows else np.empty(0)
    indices = np.concatenate(columns) if rows else np.empty(0, np.int64)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(rows), n_parameters * n_lines))


def csr_row(table, i, n_parameters):
    """Lines of one row of a CSR matrix.

    Parameters
    ----------
    table : csr_matrix of shape (n_spectra, n_parameters * n_lines)
        Line parameters.
    i : int
        Row.
    n_parameters : int
        Parameters of a line.

    Returns
    -------
    lines : ndarray of shape (k,), int64
        Catalogue indices of the lines present.
    theta : ndarray of shape (k, n_parameters)
        Their parameters; entries of a block that are not stored are 0.
    """
    span = slice(table.indptr[i], table.indptr[i + 1])
    columns, values = table.indices[span], table.data[span]
    lines, position = np.unique(columns // n_parameters, return_inverse=True)
    theta = np.zeros((len(lines), n_parameters))
    theta[position, columns % n_parameters] = values
    return lines.astype(np.int64), theta


def dense_row(row, n_parameters):
    """Lines of one row of a dense table.

    Parameters
    ----------
    row : ndarray of shape (n_parameters * n_lines,)
        Line parameters, NaN where a line is absent.
    n_parameters : int
        Parameters of a line.

    Returns
    -------
    lines, theta : ndarray
        As in `csr_row`.
    """
    theta = row.reshape(-1, n_parameters)
    present = np.isfinite(theta).all(axis=1)
    return np.flatnonzero(present), np.asarray(theta[present], dtype=np.float64)
