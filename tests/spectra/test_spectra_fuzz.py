"""Damaged files: each gives a valid spectrum or an error that names the file, never a crash or a warning."""

import random

import numpy as np
import pytest

from stellarhml.exceptions import SpectrumFileError
from stellarhml.spectra import ObservedSpectrum, read_spectrum, read_transmission

WAVE = 5000 + 0.1 * np.arange(30)
ORDERS = [(WAVE + 9 * k, np.ones(30), np.full(30, 0.1)) for k in range(2)]


def _own(folder, suffix):
    ObservedSpectrum(ORDERS, {"object": "star"}).write(folder / f"star{suffix}")
    return folder / f"star{suffix}"


def _text(folder):
    rows = (f"{w:.1f} 1.0 0.1 {k // 15}" for k, w in enumerate(WAVE))
    (folder / "star.txt").write_text("# wavelength flux error order\n" + "\n".join(rows) + "\n")
    return folder / "star.txt"


def _npz(folder, save):
    save(folder / "star.npz", wavelength=WAVE, flux=np.ones(30), sigma=np.ones(30), order=np.arange(30) // 15)
    return folder / "star.npz"


def _hdf5(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "star.hdf5", "w") as file:
        file.attrs["name"] = "star"
        file["waves"], file["fluxes"], file["sigmas"], file["masks"] = WAVE, WAVE, WAVE, WAVE > 0
    return folder / "star.hdf5"


MAKERS = {
    "hpf": lambda folder, request: request.getfixturevalue("make_hpf")(folder / "star.fits"),
    "igrins": lambda folder, request: request.getfixturevalue("make_igrins")(folder, variance_inside=True),
    "table.fits": lambda folder, request: _own(folder, ".fits"),
    "table.ecsv": lambda folder, request: _own(folder, ".ecsv"),
    "text": lambda folder, request: _text(folder),
    "npz": lambda folder, request: _npz(folder, np.savez),
    "compressed npz": lambda folder, request: _npz(folder, np.savez_compressed),
    "hdf5": lambda folder, request: _hdf5(folder),
}


def _damage(whole, rng):
    """Cut, drop, repeat or change bytes; text and headers get digits and signs too."""
    data = bytearray(whole)
    kind = rng.random()
    place = rng.randrange(len(data))
    if kind < 0.15:
        return bytes(data[:place])
    if kind < 0.25:
        del data[place : place + rng.randrange(1, 200)]
    elif kind < 0.35:
        data[place:place] = data[place : place + rng.randrange(1, 200)]
    else:
        # headers stand at the beginning of blocks, and most of a file is data
        limit = rng.choice([len(data), min(len(data), 6000)])
        for _ in range(rng.choice([1, 1, 2, 5, 20])):
            data[rng.randrange(limit)] = rng.choice([rng.randrange(256), 0, 255, *b" 019-.,\nE"])
    return bytes(data)


def _read(path, reader=lambda path: read_spectrum(path, medium="vacuum")):
    """What is in the file and None, or None and the message."""
    try:
        return reader(path), None
    except SpectrumFileError as error:
        return None, str(error)


def _check(path, whole, seeds):
    n_errors = 0
    for seed in seeds:
        path.write_bytes(_damage(whole, random.Random(seed)))
        spectrum, message = _read(path)
        if spectrum is None:
            assert path.name in message, seed
            n_errors += 1
        else:
            ObservedSpectrum(spectrum.orders, spectrum.meta)  # which checks all rules
            assert isinstance(spectrum.meta["notes"], list), seed
    return n_errors


@pytest.mark.parametrize("kind", MAKERS)
def test_damaged_files(tmp_path, request, kind):
    path = MAKERS[kind](tmp_path, request)
    whole = path.read_bytes()
    n = 10 if kind == "hdf5" else 60  # each has a process of its own
    assert _check(path, whole, range(n)) >= n // 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_thousands_of_damaged_files(tmp_path, request, kind):
    path = MAKERS[kind](tmp_path, request)
    _check(path, path.read_bytes(), range(1000, 1100 if kind == "hdf5" else 1600))


@pytest.mark.parametrize("kind", ["hpf", "table.fits", "table.ecsv", "text", "npz"])
def test_every_length_of_a_file_that_was_cut_short(tmp_path, request, kind):
    path = MAKERS[kind](tmp_path, request)
    whole = path.read_bytes()
    for size in np.linspace(0, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:size])
        spectrum, message = _read(path)
        if spectrum is None:
            assert path.name in message
        else:  # rows of text end anywhere, and FITS ends with padding
            assert kind == "text" or size > 0.9 * len(whole)


def _air(folder, suffix):
    from astropy.table import Table

    path, columns = folder / f"air{suffix}", {"wavelength": WAVE, "transmission": 1 - 0.01 * np.arange(30)}
    if suffix == ".npz":
        np.savez(path, **columns)
    else:
        formats = {".fits": "fits", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".txt": "ascii.commented_header"}
        Table(columns).write(path, format=formats[suffix])
    return path


def _check_air(path, whole, seeds):
    n_errors = 0
    for seed in seeds:
        path.write_bytes(_damage(whole, random.Random(seed)))
        columns, message = _read(path, read_transmission)
        if columns is None:
            assert path.name in message, seed
            n_errors += 1
        else:
            assert np.all(columns[0] > 0), seed
            assert np.all(np.diff(columns[0]) > 0), seed
            known = columns[1][np.isfinite(columns[1])]
            assert known.min() >= -0.5, seed
            assert known.max() <= 2, seed
    return n_errors


@pytest.mark.parametrize("suffix", [".npz", ".fits", ".ecsv", ".csv", ".txt"])
def test_damaged_transmissions(tmp_path, suffix):
    path = _air(tmp_path, suffix)
    assert _check_air(path, path.read_bytes(), range(60)) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".fits", ".ecsv", ".csv", ".txt"])
def test_thousands_of_damaged_transmissions(tmp_path, suffix):
    path = _air(tmp_path, suffix)
    _check_air(path, path.read_bytes(), range(1000, 1600))
