"""Model grids on disk: PHOENIX folders, spectra of gollum, archives of blase; selection and download."""
