"""Decomposition of normalised spectra into spectral lines."""

from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer

__all__ = ["VoigtLineDecomposer"]
