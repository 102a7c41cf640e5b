"""The fused kernels as one differentiable torch operation, and the plain torch operation they are tested against."""

import numpy as np
import torch

from stellarhml.kernels import forms, fused, gpu


def line_product(wavelength, components, start, stop, form, *, layout=None, n_threads=1, every_pixel=False):
    """Render lines into a spectrum; gradients flow into `components`.

    Parameters
    ----------
    wavelength : ndarray of shape (n_pixels,), float64
        Increasing wavelengths in angstrom; with components on a GPU, also a tensor, as `start` and `stop`.
    components : tensor of shape (n_lines, 6), float64
        Rows as in `kernels.fused`. On a CUDA device `kernels.gpu` computes them, also in float32, with centers rounded
        to 5e-4 angstrom.
    start, stop : ndarray of shape (n_lines,), int64
        Windows of pixels.
    form : int
        Form of the lines in the product, see `kernels.fused`.
    layout : kernels.gpu.Layout, default=None
        Layout of the windows, to compute it once for many calls; wavelength, start and stop are then ignored. Needed
        for many spectra at once, and for float32.
    n_threads, every_pixel : int, bool
        As in `fused.render`, on the CPU.

    Returns
    -------
    flux : tensor of shape (n_pixels,), float64; or (n_spectra, n_pixels) if `layout` has a batch
        The product of the lines.
    """
    if layout is None and not components.is_cuda:
        return _LineProduct.apply(components, wavelength, start, stop, form, n_threads, every_pixel)
    if layout is None:
        layout = gpu.lay_out(wavelength, start, stop, device=components.device, dtype=components.dtype)
    return _LineProductOnDevice.apply(components, layout, form)


def line_product_reference(wavelength, components, start, stop, form):
    """Evaluate `line_product` in plain torch: n_lines x n_pixels in memory, for tests.

    Parameters
    ----------
    wavelength, components, start, stop, form : ndarray, tensor, ndarray, ndarray, int
        As in `line_product`.

    Returns
    -------
    flux : tensor of shape (n_pixels,), float64
        The product of the lines.
    """
    center, a_l, g, a_g, s, depth = components.T[:, :, None]
    x = torch.tensor(wavelength) - center
    value = a_l / (1 + (x / g) ** 2) + a_g * torch.exp(-0.5 * (x / s) ** 2)
    factor = {
        forms.THIN: lambda: 1 - value.clamp(0, forms.DEPTH_MAX),
        forms.EXPONENTIAL: lambda: 1 - depth * (1 - torch.exp(-value)),
        forms.MINNAERT: lambda: 1 - depth * value / (1 + value),
    }[form]()
    pixel = torch.arange(len(wavelength))
    inside = (pixel >= torch.tensor(start)[:, None]) & (pixel < torch.tensor(stop)[:, None])
    return torch.where(inside, factor, 1.0).prod(0)


class _LineProduct(torch.autograd.Function):
    """Numba kernels behind torch's tape."""

    @staticmethod
    def forward(ctx, components, wavelength, start, stop, form, n_threads, every_pixel):
        array = np.ascontiguousarray(components.detach().numpy())
        ctx.how = {"n_threads": n_threads, "every_pixel": every_pixel}
        flux = fused.render(wavelength, array, start, stop, form, **ctx.how)
        ctx.arrays = (wavelength, array, start, stop, form)
        flux = torch.from_numpy(flux)
        ctx.save_for_backward(flux)  # torch refuses the backward pass if it is overwritten
        return flux

    @staticmethod
    def backward(ctx, grad_flux):
        wavelength, array, start, stop, form = ctx.arrays
        weight = (grad_flux * ctx.saved_tensors[0]).numpy()
        grad = fused.gradient(wavelength, array, start, stop, weight, form, **ctx.how)
        return torch.from_numpy(grad), None, None, None, None, None, None


class _LineProductOnDevice(torch.autograd.Function):
    """Kernels of `kernels.gpu` behind torch's tape."""

    @staticmethod
    def forward(ctx, components, layout, form):
        flux = gpu.render(layout, components, form)
        ctx.layout, ctx.form = layout, form
        ctx.save_for_backward(components, flux)
        return flux

    @staticmethod
    def backward(ctx, grad_flux):
        components, flux = ctx.saved_tensors
        grad = gpu.gradient(ctx.layout, components, grad_flux * flux, ctx.form)
        return grad.to(components.dtype), None, None
