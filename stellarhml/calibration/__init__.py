"""Calibration: corrections of the lines of a grid, learnt from observed reference stars."""

from stellarhml.calibration._line_calibrator import LineCalibrator
from stellarhml.calibration.telluric_lines import resolve_tellurics

__all__ = ["LineCalibrator", "resolve_tellurics"]
