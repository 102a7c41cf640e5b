"""Names of the formats of spectra, apart from their readers, so that ``--help`` loads nothing heavy."""

FORMATS = (
    *(
        "hpf",
        "igrins",
        "table",
        "npz",
        "hdf5",
        "eso",
        "harps",
        "s1d",
        "s2d",
        "carmenes",
        "spirou",
        "espadons",
        "crires",
    ),
    *("apstar", "aspcapstar", "apvisit", "mwm", "sdss", "lamost", "galah", "gaia", "hires", "stis"),
    *("multispec", "image", "ipac", "votable", "specutils"),
)
"""Values of ``format=`` of `read_spectrum`, and of ``--format``."""
