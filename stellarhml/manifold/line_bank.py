"""LineBank: the lines of all nodes of a grid in three arrays."""

import numpy as np
from scipy import sparse

ABSENT_LOG_AMPLITUDE = -1000.0
"""Log amplitude of a line at a node where it was not found, under the paper's rule."""

VANISHED_LOG_AMPLITUDE = -100.0
"""Log amplitude below which the paper drops an interpolated line."""


class LineBank:
    """Lines of many nodes, stored where they are present only.

    Parameters
    ----------
    indptr : ndarray of shape (n_nodes + 1,), int64
        The lines of node k are entries ``indptr[k]:indptr[k + 1]``.
    line : ndarray of shape (n_entries,), int32
        Catalogue index of each entry, increasing within a node.
    values : ndarray of shape (n_entries, n_parameters), float64
        Line parameters.
    n_lines : int
        Length of the catalogue.
    """

    def __init__(self, indptr, line, values, n_lines):
        self.indptr, self.line, self.values, self.n_lines = indptr, line, values, n_lines

    @classmethod
    def from_table(cls, table, n_parameters):
        """Build a bank from a CSR matrix, or from a dense array with NaN where a line is absent.

        Parameters
        ----------
        table : csr_matrix or ndarray of shape (n_nodes, n_parameters * n_lines)
            Line parameters, a block of columns per line.
        n_parameters : int
            Parameters of a line.

        Returns
        -------
        bank : LineBank
            The same lines.
        """
        n_nodes, n_columns = table.shape
        if sparse.issparse(table):
            table = table.tocsr()
            node = np.repeat(np.arange(n_nodes), np.diff(table.indptr))
            column, value = table.indices, table.data
        else:
            node, column = np.nonzero(~np.isnan(table))
            value = table[node, column]
        key = node * np.int64(n_columns // n_parameters) + column // n_parameters
        entries, place = np.unique(key, return_inverse=True)
        values = np.zeros((len(entries), n_parameters))
        values[place, column % n_parameters] = value
        n_lines = n_columns // n_parameters
        owner, line = np.divmod(entries, max(n_lines, 1))
        indptr = np.searchsorted(owner, np.arange(n_nodes + 1)).astype(np.int64)
        return cls(indptr, line.astype(np.int32), values, n_lines)

    def interpolate(self, nodes, weights, *, amplitude, absent):
        """Lines at a weighted mean of nodes.

        Parameters
        ----------
        nodes : ndarray of shape (k,), int
            Nodes with a weight.
        weights : ndarray of shape (k,)
            Their weights, of sum 1.
        amplitude : int
            Index of the log amplitude among the parameters.
        absent : {"fade", "vanish"}
            What becomes of a line that is absent from some of the nodes. "fade": the mean over the nodes that have
            it, its amplitude times their total weight. "vanish": the paper's rule, log amplitude -1000 at the nodes
            without it, and the line dropped below -100.

        Returns
        -------
        lines : ndarray of shape (n,), int64
            Catalogue indices of the lines present, increasing.
        theta : ndarray of shape (n, n_parameters), float64
            Their parameters.
        """
        spans = [slice(self.indptr[k], self.indptr[k + 1]) for k in nodes]
        line = np.concatenate([self.line[s] for s in spans]) if spans else np.empty(0, np.int64)
        weight = np.repeat(weights, [s.stop - s.start for s in spans])
        values = np.concatenate([self.values[s] for s in spans]).astype(np.float64, copy=False)
        lines, place = np.unique(line, return_inverse=True)
        # where a line is absent from a node, negative weights of smooth interpolation have no meaning
        complete = np.bincount(place, minlength=len(lines)) == len(nodes)
        positive = np.maximum(weight, 0) / np.maximum(weights, 0).sum()
        weight = np.where(complete[place], weight, positive)
        present = np.bincount(place, weight, minlength=len(lines))
        lines, place, weight, values, present = _drop_unweighted(lines, place, weight, values, present)
        theta = np.stack(
            [np.bincount(place, weight * column, minlength=len(lines)) / present for column in values.T], axis=1
        )
        if absent == "fade":
            theta[:, amplitude] += np.log(np.minimum(present, 1.0))
            return lines.astype(np.int64), theta
        theta[:, amplitude] = theta[:, amplitude] * present + ABSENT_LOG_AMPLITUDE * (1 - present)
        kept = theta[:, amplitude] >= VANISHED_LOG_AMPLITUDE
        return lines[kept].astype(np.int64), theta[kept]


def _drop_unweighted(lines, place, weight, values, present):
    """Leave out lines that only nodes without weight have."""
    kept = present > 0
    if kept.all():
        return lines, place, weight, values, present
    entry = kept[place]
    renumber = np.cumsum(kept) - 1
    return lines[kept], renumber[place[entry]], weight[entry], values[entry], present[kept]
