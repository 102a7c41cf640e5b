"""Model grids: PHOENIX folders, gollum, archives of blase; selection and download."""
