"""The operations of `kernels.gpu` as Triton kernels; `kernels.gpu` imports this file where Triton is installed.

With TRITON_INTERPRET=1 in the environment they run in NumPy on a CPU, which is how they are tested without a GPU.
"""

import math

import torch
import triton
import triton.language as tl

from stellarhml.kernels import fused

PIXELS_AT_ONCE = 256
"""Pixels that a program of the gradient takes at a time; a power of 2."""
WARPS = 4
"""Warps of 32 threads of a program."""

_THIN, _EXPONENTIAL = tl.constexpr(fused.THIN), tl.constexpr(fused.EXPONENTIAL)
_FLOOR = tl.constexpr(1 - fused.DEPTH_MAX)  # what the deepest line leaves; DEPTH_MAX itself is 1 in float32
_REACH = tl.constexpr(math.sqrt(80.0))  # |x| / s where exp(-x^2 / 2 s^2) = e^-40
_TYPES = {torch.float64: tl.float64, torch.float32: tl.float32}


def render(layout, components, form):
    """Multiply lines; see `kernels.gpu.render`."""
    flux = torch.empty(layout.flux_shape, dtype=layout.dtype, device=components.device)
    n_pixels, n_programs = len(layout.wavelength), len(layout.block_offset) - 1
    if n_programs:
        with torch.cuda.device_of(components):
            _render[(n_programs,)](
                *(layout.wavelength, components, layout.start, layout.stop, layout.block_line, layout.block_offset),
                *(flux, n_pixels, triton.cdiv(n_pixels, layout.block)),
                FORM=form,
                DTYPE=_TYPES[layout.dtype],
                BLOCK=layout.block,
                num_warps=WARPS,
            )
    return flux


def gradient(layout, components, weight, form):
    """Differentiate by components; see `kernels.gpu.gradient`."""
    n_lines, n_pieces = len(components), len(layout.piece_line)
    grad = torch.zeros(components.shape, dtype=layout.dtype, device=components.device)
    if n_pieces:
        parts = grad.new_empty((n_pieces, 6))
        with torch.cuda.device_of(components):
            _gradient[(n_pieces,)](
                *(layout.wavelength, components, layout.spectrum, weight),
                *(layout.piece_line, layout.piece_start, layout.piece_stop, parts, len(layout.wavelength)),
                FORM=form,
                DTYPE=_TYPES[layout.dtype],
                BLOCK=PIXELS_AT_ONCE,
                num_warps=WARPS,
            )
            _sum_pieces[(n_lines,)](parts, layout.piece_offset, grad, DTYPE=_TYPES[layout.dtype], num_warps=1)
    return grad


@triton.jit
def _render(
    wavelength,
    components,
    start,
    stop,
    block_line,
    block_offset,
    flux,
    n_pixels,
    n_blocks,
    FORM: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One block of pixels of one spectrum: all lines that meet it."""
    program = tl.program_id(0)
    begin = program % n_blocks * BLOCK
    pixel = begin + tl.arange(0, BLOCK)
    # beyond the last pixel the last one is evaluated again, and not stored
    lam = tl.load(wavelength + tl.minimum(pixel, n_pixels - 1))
    lam_first = tl.load(wavelength + begin)
    lam_last = tl.load(wavelength + tl.minimum(begin + BLOCK, n_pixels) - 1)
    product = tl.full((BLOCK,), 1.0, DTYPE)
    for i in range(tl.load(block_offset + program), tl.load(block_offset + program + 1)):
        line = tl.load(block_line + i)
        c, a_l, inv_g, a_g, s, depth = _line(components, line, DTYPE)
        # centers of thousands of angstrom leave a float32 no digits for the width of a line: subtract first
        x = (lam - c).to(DTYPE)
        u = x * inv_g
        v = a_l / (1.0 + u * u)
        if (c + _REACH * s >= lam_first) & (c - _REACH * s <= lam_last):
            z = x * (1.0 / s).to(DTYPE)
            v += a_g * tl.exp(-0.5 * z * z)
        factor, _slope, _per_depth = _factor(v, depth, FORM)
        inside = (pixel >= tl.load(start + line)) & (pixel < tl.load(stop + line))
        product *= tl.where(inside, factor, 1.0)
    tl.store(flux + (program // n_blocks).to(tl.int64) * n_pixels + pixel, product, mask=pixel < n_pixels)


@triton.jit
def _gradient(
    wavelength,
    components,
    spectrum,
    weight,
    piece_line,
    piece_start,
    piece_stop,
    parts,
    n_pixels,
    FORM: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One piece of the window of one line."""
    piece = tl.program_id(0)
    line, stop = tl.load(piece_line + piece), tl.load(piece_stop + piece)
    row = weight + tl.load(spectrum + line).to(tl.int64) * n_pixels
    c, a_l, inv_g, a_g, s, depth = _line(components, line, DTYPE)
    inv_s = (1.0 / s).to(DTYPE)
    sum_c = tl.zeros((BLOCK,), DTYPE)
    sum_al = tl.zeros((BLOCK,), DTYPE)
    sum_g = tl.zeros((BLOCK,), DTYPE)
    sum_ag = tl.zeros((BLOCK,), DTYPE)
    sum_bell = tl.zeros((BLOCK,), DTYPE)
    sum_s = tl.zeros((BLOCK,), DTYPE)
    sum_d = tl.zeros((BLOCK,), DTYPE)
    for begin in range(tl.load(piece_start + piece), stop, BLOCK):
        pixel = begin + tl.arange(0, BLOCK)
        # beyond the window its last pixel is evaluated again, with no weight
        lam = tl.load(wavelength + tl.minimum(pixel, stop - 1))
        share = tl.load(row + pixel, mask=pixel < stop, other=0.0)
        x = (lam - c).to(DTYPE)
        u = x * inv_g
        q = 1.0 + u * u
        core = (c + _REACH * s >= tl.load(wavelength + begin)) & (
            c - _REACH * s <= tl.load(wavelength + tl.minimum(begin + BLOCK, stop) - 1)
        )
        z = x * inv_s
        gau = tl.zeros((BLOCK,), DTYPE)
        if core:
            gau = tl.exp(-0.5 * z * z)
        if FORM == _THIN:
            # one division for 1 / q and for 1 / factor, since divisions are most of the time
            h = q * (1.0 - a_g * gau) - a_l  # q times factor
            r = tl.where(h > _FLOOR * q, 1.0 / (q * h), 0.0)
            lor = r * h
            w = -share * q * q * r
        else:
            lor = 1.0 / q
            factor, slope, per_depth = _factor(a_l * lor + a_g * gau, depth, FORM)
            share = share / factor
            w = share * slope
            sum_d += share * per_depth
        steep = lor * lor * u * w
        sum_al += lor * w
        sum_c += steep
        sum_g += steep * u
        if core:
            gau = gau * w
            sum_ag += gau
            sum_bell += gau * z
            sum_s += gau * z * z
    to = parts + piece * 6
    lorentz, gauss = 2.0 * a_l * inv_g, a_g * inv_s
    tl.store(to, gauss * tl.sum(sum_bell) + lorentz * tl.sum(sum_c))
    tl.store(to + 1, tl.sum(sum_al))
    tl.store(to + 2, lorentz * tl.sum(sum_g))
    tl.store(to + 3, tl.sum(sum_ag))
    tl.store(to + 4, gauss * tl.sum(sum_s))
    tl.store(to + 5, tl.sum(sum_d))


@triton.jit
def _sum_pieces(parts, piece_offset, grad, DTYPE: tl.constexpr):
    """Pieces of one line, in their order."""
    line = tl.program_id(0)
    column = tl.arange(0, 8)  # lengths are powers of 2
    total = tl.zeros((8,), DTYPE)
    for piece in range(tl.load(piece_offset + line), tl.load(piece_offset + line + 1)):
        total += tl.load(parts + piece * 6 + column, mask=column < 6, other=0.0)
    tl.store(grad + line * 6 + column, total, mask=column < 6)


@triton.jit
def _line(components, line, DTYPE: tl.constexpr):
    """Components of a line: center and s stay float64, g is inverted."""
    row = components + line * 6
    c, s = tl.load(row), tl.load(row + 4)
    a_l, a_g, depth = tl.load(row + 1).to(DTYPE), tl.load(row + 3).to(DTYPE), tl.load(row + 5).to(DTYPE)
    return c, a_l, (1.0 / tl.load(row + 2)).to(DTYPE), a_g, s, depth


@triton.jit
def _factor(v, depth, FORM: tl.constexpr):
    """Factor of a line in the product, and its derivatives with respect to v and to the limiting depth."""
    if FORM == _THIN:
        free = 1.0 - v > _FLOOR
        factor, slope, per_depth = tl.where(free, 1.0 - v, _FLOOR), tl.where(free, -1.0, 0.0), 0.0
    elif FORM == _EXPONENTIAL:
        e = tl.exp(-v)
        factor, slope, per_depth = 1.0 - depth * (1.0 - e), -depth * e, e - 1.0
    else:
        q = 1.0 / (1.0 + v)
        factor, slope, per_depth = 1.0 - depth * v * q, -depth * q * q, -v * q
    return factor, slope, per_depth
