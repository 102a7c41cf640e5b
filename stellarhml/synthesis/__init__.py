"""Synthesis: model spectra at any labels within a grid."""

from stellarhml.synthesis._spectrum_generator import SpectrumGenerator

__all__ = ["SpectrumGenerator"]
