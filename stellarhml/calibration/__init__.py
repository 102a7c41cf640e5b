"""Calibration: corrections of the lines of a grid, learnt from observed reference stars."""

from stellarhml.calibration._line_calibrator import LineCalibrator

__all__ = ["LineCalibrator"]
