"""`stellarhml predict`: resolving power, orders, tellurics, and JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from stellarhml.cli.main import main
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.forward.transmission import Transmission
from stellarhml.spectra import ObservedSpectrum, divide_standard, read_spectrum, read_transmission
from stellarhml.storage.saving import load

LABELS, RV, VSINI, POWER = (5310.0, 3.9, -0.2), 31.0, 12.0, 30_000
NAMES = ("teff", "logg", "feh", "rv", "vsini")
# the toy grid has twelve lines within 15 angstrom
WAVES = [np.arange(8503.0, 8508.5, 0.02), np.arange(8508.5, 8513.5, 0.02)]


def _air(wavelength):
    """Transmission of an atmosphere with a line of depth 0.5 in every 1.7 angstrom."""
    return 1 - 0.5 * np.exp(-0.5 * (((wavelength - 8504.0) % 1.7 - 0.85) / 0.06) ** 2)


def _write(path, orders, **meta):
    ObservedSpectrum(orders, {"order_numbers": [11, 12], "resolving_power": float(POWER), **meta}).write(path)
    return str(path)


@pytest.fixture(scope="module")
def clean(generator_file):
    """Orders of a star as they would be without an atmosphere."""
    generator = load(generator_file)
    fluxes = generator.observe(np.array([LABELS]), WAVES, resolving_power=POWER, rv=RV, vsini=VSINI)
    rng = np.random.default_rng(0)
    return [(x, 90 * (row + rng.normal(scale=1 / 300, size=len(x))), np.full(len(x), 0.3))
            for x, (row,) in zip(WAVES, fluxes, strict=True)]  # fmt: skip


@pytest.fixture
def through_air(clean, tmp_path):
    """A file of the star seen through the atmosphere, and one of the atmosphere's transmission."""
    star = _write(tmp_path / "star.ecsv", [(x, flux * _air(x), error) for x, flux, error in clean])
    fine = np.arange(8500.0, 8522.0, 0.02)
    np.savez(tmp_path / "air.npz", wavelength_A=fine, transmission=_air(fine))
    np.savetxt(tmp_path / "air.txt", np.stack([fine, _air(fine)], axis=1))
    return star, tmp_path


def _rows(capsys, generator_file, *arguments, code=0):
    """Rows that predict prints as JSON, and its standard error."""
    capsys.readouterr()
    start = ["predict", "--generator", str(generator_file), "--json"]
    assert main([*start, *map(str, arguments)]) == code
    captured = capsys.readouterr()
    return json.loads(captured.out, parse_constant=pytest.fail), captured.err


def _off(row):
    """Errors in standard deviations."""
    truth = dict(zip(NAMES, (*LABELS, RV, VSINI), strict=True))
    return np.array([(row[name] - truth[name]) / row[f"{name}_std"] for name in NAMES])


def test_a_grid_with_the_resolution_of_the_spectrograph(generator_file, tmp_path, capsys):
    fluxes = load(generator_file).observe(np.array([LABELS]), WAVES, rv=RV, vsini=VSINI)
    noise = np.random.default_rng(1)
    star = _write(
        tmp_path / "star.ecsv",
        [
            (x, row + noise.normal(scale=1 / 300, size=len(x)), np.full(len(x), 1 / 300))
            for x, (row,) in zip(WAVES, fluxes, strict=True)
        ],
    )
    start = ["predict", "--generator", str(generator_file), "--json", star, "--resolving-power"]
    assert main([*start, "grid"]) == 0
    (sharp,) = json.loads(capsys.readouterr().out)
    assert np.abs(_off(sharp)).max() < 4.5
    # the file states 30,000, by which the lines would be widened twice
    assert main([*start, "file"]) == 0
    (blurred,) = json.loads(capsys.readouterr().out)
    assert blurred["vsini"] < sharp["vsini"] - 5 * sharp["vsini_std"]


def test_json_is_the_table_and_alone_on_standard_output(clean, generator_file, tmp_path, capsys):
    star = _write(tmp_path / "star.fits", clean)
    (tmp_path / "none.txt").write_text("no spectrum\nat all\n")
    arguments = ["--figures", tmp_path / "figures", "--out", tmp_path / "t.json", star, tmp_path / "none.txt", star]
    rows, err = _rows(capsys, generator_file, "--medium", "vacuum", *arguments, code=1)
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert np.abs(_off(rows[0])).max() < 4.5
    assert rows[1]["teff"] is rows[1]["figure"] is None
    assert rows[1]["message"]
    assert [rows[k]["figure"] for k in (0, 2)] == [str(tmp_path / "figures" / f"star{n}.png") for n in ("", "-2")]
    written = json.loads((tmp_path / "t.json").read_text())
    assert written == [{key: value for key, value in row.items() if key != "figure"} for row in rows]
    # the bar of several files, and the error
    assert "Inferring stars" in err
    assert "stellarhml: error: " in err
    rows, err = _rows(capsys, generator_file, "--medium", "vacuum", tmp_path / "none.txt", code=2)
    assert rows[0]["status"] == "failed"
    assert len(err.splitlines()) == 1


def test_tellurics_masked_and_divided_out(through_air, clean, generator_file, capsys):
    star, folder = through_air
    (blind,), _ = _rows(capsys, generator_file, star)
    assert blind["status"] == "flagged"
    (whole,), _ = _rows(capsys, generator_file, _write(folder / "whole.ecsv", clean))
    (masked,), _ = _rows(capsys, generator_file, "--tellurics", folder / "air.npz", star)
    (strict,), _ = _rows(capsys, generator_file, "--tellurics", folder / "air.txt", "--tellurics-limit", "0.999", star)
    (divided,), _ = _rows(capsys, generator_file, "--tellurics", folder / "air.npz", "--tellurics-mode", "divide", star)
    clear = np.concatenate([_air(x) for x in WAVES])
    for row, limit in ((masked, 0.95), (strict, 0.999)):
        # pixels that dip below the limit beside their centers are masked too
        lost = 1 - row["n_pixels"] / whole["n_pixels"]
        assert lost == pytest.approx((clear < limit).mean(), abs=0.04)
    assert divided["n_pixels"] == whole["n_pixels"]
    for row in (strict, divided):
        assert np.abs(_off(row)).max() < 4.5
        assert row["reduced_chi2"] < 1.3
    assert blind["reduced_chi2"] > 10 * divided["reduced_chi2"]


def test_tellurics_fitted_with_the_star(generator_file, tmp_path, capsys):
    """From the command to a spectrum without tellurics, which the same command reads."""
    x = np.arange(8495.0, 8527.0, 0.01)
    np.savez(tmp_path / "fine.npz", wavelength=x, H2O=np.sqrt(_air(x)))
    observation = Observation(WAVES, resolving_power=POWER)
    chain = ForwardChain(load(generator_file), observation, stages=[Transmission(x, _air(x))])
    fluxes = chain.flux(dict(zip(NAMES, (*LABELS, RV, VSINI), strict=True)))
    noise = np.random.default_rng(2)
    orders = [
        (w, row + noise.normal(scale=1 / 300, size=len(w)), np.full(len(w), 1 / 300))
        for w, row in zip(WAVES, fluxes, strict=True)
    ]
    star = _write(tmp_path / "star.ecsv", orders)
    fit = ["--tellurics", tmp_path / "fine.npz", "--tellurics-mode", "fit", "--tellurics-medium", "vacuum"]
    more = ["--out", tmp_path / "t.csv", "--out-spectra", tmp_path / "clean", "--barycentric", "10"]
    (row,), _ = _rows(capsys, generator_file, *fit, *more, star)
    assert abs(row["a_H2O"] - 2) < 0.1
    assert row["rv_barycenter"] == pytest.approx(row["rv"] + 10, abs=0.01)
    assert {"a_H2O", "a_H2O_std", "rv_air"} <= set((tmp_path / "t.csv").read_text().split("\n")[0].split(","))
    written = tmp_path / "clean" / "star.fits"
    (again,), _ = _rows(capsys, generator_file, written)
    assert again["teff"] == pytest.approx(row["teff"], abs=2 * row["teff_std"])
    assert "a_H2O" not in again
    assert main(["predict", "--generator", str(generator_file), *map(str, fit[:4]), star]) == 2
    assert "does not state whether its wavelengths are in vacuum or in air" in capsys.readouterr().err


def test_spectra_without_tellurics_do_not_replace_what_is_read(clean, generator_file, tmp_path, one_error):
    star, air = _write(tmp_path / "star.fits", clean), tmp_path / "air.npz"
    np.savez(air, wavelength=np.arange(8495.0, 8527.0, 0.01), H2O=_air(np.arange(8495.0, 8527.0, 0.01)))
    before = Path(star).read_bytes()
    fit = ["predict", "--generator", str(generator_file), "--tellurics", str(air), "--tellurics-mode", "fit"]
    fit += ["--tellurics-medium", "vacuum", "--out-spectra", str(tmp_path)]
    assert main([*fit, star]) == 2
    assert "star.fits would overwrite" in one_error()
    assert Path(star).read_bytes() == before
    other = _write(tmp_path / "other.ecsv", clean)
    assert main([*fit, "--out", str(tmp_path / "other.fits"), other]) == 2
    assert "would both write" in one_error()


def test_a_stored_star_is_written_anew_with_another_limit(clean, generator_file, tmp_path, capsys):
    star, air = _write(tmp_path / "star.ecsv", clean), tmp_path / "air.npz"
    x = np.arange(8495.0, 8527.0, 0.01)
    np.savez(air, wavelength=x, H2O=_air(x) ** 4)
    fit = ["--tellurics", air, "--tellurics-mode", "fit", "--tellurics-medium", "vacuum"]
    fit += ["--out-spectra", tmp_path / "clean", "--out", tmp_path / "t.csv", star, tmp_path / "none.ecsv"]
    _rows(capsys, generator_file, *fit, code=1)  # one of the two fails: what is done stays stored
    loose = read_spectrum(tmp_path / "clean" / "star.fits").n_masked
    _rows(capsys, generator_file, "--tellurics-limit", "1", *fit, code=1)
    assert read_spectrum(tmp_path / "clean" / "star.fits").n_masked > loose


def test_a_standard_takes_the_atmosphere_out(through_air, generator_file, tmp_path, capsys):
    star, _ = through_air
    level = np.random.default_rng(1)
    orders = [
        (x, 500 * _air(x) * (1 + 0.2 * np.linspace(-1, 1, len(x))) + level.normal(size=len(x)), np.ones(len(x)))
        for x in WAVES
    ]
    standard = _write(tmp_path / "a0v.fits", orders, object="HR 0")
    # the toy's window lies within 1,000 km/s of a Paschen line, 8504.8 angstrom, where a standard has light of its own
    rows, _ = _rows(capsys, generator_file, "--standard", standard, star, code=2)
    assert "No pixel of" in rows[0]["message"]
    ratio = divide_standard(read_spectrum(star), read_spectrum(standard), windows=[])
    ratio.write(tmp_path / "ratio.fits")
    (row,), _ = _rows(capsys, generator_file, tmp_path / "ratio.fits")
    assert np.abs(_off(row)).max() < 4.5


def test_chosen_orders(clean, generator_file, tmp_path, capsys):
    star = _write(tmp_path / "star.fits", clean)
    (one,), _ = _rows(capsys, generator_file, "--orders", "12", star)
    (both,), _ = _rows(capsys, generator_file, "--orders", "12,11", star)
    (same,), _ = _rows(capsys, generator_file, star)
    assert one["n_pixels"] <= len(WAVES[1]) < both["n_pixels"]
    assert both["teff"] == same["teff"]
    (none,), err = _rows(capsys, generator_file, "--orders", "1,11-13", star, code=2)
    assert "has no order 1, 13: its 2 orders have the numbers 11 to 12" in none["message"]
    assert "inspect --orders" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--tellurics-mode", "mask", "s"], "--tellurics-mode needs --tellurics"),
        (["--tellurics-limit", "0.9", "s"], "--tellurics-limit needs --tellurics"),
        (
            ["--tellurics", "t", "--tellurics-mode", "divide", "--standard", "a", "s"],
            "would both divide out the atmosphere",
        ),
        (
            ["--tellurics", "t", "--tellurics-mode", "fit", "--standard", "a", "s"],
            "--standard divides out the atmosphere",
        ),
        (["--tellurics", "t", "--tellurics-medium", "air", "s"], "--tellurics-medium is for --tellurics-mode fit"),
        (["--tellurics", "t", "--out-spectra", "f", "s"], "--out-spectra writes spectra without their tellurics"),
    ],
)
def test_arguments_that_contradict_each_other(arguments, text, one_error):
    assert main(["predict", "--generator", "g.asdf", "--medium", "vacuum", *arguments]) == 2
    assert text in one_error()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--orders", "3-"], "'3-' is neither a number nor a range"),
        (["--orders", "9-3"], "'9-3' is no range from a lower number"),
        (["--orders", "a"], "'a' is neither"),
        (["--sky", "some"], "neither a positive number nor none"),
        (["--tellurics-limit", "95"], "95 is more than 1"),
        (["--tellurics-mode", "hope"], "hope"),
        (["--barycentric", "fast"], "fast is neither a velocity in km/s nor header"),
        (["--format", "muler"], "muler"),
    ],
)
def test_wrong_arguments(arguments, text, one_error, exit_code):
    assert exit_code(["predict", "--generator", "g", *arguments, "s"]) == 2
    assert text in one_error()


def test_files_of_the_atmosphere_that_cannot_be_read(clean, generator_file, tmp_path, one_error):
    star = _write(tmp_path / "star.fits", clean)
    start = ["predict", "--generator", str(generator_file)]
    for option in ("--tellurics", "--standard"):
        assert main([*start, option, str(tmp_path / "nothing"), star]) == 2
        assert "nothing does not exist" in one_error()


def test_a_transmission_from_many_kinds_of_file(tmp_path):
    wavelength = np.concatenate([np.arange(8000.0, 8010.0, 0.1), np.arange(8050.0, 8060.0, 0.1)])
    transmission = np.linspace(0, 1, len(wavelength))
    mixed = np.random.default_rng(0).permutation(len(wavelength))
    Table({"Wavelength": wavelength / 10, "transmission": transmission}, units={"Wavelength": "nm"}).write(
        tmp_path / "a.ecsv"
    )
    Table({"wave": wavelength, "trans": transmission}).write(tmp_path / "a.fits")
    np.savetxt(tmp_path / "a.csv", np.stack([wavelength, transmission], axis=1)[mixed], delimiter=",")
    np.savez(tmp_path / "a.npz", wavelength_A=wavelength, transmission=transmission)
    for name in ("a.ecsv", "a.fits", "a.csv", "a.npz"):
        x, y = read_transmission(tmp_path / name)
        (hole,) = np.flatnonzero(np.isnan(y))
        assert 8010 < x[hole] < 8050
        np.testing.assert_allclose(np.delete(x, hole), wavelength, rtol=1e-14)
        np.testing.assert_allclose(np.delete(y, hole), transmission, atol=1e-15)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"wavelength": [1.0, 2.0], "depth": [1.0, 0.5]}, "'wavelength', but one named transmission"),
        ({"wavelength": [1.0, 2.0], "transmission": [100.0, 50.0]}, "has transmissions of 50 to 100"),
        ({"wavelength": [1.0, 2.0], "transmission": [np.nan, np.nan]}, "none that is finite"),
        ({"wavelength": [1.0, -2.0], "transmission": [1.0, 0.5]}, "of which 1 are not positive"),
        ({"wavelength": [1.0, 1.0], "transmission": [1.0, 0.5]}, "the wavelength 1.0000 angstrom twice"),
        ({"wavelength": [1.0, 2.0], "transmission": [1.0]}, "one length is needed|one real number for each pixel"),
        (
            {"wavelength": [[1.0, 2.0]], "transmission": [[1.0, 0.5]]},
            "one length is needed|one real number for each pixel",
        ),
    ],
)
def test_files_that_are_no_transmission(tmp_path, arrays, text):
    np.savez(tmp_path / "air.npz", **arrays)
    with pytest.raises(ValueError, match=text):
        read_transmission(tmp_path / "air.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "air.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged or truncated"):
        read_transmission(tmp_path / "cut.npz")
