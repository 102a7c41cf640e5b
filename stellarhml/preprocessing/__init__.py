"""Normalisation of raw model or observed spectra."""

from stellarhml.preprocessing._phoenix_preprocessor import PhoenixPreprocessor

__all__ = ["PhoenixPreprocessor"]
