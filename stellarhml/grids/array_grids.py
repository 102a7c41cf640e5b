"""Grids in one file of arrays: npz, HDF5 and zarr with `labels`, `wavelength` and `flux`; and HDF5 grids of Starfish.

Arrays are `labels` (n_spectra, n_labels), `wavelength` (n_pixels,) and `flux` (n_spectra, n_pixels); `label_names`
(n_labels,), `unit` and `medium` of the wavelengths are arrays of text, or in HDF5 and zarr attributes of the file or of
`wavelength`. Rows of the flux are read one after the other, never all of them.
"""

import re
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stellarhml.exceptions import SpectrumFileError
from stellarhml.grids.grid_source import GridSource, describe_row, increasing, require_one_of_each
from stellarhml.grids.wavelength_statements import in_vacuum_angstrom
from stellarhml.spectra.statements import Statement
from stellarhml.storage.file_sizes import refuse_claim

_NEEDED = ("labels", "wavelength", "flux")
_TEXTS = ("label_names", "unit", "units", "medium")
_HDF5_ENDS = (".h5", ".hdf5", ".hdf", ".he5")
_AT_ONCE = 1 << 25  # bytes of the flux that are read at once
_FIELD = re.compile(r"\{(\d{0,2})(?::([-+ 0]?\d{0,2}(?:\.\d{1,2})?[fgd]?))?\}")


def is_hdf5_name(path):
    """Whether the name of a file is that of an HDF5 file."""
    return path.suffix.lower() in _HDF5_ENDS


def is_zarr(path):
    """Whether a folder is a group of zarr."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def is_starfish(path):
    """Whether an HDF5 file has the layout of Starfish's grids."""
    with open_hdf5(path) as file:
        return "grid_points" in file or ("pars" in file and "wl" in file)


def array_source(path, labels, *, medium=None, unit=None, resolving_power=None) -> GridSource:
    """Spectra of an npz, HDF5 or zarr file of arrays; `labels` are names of the labels, None where the file has them.

    The other parameters are those of `load_grid`.
    """
    path = Path(path).expanduser()
    opened = _open_npz if path.suffix.lower() == ".npz" else _open_group
    with opened(path) as arrays:
        missing = [name for name in _NEEDED if name not in arrays]
        if missing:
            raise SpectrumFileError(
                f"{path} has the arrays {', '.join(arrays) or 'none'}, but {', '.join(_NEEDED)} are needed. Rename "
                "them."
            )
        table, values = (_whole(arrays[name], name, path) for name in ("labels", "wavelength"))
        shape, dtype = arrays["flux"].shape, arrays["flux"].dtype
        texts = {name: arrays.text(name) for name in _TEXTS}
        files = arrays.files
        mapped = arrays.mapped("flux")
    _check_shapes(path, table, values, shape, dtype)
    names = _label_names(path, labels, texts["label_names"], table.shape[1])
    require_one_of_each(table, names, [f"{path}, spectrum {row}" for row in range(len(table))])
    stated = texts["medium"]
    wavelength, order = increasing(
        in_vacuum_angstrom(
            values,
            path,
            "the array wavelength",
            unit=unit,
            stated_unit=texts["unit"] or texts["units"],
            medium=medium,
            headers=[] if stated is None else [{"MEDIUM": str(stated)}],
        ),
        path,
    )

    def read(rows, pixels):
        with opened(path) as arrays:
            for row in arrays.rows("flux", rows):
                yield None, row[order][pixels]

    return GridSource(
        labels=table,
        label_names=names,
        wavelength=wavelength,
        read=read,
        names=[describe_row(path, row, node, names) for row, node in enumerate(table)],
        files=files,
        origin=str(path),
        description=f"{{n}} spectra of {path}. Fluxes as in the file.",
        resolving_power=resolving_power,
        mapped=None if mapped is None or order.step else mapped,
    )


def starfish_source(path, labels, *, medium=None, unit=None, resolving_power=None) -> GridSource:
    """Spectra of an HDF5 grid of Starfish: `wl`, `grid_points` and a data set of each spectrum in the group `flux`.

    Reference: `HDF5Creator` and `HDF5Interface` of Starfish.grid_tools (Czekala et al. 2015). `labels` are names of the
    labels, None for those of the file. The other parameters are those of `load_grid`.
    """
    path = Path(path).expanduser()
    with open_hdf5(path) as file:
        points = file.get("grid_points", file.get("pars"))
        wl, group = file.get("wl"), file.get("flux")
        if points is None or wl is None or group is None or not hasattr(group, "keys"):
            raise SpectrumFileError(
                f"{path} has {', '.join(file)}, but wl, grid_points and the group flux of Starfish are needed. Make it "
                "again with Starfish's HDF5Creator."
            )
        table, values = (_whole(part, part.name, path) for part in (points, wl))
        table = np.atleast_2d(np.asarray(table, dtype=np.float64))
        own, key_name = points.attrs.get("names"), group.attrs.get("key_name")
        air, stated_unit = wl.attrs.get("air"), _text(wl.attrs.get("units"))
        keys = _keys(path, _text(key_name), table, group)
    names = _label_names(path, labels, None if own is None else [_text(name) for name in own], table.shape[1])
    names = tuple({"T": "teff", "Z": "feh"}.get(name, name) for name in names) if labels is None else names
    require_one_of_each(table, names, [f"{path}, {key}" for key in keys])
    statements = [] if air is None else [Statement("air" if bool(air) else "vacuum", f"air = {bool(air)} of wl")]
    wavelength, order = increasing(
        in_vacuum_angstrom(
            values, path, "the data set wl", unit=unit, stated_unit=stated_unit, medium=medium, statements=statements
        ),
        path,
    )

    def read(rows, pixels):
        with open_hdf5(path) as file:
            for row in rows:
                yield None, np.asarray(file["flux"][keys[row]][...])[order][pixels]

    return GridSource(
        labels=table,
        label_names=names,
        wavelength=wavelength,
        read=read,
        names=[f"{path}, {key}" for key in keys],
        files=[path],
        origin=str(path),
        description=f"{{n}} spectra of Starfish's grid {path}. Fluxes as in the file.",
        resolving_power=resolving_power,
    )


@contextmanager
def open_hdf5(path):
    """Open an HDF5 file for reading; damage of any kind is a SpectrumFileError that names the file."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f'load_grid needs the package h5py for {path}. Install it with: pip install "stellarhml[hdf5]"'
        ) from error
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Pass the HDF5 file of the grid.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise SpectrumFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as an HDF5 grid ({error}); it is damaged or "
            "truncated. Copy it again."
        ) from error


class _Group:
    """Arrays of an open group of HDF5 or zarr."""

    def __init__(self, group, files):
        self._group, self.files = group, files
        self._names = [name for name in group if hasattr(group[name], "shape")]

    def __iter__(self):
        return iter(self._names)

    def __contains__(self, name):
        return name in self._names

    def __getitem__(self, name):
        return self._group[name]

    def text(self, name):
        """Text, or list of texts, of an attribute or an array; None if there is none."""
        places = [self._group.attrs, *([self._group["wavelength"].attrs] if "wavelength" in self else [])]
        value = next((place[name] for place in places if name in place), None)
        if value is None and name in self:
            value = np.asarray(self._group[name][...])
        return _texts(value)

    def mapped(self, name):
        """None: the array is not on the disk as it stands."""
        return

    def rows(self, name, numbers):
        """Yield rows of an array, reading a block of them at once as it is stored."""
        part = self._group[name]
        chunk = 1 if not part.chunks else part.chunks[0]
        n_most = max(_AT_ONCE // max(part.dtype.itemsize * part.shape[1], 1), 1)
        n_block, first, block = min(chunk, n_most), -1, None
        for number in numbers:
            if number // n_block != first:
                first = number // n_block
                block = np.asarray(part[first * n_block : (first + 1) * n_block])
            yield block[number - first * n_block]


class _Npz:
    """Arrays of an open npz file."""

    def __init__(self, archive, path):
        self._zip, self._path, self.files = archive, path, [path]
        self._names = [name.removesuffix(".npy") for name in archive.namelist()]

    def __iter__(self):
        return iter(self._names)

    def __contains__(self, name):
        return name in self._names

    def __getitem__(self, name):
        return _Member(self._zip, f"{name}.npy", self._path)

    def text(self, name):
        """Text, or list of texts, of an array; None if there is none."""
        return _texts(self[name][...]) if name in self else None

    def mapped(self, name):
        """The array as a memory map, None if it is compressed or its rows are not together."""
        return self[name].mapped()

    def rows(self, name, numbers):
        """Yield rows of an array; in a compressed one each step back costs another pass through it."""
        member = self[name]
        array = member.mapped()
        yield from member.unpacked(numbers) if array is None else (np.array(array[number]) for number in numbers)


class _Member:
    """An array of an npz file, by its header."""

    def __init__(self, archive, member, path):
        self._zip, self._info, self._path = archive, archive.getinfo(member), path
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, self._fortran, self.dtype = read(file)
            self._start = file.tell()
        claimed = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        if self.dtype.hasobject or claimed != self._info.file_size - self._start:
            raise ValueError(f"{member} of shape {self.shape} and type {self.dtype} does not suit its size")

    def __getitem__(self, everything):
        with self._zip.open(self._info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def mapped(self):
        """Memory map of the array, or None."""
        if self._info.compress_type != zipfile.ZIP_STORED or len(self.shape) != 2:
            return None
        with open(self._path, "rb") as file:
            file.seek(self._info.header_offset)
            head = file.read(30)
        if head[:4] != b"PK\x03\x04":
            raise ValueError("the directory of the archive does not suit its content")
        extra = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        offset = self._info.header_offset + 30 + extra + self._start
        order = "F" if self._fortran else "C"
        return np.memmap(self._path, self.dtype, "r", offset=offset, shape=self.shape, order=order)

    def unpacked(self, numbers):
        """Yield rows of a compressed array."""
        if self._fortran:
            raise ValueError(
                "its flux is compressed column by column: write it with np.savez(..., flux=np.ascontiguousarray(flux))"
            )
        size, file, at = self.dtype.itemsize * self.shape[1], None, 0
        try:
            for number in numbers:
                if file is None or number < at:
                    if file is not None:
                        file.close()
                    file, at = self._zip.open(self._info), 0
                    file.read(self._start)
                while at < number:  # skipped
                    file.read(size)
                    at += 1
                yield np.frombuffer(file.read(size), self.dtype)
                at += 1
        finally:
            if file is not None:
                file.close()


@contextmanager
def _open_npz(path):
    """Open an npz file; damage is a SpectrumFileError that names the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield _Npz(archive, path)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError) as error:
        if isinstance(error, SpectrumFileError):
            raise
        raise SpectrumFileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as an npz file ({error}); it is damaged, truncated, "
            "or holds no plain numbers. Copy or write it again."
        ) from error


@contextmanager
def _open_group(path):
    """Open a group of HDF5 or zarr."""
    if not is_zarr(path):
        with open_hdf5(path) as file:
            yield _Group(file, [path])
        return
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f'load_grid needs the package zarr for {path}. Install it with: pip install "stellarhml[zarr]"'
        ) from error
    try:
        group = zarr.open_group(str(path), mode="r")
        yield _Group(group, sorted(part for part in path.rglob("*") if part.is_file()))
    except (OSError, RuntimeError, KeyError, zlib.error) as error:
        raise SpectrumFileError(
            f"{path} cannot be read as a zarr group ({error}); a file of it is damaged or missing. Copy it again."
        ) from error


def _whole(array, name, path):
    """An array in memory; SpectrumFileError if it is too large."""
    refuse_claim(path, int(np.prod(array.shape, dtype=object)) * 8, f"its array {name}")
    return np.asarray(array[...])


def _check_shapes(path, table, values, shape, dtype):
    """Raise SpectrumFileError if arrays of a grid do not suit each other."""
    kinds = (table.dtype.kind, values.dtype.kind, np.dtype(dtype).kind)
    suits = table.ndim == 2 and values.ndim == 1 and tuple(shape) == (len(table), values.size) and len(table) > 0
    if not suits or not set(kinds) <= set("fiu"):
        raise SpectrumFileError(
            f"{path} has labels {table.shape}, wavelength {values.shape} and flux {tuple(shape)}, of the types "
            f"{table.dtype}, {values.dtype} and {dtype}; real numbers of the shapes (n_spectra, n_labels), (n_pixels,) "
            "and (n_spectra, n_pixels) are needed. Write them anew."
        )
    if not np.all(np.isfinite(table)):
        raise SpectrumFileError(f"{path} has labels that are not finite. Leave these spectra out.")


def _label_names(path, names, own, n_labels):
    """Names of the labels, stated by the caller or the file."""
    if hasattr(names, "items"):
        raise ValueError(
            f"`labels` is {names!r}, but the labels of {path} are columns of an array: their names in this order are "
            "needed, on the command line --labels teff,logg,feh."
        )
    own = [own] if isinstance(own, str) else own
    found = own if names is None else names
    if found is None:
        raise SpectrumFileError(
            f"{path} does not name its {n_labels} labels, and their order is not guessed. State `labels` (--labels "
            "teff,logg,feh), or write an array label_names."
        )
    found = tuple(str(name) for name in found)
    if len(found) != n_labels or len(set(found)) < n_labels:
        raise SpectrumFileError(
            f"{path} has {n_labels} labels, but the names are {', '.join(found)}. One distinct name for each is "
            "needed: state `labels` (--labels)."
        )
    if names is not None and own is not None and found != tuple(map(str, own)):
        raise SpectrumFileError(
            f"`labels` is {', '.join(found)}, but {path} names its labels {', '.join(map(str, own))}. Leave `labels` "
            "(--labels) out."
        )
    return found


def _keys(path, key_name, table, group):
    """Name of the data set of each spectrum of Starfish."""
    if not key_name or _FIELD.sub("", key_name).count("{") or "}" in _FIELD.sub("", key_name):
        raise SpectrumFileError(
            f"{path} has key_name = {key_name!r} at the group flux, but a pattern such as 't{{0:.0f}}g{{1:.1f}}' is "
            "needed. Make the grid again with Starfish's HDF5Creator."
        )
    try:
        keys = [key_name.format(*map(float, node)) for node in table]
    except (IndexError, ValueError) as error:
        raise SpectrumFileError(
            f"{path} has key_name = {key_name!r}, which does not suit {table.shape[1]} labels ({error}). Make the grid "
            "again with Starfish's HDF5Creator."
        ) from error
    absent = [key for key in keys if key not in group]
    if absent:
        raise SpectrumFileError(
            f"{path} lists {len(keys)} nodes, but {len(absent)} of them have no flux, first {absent[0]}: the file is "
            "not complete. Make the grid again, or copy it again."
        )
    return keys


def _texts(value):
    """Text, or a list of texts, of an attribute or an array; None if there is none."""
    if value is None or isinstance(value, str):
        return value
    parts = [_text(part) for part in np.atleast_1d(np.asarray(value, dtype=object)).ravel()]
    return parts[0] if np.ndim(value) == 0 else parts


def _text(value):
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if value is None else str(value)
