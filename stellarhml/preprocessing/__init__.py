"""From raw model or observed flux to normalised flux."""

from stellarhml.preprocessing._phoenix_preprocessor import PhoenixPreprocessor

__all__ = ["PhoenixPreprocessor"]
