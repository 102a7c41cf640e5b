"""Bytes to arrays and back: PHOENIX files, gollum, blase states, tables of observed spectra, saved estimators."""
