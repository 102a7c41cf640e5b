"""The operations of `kernels.gpu` in plain torch: for machines without Triton, and to test the layout without a GPU.

Each block of pixels is evaluated densely with the lines that meet it, some lines at a time. Blocks follow one another
in a Python loop and a line meets a block once, so sums have a fixed order on a GPU too.
"""

import torch

from stellarhml.kernels.forms import DEPTH_MAX, EXPONENTIAL, THIN

ELEMENTS = 2**21
"""Lines times pixels in memory at a time: 16 MB for each array of float64."""


def render(layout, components, form):
    """Multiply lines; see `kernels.gpu.render`."""
    flux = torch.ones(layout.flux_shape, dtype=layout.dtype, device=components.device)
    rows = flux.view(-1, len(layout.wavelength))
    for row, pixels, lines in _blocks(layout):
        inside, x, rest = _evaluate(layout, components, pixels, lines)
        factor = _factor(_value(x, rest), rest[:, 4], form)[0]
        rows[row, pixels] *= torch.where(inside, factor, 1).prod(0)
    return flux


def gradient(layout, components, weight, form):
    """Differentiate by components; see `kernels.gpu.gradient`."""
    grad = torch.zeros(components.shape, dtype=layout.dtype, device=components.device)
    rows = weight.view(-1, len(layout.wavelength))
    for row, pixels, lines in _blocks(layout):
        inside, x, rest = _evaluate(layout, components, pixels, lines)
        a_l, g, a_g, s, depth = rest.unbind(1)
        lor, z = 1 / (1 + (x / g) ** 2), x / s
        gau = torch.exp(-0.5 * z**2)
        factor, slope, per_depth = _factor(_value(x, rest), depth, form)
        share = torch.where(inside, rows[row, pixels], 0) / factor
        w = share * slope
        steep, bell = 2 * a_l * lor**2 * (x / g) / g * w, a_g * gau * z / s * w
        parts = (steep + bell, lor * w, steep * (x / g), gau * w, bell * z, share * per_depth)
        grad[lines] += torch.stack([part.sum(1) for part in parts], dim=1)
    return grad


def _blocks(layout):
    """Row, pixels and lines of each piece of work."""
    n_pixels = len(layout.wavelength)
    n_blocks, at_once = -(-n_pixels // layout.block), max(1, ELEMENTS // layout.block)
    offset = layout.block_offset.tolist()
    for k in range(len(offset) - 1):
        row, begin = k // n_blocks, k % n_blocks * layout.block
        for first in range(offset[k], offset[k + 1], at_once):
            lines = layout.block_line[first : min(first + at_once, offset[k + 1])].long()
            yield row, slice(begin, min(begin + layout.block, n_pixels)), lines


def _evaluate(layout, components, pixels, lines):
    """Pixels within each window, distances from each center, and the other components as columns (n_lines, 5, 1)."""
    pixel = torch.arange(pixels.start, pixels.stop, device=components.device)
    inside = (pixel >= layout.start[lines, None]) & (pixel < layout.stop[lines, None])
    # centers of thousands of angstrom leave a float32 no digits for the width of a line: subtract first
    x = (layout.wavelength[pixels] - components[lines, :1]).to(layout.dtype)
    return inside, x, components[lines, 1:, None].to(layout.dtype)


def _value(x, rest):
    a_l, g, a_g, s, _ = rest.unbind(1)
    return a_l / (1 + (x / g) ** 2) + a_g * torch.exp(-0.5 * (x / s) ** 2)


def _factor(v, depth, form):
    """Factor of a line in the product, and its derivatives with respect to v and to the limiting depth."""
    if form == THIN:
        free = v < DEPTH_MAX
        return torch.where(free, 1 - v, 1 - DEPTH_MAX), -free.to(v.dtype), torch.zeros_like(v)
    if form == EXPONENTIAL:
        e = torch.exp(-v)
        return 1 - depth * (1 - e), -depth * e, e - 1
    q = 1 / (1 + v)
    return 1 - depth * v * q, -depth * q * q, -v * q
