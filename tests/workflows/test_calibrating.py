"""Tables of labels of reference stars, and the summary of a calibration."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stellarhml.workflows.calibrating import Calibrated, format_calibration, read_labels

NAMES = ("teff", "logg", "feh")


def test_rows_find_their_stars(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("# reference stars\nfeh, star,teff,teff_std\n0.0,sun.fits,5772,1\n,night2/b.fits,5100,20\n")
    stars = ["night1/b.fits", tmp_path / "sun.fits", "night2/b.fits", "unknown.fits"]
    nan = np.nan
    expected = [[nan] * 3, [5772, nan, 0], [5100, nan, nan], [nan] * 3]
    np.testing.assert_array_equal(read_labels(path, stars, NAMES), expected)
    np.testing.assert_array_equal(read_labels(None, stars, NAMES), np.full((4, 3), nan))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("star,teff\nb.fits,5000\n", "'b.fits', which is several of the 2 spectra"),
        ("star,teff\nc.fits,5000\n", "'c.fits', which is none of the 2 spectra"),
        ("star,teff\nn1/b.fits,5000\nn1/b.fits,5100\n", "has two rows, 'n1/b.fits' and 'n1/b.fits', of the spectrum"),
        (b"\x1f\x8b\x08 packed", "labels.csv is no table of labels .* Give it as CSV"),
        ("", "labels.csv is no table of labels"),
        ("star,temperature\nn1/b.fits,5000\n", "columns star, temperature, but `star` is needed, and one of teff"),
        ("name,teff\nn1/b.fits,5000\n", "columns name, teff, but `star` is needed"),
        ("star,teff\nn1/b.fits,5000 K\n", "teff = '5000 K' for star 'n1/b.fits', which is no number"),
    ],
)
def test_tables_that_do_not_suit(tmp_path, text, message):
    (tmp_path / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "labels.csv", ["n1/b.fits", "n2/b.fits"], NAMES)


def test_text_of_a_calibration():
    lines = pd.DataFrame(
        {
            "n_stars": [1, 1, 0],
            "absent": [False, True, False],
            "added": [True, False, True],
            "strength": [0.3, -0.4, 9.0],
            "velocity": [0.1, -0.1, 9.0],
            "width": [0.02, 0.02, 9.0],
        }
    )
    columns = {"zero_point": [0.0521, -0.1], "zero_point_std": [0.021, 0.05], "n_stars": [1, 1]}
    species = pd.DataFrame(columns, index=pd.Index(["Si", "CN"], name="species"))
    calibrator = SimpleNamespace(corrections_=lines, species_=species)
    assert format_calibration(Calibrated(calibrator, {}, 1, 1, {})).splitlines() == [
        "1 star, 1 with known labels: 2 of 3 lines are shown, 1 of them are absent, 1 were added.",
        "Corrections of these lines, root mean square: strength 0.354 dex, velocity 0.100 km/s, width 2.0 %.",
        "species zero point [dex] error stars",
        "Si                +0.052 0.021     1",
        "CN                -0.100 0.050     1",
    ]
