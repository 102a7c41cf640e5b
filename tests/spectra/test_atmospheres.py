"""Reading of atmospheres by species, and of the velocity of an observatory."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from stellarhml.exceptions import SpectrumFileError
from stellarhml.physics.wavelength import air_to_vacuum
from stellarhml.spectra import Atmosphere, barycentric_velocity, read_atmosphere, read_spectrum, read_transmission

X = np.arange(8000.0, 8010.0, 0.05)
WATER, OXYGEN = (1 - depth * np.exp(-0.5 * ((X - at) / 0.1) ** 2) for depth, at in ((0.4, 8003.0), (0.7, 8006.0)))


def _check(atmosphere, columns, wavelength=X):
    assert atmosphere.species == tuple(columns)
    np.testing.assert_allclose(atmosphere.wavelength, wavelength, rtol=1e-9)
    for name, column in columns.items():
        np.testing.assert_allclose(atmosphere.transmissions[name], column, atol=1e-6)


def test_tables_by_species(tmp_path):
    both = {"H2O": WATER, "O2": OXYGEN}
    np.savez(tmp_path / "a.npz", wavelength=X, H2O=WATER, O2=OXYGEN, other=np.ones(3))
    _check(read_atmosphere(tmp_path / "a.npz", medium="vacuum"), both)
    table = Table({"wavelength": X / 10, "trans_h2o": WATER, "trans_O2": OXYGEN}, units={"wavelength": "nm"})
    table.meta["AIRORVAC"] = "vac"
    table.write(tmp_path / "a.fits")
    _check(read_atmosphere(tmp_path / "a.fits"), both)
    table.write(tmp_path / "a.ecsv")
    _check(read_atmosphere(tmp_path / "a.ecsv"), both)
    mixed = np.random.default_rng(0).permutation(len(X))
    rows = np.stack([X / 1e4, WATER, OXYGEN], axis=1)[mixed]
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", header="wave_um_vac (um),H2O,O2".replace("wave_um_vac", "wave"))
    _check(read_atmosphere(tmp_path / "a.csv", medium="vacuum"), both)
    _check(read_atmosphere(tmp_path / "a.csv", medium="air"), both, air_to_vacuum(X))


def test_formats_of_programs(tmp_path):
    """Columns and units as TAPAS, SkyCalc, Molecfit and TelFit write them."""
    ipac = Table({"wavelength": X / 10, "transmittance": WATER}, units={"wavelength": "nm"})
    ipac.write(tmp_path / "tapas.ipac", format="ascii.ipac")
    _check(read_atmosphere(tmp_path / "tapas.ipac", medium="vacuum"), {"air": WATER})
    sky = Table({"lam": X / 10, "flux": 50 * X, "trans": 0.9 * WATER, "trans_ma": WATER}, units={"lam": "nm"})
    sky["trans_o3"], sky["trans_rs"] = OXYGEN, 0.9 * np.ones(len(X))
    sky.write(tmp_path / "skycalc.fits")
    _check(read_atmosphere(tmp_path / "skycalc.fits", medium="vacuum"), {"air": WATER, "O3": OXYGEN})
    sky["lam", "flux", "trans"].write(tmp_path / "short.fits")
    _check(read_atmosphere(tmp_path / "short.fits", medium="vacuum"), {"air": 0.9 * WATER})
    molecfit = Table({"lambda": 1.1 * X / 1e4, "flux": 90 * X, "mlambda": X / 1e4, "mtrans": WATER})
    molecfit.write(tmp_path / "molecfit.fits")
    _check(read_atmosphere(tmp_path / "molecfit.fits"), {"air": WATER})
    np.savetxt(tmp_path / "telfit.txt", np.stack([X / 10, WATER], axis=1))
    _check(read_atmosphere(tmp_path / "telfit.txt", unit="nm", medium="vacuum"), {"air": WATER})


def test_what_is_not_stated_is_asked(tmp_path):
    np.savez(tmp_path / "a.npz", wavelength=X, H2O=WATER)
    np.savez(tmp_path / "b.npz", wavelength=X, water=WATER)
    np.savez(tmp_path / "c.npz", wavelength=X, H2O=100 * WATER)
    np.savetxt(tmp_path / "a.txt", np.stack([X, WATER], axis=1))
    for name, settings, text in (
        ("a.npz", {}, "does not state whether its wavelengths are in vacuum or in air"),
        ("b.npz", {"medium": "vacuum"}, "transmissions of"),
        ("c.npz", {"medium": "vacuum"}, "has transmissions of H2O of"),
        ("a.txt", {"medium": "vacuum"}, "two with a stated unit are needed"),
    ):
        with pytest.raises(SpectrumFileError, match=text):
            read_atmosphere(tmp_path / name, **settings)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_atmosphere(tmp_path / "none")


def test_gaps_are_unknown(tmp_path):
    kept = (X < 8004) | (X > 8006)
    np.savez(tmp_path / "a.npz", wavelength=X[kept], H2O=WATER[kept])
    found = read_atmosphere(tmp_path / "a.npz", medium="vacuum")
    assert np.isnan(found.transmissions["H2O"]).sum() == 1


def test_the_total_is_a_product_of_powers():
    air = Atmosphere(X, {"H2O": WATER, "O2": OXYGEN})
    np.testing.assert_allclose(air.total({"H2O": 2.0}), WATER**2 * OXYGEN)


@pytest.mark.parametrize("name", ["air.csv", "air.npz"])
def test_a_table_by_species_masks_and_divides(tmp_path, name):
    """By the product of its species, as the table has them; a total of its own counts."""
    path, columns = tmp_path / name, {"wavelength": X, "H2O": WATER, "trans_O2": OXYGEN}

    def write(columns):
        if name == "air.npz":
            np.savez(path, **columns)
        else:
            np.savetxt(path, np.column_stack(list(columns.values())), header=",".join(columns), delimiter=",")

    write(columns)
    wavelength, transmission = read_transmission(path)
    np.testing.assert_allclose(wavelength, X)
    np.testing.assert_allclose(transmission, WATER * OXYGEN)
    write(columns | {"transmission": WATER})
    np.testing.assert_allclose(read_transmission(path)[1], WATER)


def test_the_pipeline_of_hpf_finds_the_same_velocity(shared_data):
    """Its header states -21,911.1 m/s for the middle of an exposure of two minutes."""
    path = shared_data.observed("hpf_goldilocks_A0V_HR4829.fits")
    stated = fits.getheader(path)["BRVCORR"] / 1000
    assert barycentric_velocity(path) == pytest.approx(stated, abs=0.005)
    assert barycentric_velocity(read_spectrum(path)) == barycentric_velocity(path)


@pytest.mark.parametrize("suffix", [".fits", ".ecsv"])
def test_the_velocity_of_a_spectrum_that_was_written(make_hpf, tmp_path, suffix):
    """The keywords of place, time and target go with it, without the file that it was read from."""
    path, copy = make_hpf(tmp_path / "hpf.fits"), tmp_path / f"copy{suffix}"
    with fits.open(path, mode="update") as file:
        file[0].header.update({"QRA": "12:41:57", "QDEC": "+06:48:24", "DATE-OBS": "2021-05-17T05:44:33"})
        file[0].header.update({"TELESCOP": "HET", "ITIME": 600.0, "BLAZE": "a card that is not needed"})
    known = barycentric_velocity(path)
    read_spectrum(path).write(copy)
    path.unlink()
    again = read_spectrum(copy)
    assert barycentric_velocity(again) == known
    assert "BLAZE" not in again.meta["header"]
    if suffix == ".fits":
        assert barycentric_velocity(copy) == known
    again.select([3]).write(copy)  # and so on
    assert barycentric_velocity(read_spectrum(copy)) == known


def test_time_place_and_target_of_headers():
    target = {"RA": 190.4875, "DEC": 6.8067}
    time = {"DATE-OBS": "2021-05-17T05:44:33"}
    known = barycentric_velocity({**target, **time, "TELESCOP": "HET"})
    place = {"OBSGEO-L": -104.0147, "OBSGEO-B": 30.6814, "OBSGEO-H": 2026.0}
    assert barycentric_velocity({**target, **time, **place}) == pytest.approx(known, abs=1e-6)
    hours = {"RA": "12:41:57", "DEC": "+06:48:24.1"}
    assert barycentric_velocity({**hours, "MJD-OBS": 59351.2392708, **place}) == pytest.approx(known, abs=1e-4)
    # in an hour the Earth turns by 15 degrees
    later = barycentric_velocity({**target, **time, **place, "EXPTIME": 7200.0})
    assert 0.02 < abs(later - known) < 0.2
    assert barycentric_velocity({"ESO QC BERV": -3.25}) == -3.25
    # of a year for which no rotation of the Earth is known
    assert abs(barycentric_velocity({**target, **place, "DATE-OBS": "2045-05-17T05:44:33"}) - known) < 1.0


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"RA": 1.0, "DEC": 2.0, "TELESCOP": "HET"}, "no time"),
        ({"RA": 1.0, "DEC": 2.0, "DATE-OBS": "2021-05-17T05:44:33"}, "no place"),
        ({"TELESCOP": "HET", "DATE-OBS": "2021-05-17T05:44:33"}, "no target"),
    ],
)
def test_headers_that_do_not_say(header, text):
    with pytest.raises(SpectrumFileError, match=text):
        barycentric_velocity(header)
