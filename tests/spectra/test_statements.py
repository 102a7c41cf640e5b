import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from stellarhml.physics.wavelength import vacuum_to_air
from stellarhml.spectra import (
    ObservedSpectrum,
    divide_standard,
    divide_tellurics,
    mask_tellurics,
    read_spectrum,
    read_transmission,
)

WAVE = np.linspace(8500.0, 8510.0, 40)
FLUX = np.linspace(1.0, 2.0, 40)


def write_fits(path, wavelength=WAVE, *, unit="Angstrom", name="WAVE", primary=None, table=None):
    """A FITS table with some keywords in its two headers."""
    hdu = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, "D", unit=unit, array=wavelength),
            fits.Column("FLUX", "D", array=FLUX),
            fits.Column("ERR", "D", array=np.full(40, 0.01)),
        ]
    )
    hdus = fits.HDUList([fits.PrimaryHDU(), hdu])
    for header, cards in ((hdus[0].header, primary), (hdu.header, table)):
        for key, value in (cards or {}).items():
            header[key] = value
    hdus.writeto(path, overwrite=True)
    return path


STATED = [
    ({"primary": {"AIRORVAC": "air"}}, "air"),
    ({"primary": {"AIRORVAC": "vac"}}, "vacuum"),
    ({"primary": {"VACUUM": False}}, "air"),
    ({"primary": {"VACUUM": True}}, "vacuum"),
    ({"table": {"VACUUM": "T"}}, "vacuum"),
    ({"table": {"CTYPE1": "AWAV"}}, "air"),
    ({"table": {"CTYPE1": "AWAV-LOG"}}, "air"),
    ({"table": {"CTYPE1": "VAC"}}, "vacuum"),
    ({"table": {"TUCD1": "em.wl;obs.air"}}, "air"),
    ({"table": {"TUCD1": "em.wl;obs.atmos"}}, "air"),
    ({"name": "wave_vac"}, "vacuum"),
    ({"name": "WAVELENGTH_AIR"}, "air"),
    ({"unit": "Angstrom (air)"}, "air"),
    ({"unit": "Angstroms (vacuum)"}, "vacuum"),
]


@pytest.mark.parametrize(("keywords", "medium"), STATED)
def test_a_statement_in_a_file_suffices_and_cannot_be_contradicted(tmp_path, keywords, medium):
    given = vacuum_to_air(WAVE) if medium == "air" else WAVE
    path = write_fits(tmp_path / "star.fits", given, **keywords)
    other = "vacuum" if medium == "air" else "air"
    for stated in (None, medium):
        got = read_spectrum(path, medium=stated)
        assert got.meta["medium"] == medium
        # Refraction there and back is exact to 1e-9 angstrom; the two media differ by 2.3 angstrom here.
        np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match=rf"`medium` is '{other}', but the wavelengths are in {medium} by .*\w"):
        read_spectrum(path, medium=other)


@pytest.mark.parametrize("keywords", [{"TUCD1": "em.wl"}, {"CTYPE1": "WAVE"}, {"CTYPE1": "LINEAR"}, {"VACUUM": "?"}])
def test_what_states_nothing(tmp_path, keywords):
    path = write_fits(tmp_path / "star.fits", table=keywords)
    with pytest.raises(ValueError, match="does not state whether"):
        read_spectrum(path)
    assert read_spectrum(path, medium="air").meta["medium"] == "air"


def test_a_file_that_contradicts_itself_names_both(tmp_path):
    path = write_fits(tmp_path / "star.fits", primary={"AIRORVAC": "air", "VACUUM": True})
    for medium in (None, "air", "vacuum"):
        with pytest.raises(ValueError, match="air by AIRORVAC = 'air', but vacuum by VACUUM = True"):
            read_spectrum(path, medium=medium)


def test_statements_of_text_ecsv_and_npz(tmp_path):
    columns = np.column_stack([vacuum_to_air(WAVE), FLUX])
    np.savetxt(tmp_path / "a.txt", columns, header="medium: air\nSPECSYS = BARYCENT\nwavelength flux")
    np.savetxt(tmp_path / "b.csv", columns, delimiter=",", header="wavelength (air),flux", comments="")
    table = Table({"wavelength": vacuum_to_air(WAVE), "flux": FLUX}, meta={"AIRORVAC": "air", "SPECSYS": "BARYCENT"})
    table.write(tmp_path / "c.ecsv")
    np.savez(tmp_path / "d.npz", wavelength=vacuum_to_air(WAVE), flux=FLUX, medium="air", specsys="BARYCENT")
    for name in ("a.txt", "b.csv", "c.ecsv", "d.npz"):
        got = read_spectrum(tmp_path / name)
        assert got.meta["medium"] == "air"
        assert got.meta["frame"] == (None if name == "b.csv" else "barycenter")
        np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=0, atol=1e-7)
        with pytest.raises(ValueError, match="wavelengths are in air by"):
            read_spectrum(tmp_path / name, medium="vacuum")
    np.testing.assert_allclose(ObservedSpectrum.from_table(table).orders[0].wavelength, WAVE, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("system", "frame"),
    [
        ("TOPOCENT", "telescope"),
        ("BARYCENT", "barycenter"),
        ("heliocen", "heliocenter"),
        ("SOURCE", "star"),
        ("", None),
    ],
)
def test_frame_and_what_follows_for_tellurics(tmp_path, system, frame):
    path = write_fits(tmp_path / "star.fits", table={"SPECSYS": system})
    spectrum = read_spectrum(path, medium="vacuum")
    assert spectrum.meta["frame"] == frame
    spectrum.write(tmp_path / "again.fits")
    assert read_spectrum(tmp_path / "again.fits").meta["frame"] == frame
    air = np.linspace(8490, 8520, 3), np.ones(3)
    corrections = [
        lambda star: mask_tellurics(star, *air),
        lambda star: divide_tellurics(star, *air),
        lambda star: divide_standard(star, star, windows=[]),
    ]
    for correct in corrections:
        if frame in (None, "telescope"):
            notes = correct(spectrum).meta["notes"]
            assert ("does not state the frame" in notes[-1]) == (frame is None)
        else:
            with pytest.raises(ValueError, match=f"frame of the {frame} by its file, but telluric lines are at rest"):
                correct(spectrum)
    moved = spectrum.replace(spectrum.orders, frame="telescope")
    assert mask_tellurics(moved, *air).n_masked == 0


def test_an_unknown_system_of_the_standard_is_no_telescope(tmp_path):
    spectrum = read_spectrum(write_fits(tmp_path / "star.fits", table={"SPECSYS": "LSRK"}), medium="vacuum")
    with pytest.raises(ValueError, match="frame of the LSRK"):
        mask_tellurics(spectrum, np.linspace(8490, 8520, 3), np.ones(3))


def test_headers_of_specutils_count(tmp_path):
    specutils = pytest.importorskip("specutils")
    header = {"AIRORVAC": "air", "SPECSYS": "HELIOCEN"}
    spectrum = specutils.Spectrum(
        spectral_axis=vacuum_to_air(WAVE) * u.AA, flux=FLUX * u.ct, meta={"header": fits.Header(header)}
    )
    got = ObservedSpectrum.from_specutils(spectrum)
    assert (got.meta["medium"], got.meta["frame"]) == ("air", "heliocenter")
    np.testing.assert_allclose(got.orders[0].wavelength, WAVE, rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match=r"in air by AIRORVAC = 'air'"):
        ObservedSpectrum.from_specutils(spectrum, medium="vacuum")
    # there and back: the wavelengths are in vacuum now, whatever they were in the file
    back = ObservedSpectrum.from_specutils(got.to_specutils(), medium="vacuum")
    assert back.meta["frame"] == "heliocenter"
    np.testing.assert_array_equal(back.orders[0].wavelength, got.orders[0].wavelength)


def test_a_transmission_in_air_is_converted(tmp_path):
    columns = np.column_stack([vacuum_to_air(WAVE), np.ones(40)])
    np.savetxt(tmp_path / "air.txt", columns, header="wavelength_air transmission", comments="")
    np.testing.assert_allclose(read_transmission(tmp_path / "air.txt")[0], WAVE, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "comment",
    [
        "medium = air",
        "VACUUM  =                    F / wavelengths in air",
        "wavelengths in air",
        "Wavelength medium = air",
        "wavelength: air, angstrom",
    ],
)
def test_comments_that_speak_of_air(tmp_path, comment):
    np.savetxt(tmp_path / "star.txt", np.column_stack([WAVE, FLUX]), header=comment)
    assert read_spectrum(tmp_path / "star.txt").meta["medium"] == "air"
    with pytest.raises(ValueError, match="in air by"):
        read_spectrum(tmp_path / "star.txt", medium="vacuum")
    table = Table({"wavelength": WAVE, "flux": FLUX}, meta={"comments": [comment]})
    assert ObservedSpectrum.from_table(table).meta["medium"] == "air"


def test_comments_that_contradict_each_other_or_say_nothing(tmp_path):
    path = tmp_path / "star.txt"
    np.savetxt(path, np.column_stack([WAVE, FLUX]), header="medium = air\nmedium = vacuum")
    with pytest.raises(ValueError, match="states air and vacuum"):
        read_spectrum(path)
    np.savetxt(path, np.column_stack([WAVE, FLUX]), header="wavelengths in vacuum, converted from air\nair mass: 1.2")
    with pytest.raises(ValueError, match="does not state"):
        read_spectrum(path)


@pytest.mark.parametrize("value", [False, "F", "False", "no"])
def test_vacuum_of_an_npz(tmp_path, value):
    np.savez(tmp_path / "star.npz", wavelength=WAVE, flux=FLUX, vacuum=value)
    assert read_spectrum(tmp_path / "star.npz").meta["medium"] == "air"
    np.savez(tmp_path / "air.npz", wavelength=vacuum_to_air(WAVE), transmission=np.ones(40), vacuum=value)
    np.testing.assert_allclose(read_transmission(tmp_path / "air.npz")[0], WAVE, rtol=0, atol=1e-7)


def test_attributes_of_hdf5_count(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "star.hdf5", "w") as file:
        file["wls"], file["fls"] = WAVE, FLUX
        file.attrs["medium"], file.attrs["name"] = "air", "a star"
    assert read_spectrum(tmp_path / "star.hdf5").meta["medium"] == "air"


def test_nested_metadata_cost_nothing():
    """Aliases of YAML make lists in lists in lists: their text would fill the memory."""
    deep = []
    for _ in range(200):
        deep = [deep] * 9
    table = Table({"wavelength": WAVE, "flux": FLUX}, meta={"deep": deep, "MEDIUM": deep, "AIRORVAC": "air"})
    assert ObservedSpectrum.from_table(table).meta["medium"] == "air"
