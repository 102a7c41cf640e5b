r"""Species of the lines of a grid: which atoms and molecules make each line, by a list of transitions.

Every transition near a line is a candidate of strength

.. math:: \log_{10} S = \log gf - 5040\,\chi / T + z_s - (\Delta\lambda / 0.03)^2 / (2 \ln 10),

with the excitation :math:`\chi` of its lower level in eV, the temperature :math:`T` in K and its distance from the
center of the line in angstrom. The zero point :math:`z_s` of its species (abundance, ionisation, partition function) is
learnt from the grid: the median difference between the optical depth of a line's center and its strength, over lines of
which the species has at least 80 %. The share of a species in a line is its part of the total strength.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from stellarhml._state import Sizes, StateError, check_keys, take_array, take_list
from stellarhml.lines.species import species_of

_SCALE = 0.03  # angstrom: lines of a grid and of its list differ by this much, in a blend
_WINDOW = 3 * _SCALE
_SURE = 0.8  # share from which a line tells the zero point of a species
_OUTLIER = 1.0  # dex: a line this much stronger than all of its candidates is of a transition that is not in the list
_ROUNDS, _DAMPING, _TOLERANCE = 60, 0.5, 1e-3  # rounds, share of a change that is made, dex


class LineTags(NamedTuple):
    """Species of lines.

    `species` are names, by number; `shares`, csr_matrix (n_lines, n_species), sum to 1 in a tagged line and to 0 in
    others; `zero_points` (n_species,) [dex], NaN where no line tells; `wavelength` [vacuum angstrom], `excitation` [eV]
    and `log_gf` of the strongest transition of each line, (n_lines,), NaN where it is not tagged.
    """

    species: tuple
    shares: sparse.csr_matrix
    zero_points: np.ndarray
    wavelength: np.ndarray
    excitation: np.ndarray
    log_gf: np.ndarray

    @property
    def tagged(self):
        """Which lines are tagged, (n_lines,) of bool."""
        return self.shares.getnnz(axis=1) > 0

    def names(self):
        """Species with the largest share of each line, (n_lines,) of str; "" where a line is not tagged."""
        return self.of_lines(np.arange(self.shares.shape[0]))["species"]

    def of_lines(self, lines):
        """Tags of `lines`, (n,) int, by name: a dict of arrays (n,).

        The `species` with the largest share, "" where a line is not tagged; its `share`, 0 there; `excitation` [eV] and
        `log_gf` of the strongest transition, NaN there.
        """
        shares = self.shares[lines].toarray()
        species, share = np.array(self.species, dtype=object)[shares.argmax(axis=1)], shares.max(axis=1)
        columns = {"excitation": self.excitation[lines], "log_gf": self.log_gf[lines]}
        return {"species": np.where(share > 0, species, ""), "share": share} | columns

    def with_lines(self, n_new, order):
        """Tags with `n_new` lines more, which are not tagged; `order` (n_lines + n_new,) is that of the result."""
        nothing = sparse.csr_matrix((n_new, self.shares.shape[1]))
        shares = sparse.csr_matrix(sparse.vstack([self.shares, nothing], format="csr")[order])
        columns = [np.append(getattr(self, name), np.full(n_new, np.nan))[order] for name in self._fields[3:]]
        return LineTags(self.species, shares, self.zero_points, *columns)

    def to_state(self):
        """State for a file; shares are listed by line and number of species."""
        shares = sparse.coo_array(self.shares)
        listed = {"line": shares.row.astype("i4"), "number": shares.col.astype("i4"), "share": shares.data}
        return {"species": list(self.species)} | listed | {name: getattr(self, name) for name in self._fields[2:]}

    @classmethod
    def from_state(cls, state, n_lines):
        """Rebuild the tags of `n_lines` lines from their state; StateError if it is invalid."""
        check_keys(state, ("species", "line", "number", "share", *cls._fields[2:]))
        species = take_list(state, "species", str, distinct=True)
        try:
            known = [species_of(name) for name in species] == species
        except ValueError:
            known = False
        if not known or not species:
            raise StateError(f"`species` must be names such as 'Fe I' and 'CN'; they are {species!r:.100}.")
        sizes = Sizes()
        line = take_array(state, "line", dtype="i4", shape=("n_shares",), sizes=sizes, low=0, high=n_lines - 1)
        number = take_array(state, "number", dtype="i4", shape=("n_shares",), sizes=sizes, low=0, high=len(species) - 1)
        share = take_array(state, "share", dtype="f8", shape=("n_shares",), sizes=sizes, low=0, high=1)
        zero_points = take_array(state, "zero_points", dtype="f8", shape=(len(species),), finite=False)
        columns = [take_array(state, name, dtype="f8", shape=(n_lines,), finite=False) for name in cls._fields[3:]]
        shares = sparse.csr_matrix((share, (line, number)), shape=(n_lines, len(species)))
        return cls(tuple(species), shares, zero_points, *columns)


def tag_lines(centers, log_depths, transitions, temperature):
    """Tag lines with species; returns LineTags.

    `centers` [vacuum angstrom] and `log_depths`, log10 of the optical depths of the centers, both (n_lines,), NaN where
    a line is absent; `transitions`, a LineList; `temperature` [K] at which the depths are, for all or for each line.
    """
    species, number = np.unique(transitions.species, return_inverse=True)
    there = np.isfinite(centers) & np.isfinite(log_depths)
    first, last = (
        np.searchsorted(transitions.wavelength, np.where(there, centers + d, 0)) for d in (-_WINDOW, _WINDOW)
    )
    line = np.repeat(np.arange(len(centers)), last - first)
    transition = np.arange(len(line)) + np.repeat(first - np.r_[0, np.cumsum(last - first)[:-1]], last - first)
    distance = transitions.wavelength[transition] - centers[line]
    theta = 5040.0 / np.broadcast_to(temperature, centers.shape)[line]
    strength = transitions.log_gf[transition] - theta * transitions.excitation[transition]
    strength -= 0.5 * (distance / _SCALE) ** 2 / np.log(10)
    kind = number[transition]
    zero_points, told = np.zeros(len(species)), np.zeros(len(species), dtype=bool)
    for _ in range(_ROUNDS):
        shares, excess = _shares(line, kind, strength + zero_points[kind], log_depths, len(species))
        parts = shares.tocoo()
        sure = (parts.data >= _SURE) & ((excess[parts.row] < _OUTLIER) | ~told[parts.col])
        change = np.zeros(len(species))
        for k in np.unique(parts.col[sure]):
            change[k] = np.median(excess[parts.row[sure & (parts.col == k)]])
            change[k], told[k] = change[k] * (_DAMPING if told[k] else 1.0), True
        zero_points += change
        if np.abs(change).max(initial=0.0) < _TOLERANCE:
            break
    shares, excess = _shares(line, kind, strength + zero_points[kind], log_depths, len(species))
    explained = (excess < _OUTLIER) & there
    shares = sparse.csr_matrix(sparse.diags(explained.astype(float)) @ shares)
    shares.eliminate_zeros()
    strongest = _strongest(line, strength + zero_points[kind], transition, explained)
    known = strongest >= 0
    columns = [
        np.where(known, column[strongest], np.nan)
        for column in (transitions.wavelength, transitions.excitation, transitions.log_gf)
    ]
    return LineTags(tuple(species.tolist()), shares, np.where(told, zero_points, np.nan), *columns)


def _shares(line, kind, strength, log_depths, n_species):
    """Shares of the species, csr_matrix (n_lines, n_species), and how much stronger each line is, (n_lines,) [dex]."""
    n_lines = len(log_depths)
    largest = np.full(n_lines, -np.inf)
    np.maximum.at(largest, line, strength)
    parts = sparse.csr_matrix((10 ** (strength - largest[line]), (line, kind)), shape=(n_lines, n_species))
    total = np.asarray(parts.sum(axis=1)).ravel()
    with np.errstate(divide="ignore"):
        excess = log_depths - (largest + np.log10(total))
    return sparse.csr_matrix(sparse.diags(1 / np.where(total > 0, total, 1)) @ parts), excess


def _strongest(line, strength, transition, explained):
    """Strongest transition of each line, -1 where it is not tagged."""
    strongest = np.full(len(explained), -1)
    order = np.argsort(strength, kind="stable")
    strongest[line[order]] = transition[order]  # the last one written is the strongest
    return np.where(explained, strongest, -1)
