r"""LineFactors: the lines of all nodes as a few factors, a fraction of the size of a bank.

The parameters of all lines at node k are :math:`\theta_k = \bar\theta + \sum_r s_{kr} f_r` with few factors
:math:`f_r`, the principal components of the parameters, each in units of what it does to the flux. What is interpolated
is the few scores of a node; noise from node to node, which is in the components that are left out, goes.
"""

import numpy as np

from stellarhml._state import Sizes, check_keys, take_array
from stellarhml.kernels.combine import add_factors, frozen
from stellarhml.manifold.components import principal_components

_LARGEST = 32767  # of 16 bits
_AT_ONCE = 4096


class LineFactors:
    """Lines of many nodes in terms of factors.

    Parameters
    ----------
    origin : ndarray of shape (n_lines, n_parameters), float64
        Mean of each line.
    factors : ndarray of shape (n_lines, n_parameters, n_factors), int16
        Factors.
    unit : ndarray of shape (n_lines, n_parameters), float32
        What a factor is multiplied by to give line parameters.
    scores : ndarray of shape (n_nodes, n_factors), float64
        Scores of the nodes.
    """

    share = 1.0  # every line is present at every node

    def __init__(self, origin, factors, unit, scores):
        self.origin, self.factors, self.unit, self.scores = origin, factors, unit, scores

    @property
    def n_lines(self):
        """Length of the catalogue."""
        return len(self.origin)

    @property
    def n_nodes(self):
        """Number of nodes."""
        return len(self.scores)

    @property
    def nbytes(self):
        """Memory of the tables, in bytes."""
        return sum(part.nbytes for part in (self.origin, self.factors, self.unit, self.scores))

    @classmethod
    def learn(cls, bank, effect, choose, amplitude):
        """Decompose the lines of all nodes.

        Parameters
        ----------
        bank : LineBank
            The lines.
        effect : ndarray of shape (n_lines, n_parameters)
            What a unit of each parameter does to the flux: how much an error of it matters.
        choose : callable
            From the scores on all components, of shape (n_nodes, n), largest first, to the number to be kept.
        amplitude : int
            Index of the log amplitude among the parameters.

        Returns
        -------
        factors : LineFactors
            The lines.
        """
        # what does nothing to the flux still needs a value
        effect = np.maximum(effect, 1e-6 * effect.max(initial=1e-20)).astype(np.float32)
        table = bank.to_array(amplitude)
        mean = table.mean(axis=0, dtype=np.float64)
        table -= mean.astype(np.float32)
        table *= effect
        table = table.reshape(len(table), -1)
        vectors, sizes = principal_components(_gram(table))
        vectors = vectors[:, : choose(vectors * sizes)]
        factors = vectors.T.astype(np.float32) @ table
        step = np.maximum(np.abs(factors).max(axis=1, initial=0.0).astype(np.float64) / _LARGEST, 1e-300)
        code = np.rint(factors / step[:, None]).astype(np.int16)
        code = np.ascontiguousarray(code.T).reshape(*bank.origin.shape, -1)
        return cls(bank.origin + mean, code, 1 / effect, vectors * step)

    def to_state(self) -> dict:
        """State that a file holds.

        Returns
        -------
        state : dict
            The arguments of the constructor.
        """
        return dict(vars(self))

    @classmethod
    def from_state(cls, state):
        """Make it again from its state.

        Parameters
        ----------
        state : dict
            As from `to_state`.

        Returns
        -------
        factors : LineFactors
            With the same values.

        Raises
        ------
        StateError
            If a value is not one that it can have.
        """
        check_keys(state, ("origin", "factors", "unit", "scores"))
        sizes, shape = Sizes(), ("n_lines", "n_parameters")
        return cls(
            take_array(state, "origin", dtype="f8", shape=shape, sizes=sizes),
            take_array(state, "factors", dtype="i2", shape=(*shape, "n_factors"), sizes=sizes),
            take_array(state, "unit", dtype="f4", shape=shape, sizes=sizes),
            take_array(state, "scores", dtype="f8", shape=("n_nodes", "n_factors"), sizes=sizes),
        )

    def only(self, lines):
        """These factors: they are as fast for a few lines, see `LineBank.only`.

        Parameters
        ----------
        lines : array-like of int
            Ignored.

        Returns
        -------
        factors : LineFactors
            The same object.
        """
        return self

    def at_node(self, node):
        """Lines of one node.

        Parameters
        ----------
        node : int
            The node.

        Returns
        -------
        lines, theta : ndarray
            As from `LineBank.at_node`.
        """
        lines, theta, _ = self.lines_at([node], np.ones(1))
        return lines, theta

    def lines_at(self, nodes, weights, slopes=None, *, amplitude=None, absent=None, wanted=None):
        """Lines at a weighted mean of nodes, and how they change when the weights do.

        Parameters
        ----------
        nodes, weights, slopes, wanted : ndarray
            As in `LineBank.lines_at`.
        amplitude, absent : object
            Ignored: no line is absent.

        Returns
        -------
        lines, theta, slopes : ndarray
            As from `LineBank.lines_at`.
        """
        wanted = np.arange(self.n_lines) if wanted is None else np.asarray(wanted)
        sums = np.asarray(weights)[None] if slopes is None else np.vstack([weights, slopes])
        total = np.zeros((len(sums), len(wanted), self.origin.shape[1]))
        add_factors(wanted, *frozen(self.factors, self.unit), sums @ self.scores[nodes], total)
        return wanted, self.origin[wanted] + total[0], total[1:]


def _gram(table):
    """Scalar products of rows, in double precision: small components would drown in the rounding of large ones."""
    gram = np.zeros((len(table), len(table)))
    for first in range(0, table.shape[1], _AT_ONCE):
        part = table[:, first : first + _AT_ONCE].astype(np.float64)
        gram += part @ part.T
    return gram
