"""Files that claim, or unpack to, more memory than a spectrum takes are refused before it is taken."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
from astropy.io import fits

from stellarhml import load
from stellarhml.exceptions import BlaseStateError, PersistenceError, SpectrumFileError
from stellarhml.spectra import read_spectrum, read_transmission
from stellarhml.storage.file_sizes import LIMITS, MB

GB = 1_000_000_000
# reads one file, and prints what came of it and the largest memory it took
CHILD = """
import json, resource, sys
import astropy.io.ascii, astropy.io.fits, astropy.table
from stellarhml.spectra import read_spectrum
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_spectrum(sys.argv[1], medium="vacuum")
    said = "read"
except Exception as error:
    said = f"{type(error).__name__}: {error}"
used = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([said, max(used[0] - before, 0) / 1e3, used[1] / 1e3]))
"""


def read_apart(path):
    """What another process says of a file, the memory in MB that it took for it, and that of its own children."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def zeros_of_npy(n):
    """Bytes of the head of an array of n zeros, and their number."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (n,)})
    return head.getvalue()


def npz_of_zeros(path, names=("wavelength", "flux"), n=40_000_000):
    """Zeros, packed a thousandfold: 640 MB in 3 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in names:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(zeros_of_npy(n))
                block = bytes(8_000_000)
                for _ in range(n // 1_000_000):
                    file.write(block)


def npz_that_claims(path):
    """A header of 8 TB over 80 bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("wavelength", "flux"):
            archive.writestr(f"{name}.npy", zeros_of_npy(10**12) + bytes(80))


def npz_of_many(path):
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(3000):
            archive.writestr(f"a{k}.npy", b"")


def gzip_of_zeros(path, first=b""):
    """600 MB of zeros as 3 MB, after some bytes."""
    pack = zlib.compressobj(1, zlib.DEFLATED, 31)
    with open(path, "wb") as file:
        file.write(pack.compress(first))
        block = bytes(20 * MB)
        for _ in range(30):
            file.write(pack.compress(block))
        file.write(pack.flush())


def fits_gz(path):
    """A FITS file, unpacked 600 MB."""
    header = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 1), ("NAXIS1", 600 * MB)])
    gzip_of_zeros(path, header.tostring().encode())


def fits_without_end(path):
    gzip_of_zeros(path, b"SIMPLE  =                    T".ljust(80))


def fits_with_large_axes(path):
    """A primary image of 80 GB, of which nothing follows."""
    header = fits.Header([("SIMPLE", True), ("BITPIX", -64), ("NAXIS", 2), ("NAXIS1", 100_000), ("NAXIS2", 100_000)])
    path.write_bytes(header.tostring().encode() + bytes(2880))


def fits_tiles(path):
    """A packed image of one value: 800 million pixels in a table of tiles."""
    hdu = fits.CompImageHDU(np.zeros((100, 8000), dtype=np.int32), compression_type="RICE_1", tile_shape=(100, 8000))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    content = path.read_bytes()
    for key, old, new in (("ZNAXIS2", 100, 100_000), ("ZTILE2", 100, 100_000)):
        old = f"{key:8}= {old:>20}".encode()
        assert old in content
        content = content.replace(old, f"{key:8}= {new:>20}".encode())
    path.write_bytes(content)


def sparse_text(path):
    """One line, and 150 MB of holes."""
    with path.open("wb") as file:
        file.write(b"5000.0 1.0\n")
        file.truncate(150 * MB)


def long_text(path):
    """Five lines, and so many zeros to the right that it has 1 GB: a hole, but larger than any text."""
    with path.open("wb") as file:
        file.truncate(GB)


def sparse_fits(path):
    with path.open("wb") as file:
        file.write(b"SIMPLE  =                    T".ljust(80))
        file.truncate(400 * MB)


def hdf5_of_zeros(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name in ("waves", "fluxes"):
            file.create_dataset(name, shape=(2 * GB // 8,), dtype="f8", chunks=(1_000_000,), compression="gzip")


def hdf5_of_a_large_piece(path):
    """Ten numbers, stored in a packed piece of 4 GB."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name in ("waves", "fluxes"):
            file.create_dataset(
                name, shape=(10,), maxshape=(None,), dtype="f8", chunks=(GB // 2 - 1,), compression="gzip"
            )


def npz_of_bytes(path):
    """200 MB of bytes, which are 1.6 GB as numbers of 64 bits."""
    np.savez_compressed(path, wavelength=np.zeros(100 * MB, dtype=np.uint8), flux=np.zeros(100 * MB, dtype=np.uint8))


def fits_table_of_bytes(path):
    columns = [fits.Column(name, "B", array=np.zeros(50 * MB, dtype=np.uint8)) for name in ("wavelength", "flux")]
    fits.BinTableHDU.from_columns(columns).writeto(path)


ATTACKS = {
    "bytes.npz": (npz_of_bytes, "claims 1,600.0 MB for its arrays, as numbers of 64 bits"),
    "bytes.fits": (fits_table_of_bytes, "claims 800.0 MB for its data"),
    "zeros.npz": (npz_of_zeros, "640.0 MB for its arrays, unpacked, but at most 500.0 MB"),
    "claims.npz": (npz_that_claims, "of shape (1000000000000,)"),
    "many.npz": (npz_of_many, "archive of 3000 arrays, but at most 1000"),
    "zeros.fits.gz": (fits_gz, "unpacks to more than 500.0 MB"),
    "endless.fits.gz": (fits_without_end, "unpacks to more than 500.0 MB"),
    "axes.fits": (fits_with_large_axes, "claims 80,000.0 MB for its data"),
    "tiles.fits": (fits_tiles, "claims 6,400"),
    "sparse.txt": (sparse_text, "holes, as after an interrupted copy"),
    "sparse.fits": (sparse_fits, "holes, as after an interrupted copy"),
    "long.txt": (long_text, "is a text file of 1,000.0 MB, but at most 200.0 MB are read"),
    "zeros.hdf5": (hdf5_of_zeros, "its data sets claim 4000000000 bytes"),
    "piece.hdf5": (hdf5_of_a_large_piece, "for a piece"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_file_that_takes_much_memory_is_refused_before_it_is_taken(tmp_path, name):
    make, reason = ATTACKS[name]
    path = tmp_path / name
    make(path)
    said, used, of_children = read_apart(path)
    assert said.startswith(f"SpectrumFileError: {path}"), said
    assert reason in said
    assert used < 60  # MB: readers of FITS load parts of astropy
    assert of_children < 400  # h5py itself


@pytest.mark.parametrize("name", ["tiles.fits", "axes.fits"])
def test_specutils_does_not_get_a_file_that_claims_too_much(tmp_path, name):
    pytest.importorskip("specutils")
    make, reason = ATTACKS[name]
    make(tmp_path / name)
    with pytest.raises(SpectrumFileError, match=re.escape(reason)):
        read_spectrum(tmp_path / name, medium="vacuum", format="specutils")


@pytest.mark.parametrize("name", ["zeros.npz", "sparse.txt", "tiles.fits"])
def test_transmissions_have_the_same_limits(tmp_path, name):
    make, reason = ATTACKS[name]
    make(tmp_path / name, names=("wavelength", "transmission")) if name == "zeros.npz" else make(tmp_path / name)
    with pytest.raises(SpectrumFileError, match=re.escape(reason)):
        read_transmission(tmp_path / name)


def test_state_of_blase_has_the_same_limits(tmp_path):
    torch = pytest.importorskip("torch")
    from stellarhml.grids.blase_states import read_state_dict

    one = torch.ones(1)
    keys = ("lam_centers", "amplitudes", "sigma_widths", "gamma_widths")
    torch.save({key: one.expand(10**9) for key in keys}, tmp_path / "T4700G4.5Z0.0.pt")
    with pytest.raises(BlaseStateError, match="claims 1,000,000,000 numbers"):
        read_state_dict(tmp_path / "T4700G4.5Z0.0.pt")
    with zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(LIMITS["binary"] + 1))
    with pytest.raises(BlaseStateError, match="unpacked, but at most"):
        read_state_dict(tmp_path / "packed.pt")


def test_saved_estimator_of_holes_is_refused(tmp_path):
    with open(tmp_path / "generator.asdf", "wb") as file:
        file.write(b"#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n")
        file.truncate(GB)
    with pytest.raises(PersistenceError, match="less than a tenth is stored"):
        load(tmp_path / "generator.asdf")


def test_pickle_in_an_npz_file_is_refused(tmp_path):
    np.savez(tmp_path / "p.npz", wavelength=np.array([{}], dtype=object), flux=np.ones(1))
    with pytest.raises(SpectrumFileError, match="'wavelength' is a pickle"):
        read_spectrum(tmp_path / "p.npz", medium="vacuum")


@pytest.mark.slow
def test_largest_real_files_are_read(tmp_path):
    """A text of 1.5 million pixels as numpy.savetxt writes it, and an echelle spectrum of 170 orders."""
    n = 1_500_000
    table = np.stack([5000 + 0.001 * np.arange(n), np.ones(n), np.full(n, 0.01)], axis=1)
    np.savetxt(tmp_path / "star.txt", table)
    assert 100 * MB < (tmp_path / "star.txt").stat().st_size < LIMITS["text"]
    assert read_spectrum(tmp_path / "star.txt", medium="vacuum").n_pixels == n
    grid = 3800 + 20 * np.arange(170)[:, None] + 0.002 * np.arange(9111)
    np.savez(tmp_path / "star.npz", wavelength=grid, flux=np.ones_like(grid), sigma=np.ones_like(grid))
    assert len(read_spectrum(tmp_path / "star.npz", medium="vacuum").orders) == 170


def test_packed_and_large_files_of_an_ordinary_kind_are_read(tmp_path):
    """Compression of ten to one and holes of the file system's own are no reason to refuse."""
    wave = 5000 + 0.1 * np.arange(200_000)
    np.savez_compressed(tmp_path / "flat.npz", wavelength=wave, flux=np.ones(200_000))
    assert read_spectrum(tmp_path / "flat.npz", medium="vacuum").n_pixels == 200_000
    columns = [fits.Column(name, "D", array=array) for name, array in (("wavelength", wave), ("flux", 0 * wave + 1))]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "flat.fits.gz")
    assert read_spectrum(tmp_path / "flat.fits.gz", medium="vacuum").n_pixels == 200_000
    with gzip.open(tmp_path / "flat.fits.gz") as file:
        content = file.read()
    with open(tmp_path / "half.fits", "wb") as file:  # a hole where half of the file is zeros
        file.write(content)
        os.truncate(file.fileno(), len(content))
    assert read_spectrum(tmp_path / "half.fits", medium="vacuum").n_pixels == 200_000
