"""From normalised flux to spectral lines and back."""

from stellarhml.lines._voigt_line_decomposer import VoigtLineDecomposer

__all__ = ["VoigtLineDecomposer"]
