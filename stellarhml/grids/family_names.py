"""Names of the families of grids, for the command line, which imports nothing heavy for them."""

GRID_FAMILIES = (
    "phoenix",
    "phoenix-medres",
    "fits",
    "starfish",
    "arrays",
    "sonora-bobcat",
    "sonora-diamondback",
    "cool-tlusty",
)
"""Names that `load_grid(family=)` and `stellarhml build --family` take."""
