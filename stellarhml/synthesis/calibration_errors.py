"""CalibrationErrors: what a calibration of the lines of a generator has changed, and left uncertain."""

from typing import NamedTuple

import numpy as np

from stellarhml._state import check_keys, take_array
from stellarhml.kernels.line_columns import KINDS


class CalibrationErrors(NamedTuple):
    """Errors of corrected lines by kind: ln strength, velocity [km/s], ln width, ln strength of the wing.

    `scatter` (n_kinds,) of the lines of stars about the corrected ones, as between the reference stars; `variances`
    (n_kinds, n_lines) of the corrections, independent of each other; `modes` (n_modes, n_kinds, n_lines), float32,
    errors that lines share, such as those of a zero point, of one standard deviation each. `shifts` (n_kinds, n_lines)
    are the corrections themselves, None where the file of a generator lacks them.
    """

    scatter: np.ndarray
    variances: np.ndarray
    modes: np.ndarray
    shifts: np.ndarray | None = None

    def spread(self):
        """Expected size of a line's fault in units of `scatter`, (n_kinds, n_lines), 1 or more."""
        return np.sqrt(1 + self.variances / self.scatter[:, None] ** 2)

    def of_line(self, line):
        """Correction of a line and its standard deviation by kind; NaN for a correction that is not known."""
        shifts = np.full(len(KINDS), np.nan) if self.shifts is None else self.shifts[:, line]
        std = np.sqrt(self.variances[:, line] + (self.modes[:, :, line].astype(np.float64) ** 2).sum(axis=0))
        return dict(zip(KINDS, zip(shifts.tolist(), std.tolist(), strict=True), strict=True))

    def to_state(self):
        """State for a file: the fields by their names."""
        return self._asdict()

    @classmethod
    def from_state(cls, state, n_lines):
        """Rebuild the errors of `n_lines` lines from their state; StateError if it is invalid."""
        check_keys(state, cls._fields)
        shifts = state["shifts"]
        n_kinds, limit = len(KINDS), {"low": -1e10, "high": 1e10}
        return cls(
            take_array(state, "scatter", dtype="f8", shape=(n_kinds,), low=1e-10, high=1e10),
            take_array(state, "variances", dtype="f8", shape=(n_kinds, n_lines), low=0, high=1e10),
            take_array(state, "modes", dtype="f4", shape=(None, n_kinds, n_lines), **limit),
            None if shifts is None else take_array(state, "shifts", dtype="f8", shape=(n_kinds, n_lines), **limit),
        )
