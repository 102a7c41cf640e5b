"""The operations of `kernels.gpu` as Triton kernels; `kernels.gpu` imports this file where Triton is installed.

With TRITON_INTERPRET=1 in the environment they run in NumPy on a CPU, which is how they are tested without a GPU.
"""

import math

import torch
import triton
import triton.language as tl

from stellarhml.kernels import forms

PIXELS_AT_ONCE = 256
"""Pixels that a program of the gradient takes at a time; a power of 2."""
WARPS = 4
"""Warps of 32 threads of a program."""

_THIN, _EXPONENTIAL = tl.constexpr(forms.THIN), tl.constexpr(forms.EXPONENTIAL)
_FLOOR = tl.constexpr(1 - forms.DEPTH_MAX)  # what the deepest line leaves; DEPTH_MAX itself is 1 in float32
_REACH = tl.constexpr(math.sqrt(80.0))  # |x| / s where exp(-x^2 / 2 s^2) = e^-40
# Lines that share a division in the product. Each brings up to (distance / width)^2, say 10^20, to numerator and
# denominator, and a deepest one 10^-9 to the numerator: eight stay far inside float64, and two may leave float32.
_GROUP = {torch.float64: 8, torch.float32: 1}
_TYPES = {torch.float64: tl.float64, torch.float32: tl.float32}


def render(layout, components, form):
    """Multiply lines; see `kernels.gpu.render`."""
    components = _invert_widths(components)
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
                GROUP=_GROUP[layout.dtype],
                num_warps=WARPS,
                enable_fp_fusion=True,
            )
    return flux


def gradient(layout, components, weight, form):
    """Differentiate by components; see `kernels.gpu.gradient`."""
    n_lines, n_pieces = len(components), len(layout.piece_line)
    components = _invert_widths(components)
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
                enable_fp_fusion=True,
            )
            _sum_pieces[(n_lines,)](
                *(parts, layout.piece_offset, grad),
                DTYPE=_TYPES[layout.dtype],
                num_warps=1,
                enable_fp_fusion=True,
            )
    return grad


def _invert_widths(components):
    components = components.clone()
    components[:, 2::2].reciprocal_()
    return components


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
    GROUP: tl.constexpr,
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
    end = tl.load(block_offset + program + 1)
    for first in range(tl.load(block_offset + program), end, GROUP):
        # a factor is a fraction, and the lines of a group share its division, which is most of the time
        top = tl.full((BLOCK,), 1.0, DTYPE)
        bottom = tl.full((BLOCK,), 1.0, DTYPE)
        for i in range(first, tl.minimum(first + GROUP, end)):
            line = tl.load(block_line + i)
            c, a_l, inv_g, a_g, inv_s, depth = _line(components, line)
            # centers of thousands of angstrom leave a float32 no digits for the width of a line: subtract first
            x = (lam - c).to(DTYPE)
            u = x * inv_g.to(DTYPE)
            gau = tl.zeros((BLOCK,), DTYPE)
            if ((lam_last - c) * inv_s >= -_REACH) & ((lam_first - c) * inv_s <= _REACH):
                z = x * inv_s.to(DTYPE)
                gau = a_g.to(DTYPE) * tl.exp(-0.5 * z * z)
            over, under = _fraction(1.0 + u * u, gau, a_l.to(DTYPE), depth.to(DTYPE), FORM)
            inside = (pixel >= tl.load(start + line)) & (pixel < tl.load(stop + line))
            top *= tl.where(inside, over, 1.0)
            bottom *= tl.where(inside, under, 1.0)
        product *= top / bottom
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
    c, a_l, inv_g, a_g, inv_s, depth = _line(components, line)
    a_l, a_g, depth = a_l.to(DTYPE), a_g.to(DTYPE), depth.to(DTYPE)
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
        u = x * inv_g.to(DTYPE)
        q = 1.0 + u * u
        first = (tl.load(wavelength + begin) - c) * inv_s
        last = (tl.load(wavelength + tl.minimum(begin + BLOCK, stop) - 1) - c) * inv_s
        core = (last >= -_REACH) & (first <= _REACH)
        z = x * inv_s.to(DTYPE)
        gau = tl.zeros((BLOCK,), DTYPE)
        if core:
            gau = tl.exp(-0.5 * z * z)
        if FORM == _THIN:
            # one division for 1 / q and for 1 / factor, as in `_render`; clamped pixels count for nothing
            h = q - a_l - a_g * gau * q  # q times factor
            r = tl.where(h > _FLOOR * q, 1.0 / (q * h), 0.0)
            lor = r * h
            w = -share * q * q * r
        else:
            lor = 1.0 / q
            v = a_l * lor + a_g * gau
            if FORM == _EXPONENTIAL:
                e = tl.exp(-v)
                share = share / (1.0 - depth * (1.0 - e))
                w = -share * depth * e
                sum_d -= share * (1.0 - e)
            else:
                share = share / (1.0 + v * (1.0 - depth))
                w = -share * depth / (1.0 + v)
                sum_d -= share * v
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
    lorentz, gauss = 2.0 * a_l * inv_g.to(DTYPE), a_g * inv_s.to(DTYPE)
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
def _line(components, line):
    """Components of a line, its widths inverted, in float64."""
    row = components + line * 6
    c, a_l, a_g, depth = tl.load(row), tl.load(row + 1), tl.load(row + 3), tl.load(row + 5)
    return c, a_l, tl.load(row + 2), a_g, tl.load(row + 4), depth


@triton.jit
def _fraction(q, gau, a_l, depth, FORM: tl.constexpr):
    """Numerator and denominator of the factor of a line whose value is a_l / q + gau."""
    if FORM == _THIN:
        over, under = tl.maximum(q - a_l - gau * q, _FLOOR * q), q
    elif FORM == _EXPONENTIAL:
        over, under = 1.0 - depth * (1.0 - tl.exp(-(a_l / q + gau))), tl.full(q.shape, 1.0, q.dtype)
    else:
        value = a_l + gau * q  # times q
        over, under = q + value * (1.0 - depth), q + value
    return over, under
