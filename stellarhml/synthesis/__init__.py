"""From labels to flux."""

from stellarhml.synthesis._spectrum_generator import SpectrumGenerator

__all__ = ["SpectrumGenerator"]
