"""CalibrationErrors: what a calibration of the lines of a generator has left uncertain."""

from typing import NamedTuple

import numpy as np

from stellarhml._state import check_keys, take_array
from stellarhml.kernels.line_columns import KINDS


class CalibrationErrors(NamedTuple):
    """Errors of corrected lines by kind: ln strength, velocity [km/s], ln width, ln strength of the wing.

    `scatter` (n_kinds,) of the lines of stars about the corrected ones, as between the reference stars; `variances`
    (n_kinds, n_lines) of the corrections, independent of each other; `modes` (n_modes, n_kinds, n_lines), float32,
    errors that lines share, such as those of a zero point, of one standard deviation each.
    """

    scatter: np.ndarray
    variances: np.ndarray
    modes: np.ndarray

    def spread(self):
        """Expected size of a line's fault in units of `scatter`, (n_kinds, n_lines), 1 or more."""
        return np.sqrt(1 + self.variances / self.scatter[:, None] ** 2)

    def to_state(self):
        """State for a file: the fields by their names."""
        return self._asdict()

    @classmethod
    def from_state(cls, state, n_lines):
        """Rebuild the errors of `n_lines` lines from their state; StateError if it is invalid."""
        check_keys(state, cls._fields)
        n_kinds, limit = len(KINDS), {"low": -1e10, "high": 1e10}
        return cls(
            take_array(state, "scatter", dtype="f8", shape=(n_kinds,), low=1e-10, high=1e10),
            take_array(state, "variances", dtype="f8", shape=(n_kinds, n_lines), low=0, high=1e10),
            take_array(state, "modes", dtype="f4", shape=(None, n_kinds, n_lines), **limit),
        )
