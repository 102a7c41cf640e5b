"""Products of lines and their gradients on a GPU: the operations of `kernels.fused`, for one spectrum or many at once.

`lay_out` prepares the windows on the device once, for all calls with the same windows. Rendering runs one program per
block of pixels, which multiplies the lines whose windows overlap it; the gradient runs one program per piece of a
line's window, and then sums over the pieces. Every sum and product has a fixed order, and no two programs write to the
same place: two runs on one device give the same bits.

Memory is linear in pixels plus lines plus 4 bytes for every 512 pixels of a window. Kernels are Triton's where that is
installed (`kernels.gpu_triton`), else plain torch (`kernels.gpu_torch`, on a CPU too, much slower).
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch

from stellarhml.exceptions import DeviceNotFoundError

BLOCK = {"triton": 512, "torch": 4096}
"""Pixels of a block: by one program in Triton; by one call, times its lines, in torch."""
PIECE = 8192
"""Longest piece of a window that one program takes in the gradient: few lines of the paper's width need two."""


@dataclass(frozen=True)
class Layout:
    """Lines of one or more spectra, by blocks of pixels and by pieces of windows; made by `lay_out`."""

    wavelength: torch.Tensor  # (n_pixels,), float64, increasing, in angstrom, the same for all spectra
    start: torch.Tensor  # (n_lines,), int32: window of pixels of each line, [start, stop)
    stop: torch.Tensor
    spectrum: torch.Tensor  # (n_lines,), int32: spectrum of each line
    flux_shape: tuple  # (n_pixels,), or (n_spectra, n_pixels) where `lay_out` got the spectra
    block: int  # pixels of a block
    block_line: torch.Tensor  # (n_pairs,), int32: lines that overlap block 0 of spectrum 0, block 1, ...
    block_offset: torch.Tensor  # (n_spectra * n_blocks + 1,), int64: where in `block_line` each block begins
    piece_line: torch.Tensor  # (n_pieces,), int32: line and pixels of each piece of a window
    piece_start: torch.Tensor
    piece_stop: torch.Tensor
    piece_offset: torch.Tensor  # (n_lines + 1,), int64: where the pieces of each line begin
    dtype: torch.dtype  # in which lines are evaluated, of `render`'s result; distances from centers are float64 before
    backend: str  # "triton" or "torch"


def find_device(device):
    """The torch device of that name, such as "cuda:1"; DeviceNotFoundError if torch does not find a CUDA device."""
    device = torch.device(device)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        raise DeviceNotFoundError(
            f"`device`={str(device)!r} needs a CUDA device, and torch {torch.__version__} finds {found} of them. Leave "
            "`device` None to compute on the CPU, or install a CUDA build of torch and the driver of the card."
        )
    return device


def lay_out(
    wavelength,
    start,
    stop,
    *,
    spectrum=None,
    n_spectra=None,
    device="cuda",
    dtype=torch.float64,
    backend=None,
    block=None,
):
    """Prepare the windows [start, stop) of lines, (n_lines,), on the device, for `render` and `gradient`.

    `spectrum` (n_lines,) is the spectrum of each line, in any order, of `n_spectra`; None: a single spectrum, and no
    axis for it. Lines are evaluated in `dtype`, float64 or float32. `backend` is "triton" or "torch"; None: Triton's on
    CUDA where it is installed. `block` is the pixels of a block, a power of 2 in Triton; None: as in `BLOCK`.
    """
    device = find_device(device)
    if backend is None:
        backend = "triton" if device.type == "cuda" and find_spec("triton") else "torch"
    block = block or BLOCK[backend]
    wavelength = _to_device(wavelength, device, torch.float64)
    n_pixels = len(wavelength)
    # a window outside the spectrum would read foreign memory
    start, stop = (_to_device(edge, device, torch.int64).clamp(0, n_pixels) for edge in (start, stop))
    flux_shape = (n_pixels,) if spectrum is None else (n_spectra, n_pixels)
    spectrum = torch.zeros_like(start) if spectrum is None else _to_device(spectrum, device, torch.int64)
    n_blocks = -(-n_pixels // block)

    first = start // block
    line, within = _repeat(torch.where(stop > start, (stop - 1) // block - first + 1, 0))
    key, order = torch.sort(spectrum[line] * n_blocks + first[line] + within, stable=True)
    block_edge = torch.arange((n_spectra or 1) * n_blocks + 1, device=device)

    piece_line, within = _repeat((stop - start + PIECE - 1).clamp(min=0) // PIECE)
    piece_start = start[piece_line] + within * PIECE
    return Layout(
        wavelength=wavelength,
        start=start.int(),
        stop=stop.int(),
        spectrum=spectrum.int(),
        flux_shape=flux_shape,
        block=block,
        block_line=line[order].int(),
        block_offset=torch.searchsorted(key, block_edge),
        piece_line=piece_line.int(),
        piece_start=piece_start.int(),
        piece_stop=torch.minimum(piece_start + PIECE, stop[piece_line]).int(),
        piece_offset=torch.searchsorted(piece_line, torch.arange(len(start) + 1, device=device)),
        dtype=dtype,
        backend=backend,
    )


def render(layout, components, form):
    """Multiply all lines into their spectra, of shape `layout.flux_shape` and `layout.dtype`; 1 where there is no line.

    `components` (n_lines, 6), float64, and `form` are as in `kernels.fused`, on the device of the layout.
    """
    return _kernels(layout).render(layout, _rows(components), form)


def gradient(layout, components, weight, form):
    """Gradient of a scalar loss with respect to the components of every line, (n_lines, 6), `layout.dtype`.

    `weight`, of shape `layout.flux_shape`, is dloss/dflux times flux, pixel by pixel.
    """
    weight = weight.detach().to(layout.dtype).contiguous()
    return _kernels(layout).gradient(layout, _rows(components), weight, form)


def render_batch(wavelength, components, start, stop, form, *, device="cuda", dtype=torch.float64, backend=None):
    """Render many spectra in one launch, (n_spectra, n_pixels): 1 where there is no line.

    `components` (n_lines_of_spectrum, 6), `start` and `stop` (n_lines_of_spectrum,) are lists, one array for each
    spectrum; the rest as in `lay_out`.
    """
    n_spectra = len(components)
    spectrum = np.repeat(np.arange(n_spectra), [len(rows) for rows in components])
    edges = (np.concatenate([np.empty(0, np.int64), *edge]) for edge in (start, stop))
    where = {"device": device, "dtype": dtype, "backend": backend}
    layout = lay_out(wavelength, *edges, spectrum=spectrum, n_spectra=n_spectra, **where)
    packed = _to_device(np.concatenate([np.empty((0, 6)), *components]), layout.wavelength.device, torch.float64)
    return render(layout, packed, form).cpu().numpy()


def _kernels(layout):
    """Module of the kernels; imported here, since Triton need not be installed."""
    if layout.backend == "triton":
        from stellarhml.kernels import gpu_triton as module
    else:
        from stellarhml.kernels import gpu_torch as module
    return module


def _rows(components):
    return components.detach().to(torch.float64).contiguous()


def _to_device(array, device, dtype):
    """Tensor of an array or tensor; arrays are copied, so that read-only ones do."""
    if not isinstance(array, torch.Tensor):
        array = torch.tensor(np.asarray(array))
    return array.to(device=device, dtype=dtype).contiguous()


def _repeat(counts):
    """Repeat index i counts[i] times; with the number of each repetition."""
    index = torch.repeat_interleave(counts)
    return index, torch.arange(len(index), device=counts.device) - (counts.cumsum(0) - counts)[index]
