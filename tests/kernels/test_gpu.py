"""The operations of a GPU against the compiled kernels of the CPU: plain torch, and Triton where it can run."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from stellarhml.exceptions import DeviceNotFoundError
from stellarhml.kernels import forms, fused, gpu
from stellarhml.kernels.autograd import line_product
from stellarhml.kernels.line_profiles import PROFILES, get_profile
from stellarhml.kernels.rendering import line_components, line_windows, render_lines
from stellarhml.kernels.training import train_adam, train_adam_batch

LAM = 8500 + 0.02 * np.arange(700)
FORMS = [forms.THIN, forms.EXPONENTIAL, forms.MINNAERT]
# Of each component's largest: rounding of 40 factors and of sums over 700 pixels; a gradient divides by factors 1 - v,
# which keep the rounding of 1, and the smallest that a pixel shows are of 1e-3.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])]
BACKENDS = [
    ("cpu", "torch"),
    pytest.param(("cuda", "torch"), marks=[pytest.mark.gpu, needs_cuda]),
    pytest.param(("cuda", "triton"), marks=[pytest.mark.gpu, needs_cuda]),
]

# What a process with TRITON_INTERPRET=1 runs: the problems of a file through Triton's interpreter, results to another.
INTERPRETED = """
import sys
import numpy as np
import torch
from stellarhml.kernels import gpu, gpu_triton

gpu.PIECE, gpu_triton.PIXELS_AT_ONCE = 300, 256
data = np.load(sys.argv[1])
where = {"device": "cpu", "backend": "triton", "block": 256}
windows = [data[key] for key in ("wavelength", "start", "stop")]
out = {}
for form in range(3):
    components, weight = (torch.tensor(data[f"{key}{form}"]) for key in ("components", "weight"))
    for dtype in (torch.float64, torch.float32)[: 1 if form else 2]:
        layout = gpu.lay_out(*windows, spectrum=data["spectrum"], n_spectra=4, dtype=dtype, **where)
        out[f"flux{form}{dtype}"] = gpu.render(layout, components, form).numpy()
        out[f"grad{form}{dtype}"] = gpu.gradient(layout, components, weight, form).numpy()
single = gpu.lay_out(*(w[:0] if i else w for i, w in enumerate(windows)), **where)
out["no_lines"] = gpu.render(single, torch.empty((0, 6)), 0).numpy()
out["no_grad"] = gpu.gradient(single, torch.empty((0, 6)), torch.ones(700), 0).numpy()
np.savez(sys.argv[2], **out)
"""

# What another process runs: Triton's compiler, without a GPU, to machine code of an H100; the interpreter skips that.
COMPILED = """
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from stellarhml.kernels import gpu_triton

integers = {"n_pixels": "i32", "n_blocks": "i32", "block_offset": "*i64", "piece_offset": "*i64"}
integers |= dict.fromkeys("start stop spectrum block_line piece_line piece_start piece_stop".split(), "*i32")
for kernel, form in [*((k, f) for k in ("_render", "_gradient") for f in range(3)), ("_sum_pieces", 0)]:
    fixed = {"FORM": form, "DTYPE": tl.float64, "BLOCK": 256, "GROUP": 8}
    function = getattr(gpu_triton, kernel)
    signature = {name: "constexpr" if name in fixed else integers.get(name, "*fp64") for name in function.arg_names}
    fixed = {(k,): fixed[name] for k, name in enumerate(function.arg_names) if name in fixed}
    assert compile(ASTSource(function, signature, fixed), target=GPUTarget("cuda", 90, 32)).asm["cubin"]
"""


def make_components(form, seed=0, n_lines=40):
    """Overlapping, saturated, broad, narrow lines and some at or over the ends; windows of all kinds."""
    rng = np.random.default_rng(seed)
    width = np.exp(rng.uniform(np.log(0.02), np.log(0.2), (2, n_lines)))
    center = rng.uniform(LAM[0], LAM[-1], n_lines)
    depth = rng.uniform(0.3, 0.95, n_lines) * (form != forms.THIN)
    components = np.stack(
        [center, rng.uniform(0, 0.3, n_lines), width[0], rng.uniform(0, 0.5, n_lines), width[1], depth]
    )
    components = np.ascontiguousarray(components.T)
    components[0, :4] = LAM[100] + 0.003, 2.0, 0.1, 3.0  # saturated: the thin form is clamped
    components[1, 0] = components[0, 0] + 0.01  # on top of it
    components[2, 2], components[2, 4] = 2.0, 5.0  # broad
    components[3, 2], components[3, 4] = 0.002, 0.001  # narrower than a pixel
    components[4:8, 0] = LAM[0], LAM[-1], LAM[0] - 0.5, LAM[-1] + 0.5
    half = rng.integers(20, 400, n_lines)
    middle = np.searchsorted(LAM, components[:, 0])
    start, stop = np.clip(middle - half, 0, len(LAM)), np.clip(middle + half, 0, len(LAM))
    start[:3], stop[:3] = 0, len(LAM)
    start[8:11], stop[8:11] = 50, [50, 51, 49]  # empty, a pixel, and upside down
    return components, start, stop


def on_cpu(components, start, stop, weight, form):
    """Flux, and gradient by the compiled kernels for a loss whose derivative times flux is `weight`."""
    stop = np.maximum(start, stop)
    return (
        fused.render(LAM, components, start, stop, form, every_pixel=True),
        fused.gradient(LAM, components, start, stop, weight, form, every_pixel=True),
    )


@pytest.fixture
def every_pixel(monkeypatch):
    """Kernels of the CPU without cells, on every pixel as those of the GPU are."""
    for name in ("render", "gradient"):
        monkeypatch.setattr(fused, name, partial(getattr(fused, name), every_pixel=True))


def assert_close(got, expected, dtype):
    """Equality of fluxes, and of gradients beside the largest of each component."""
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(got[0], expected[0], rtol=0, atol=tolerance)
    scale = np.abs(expected[1]).max(axis=0) + 1e-300
    np.testing.assert_allclose(got[1] / scale, expected[1] / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("where", BACKENDS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("form", FORMS)
def test_one_spectrum_is_that_of_the_compiled_kernels(form, dtype, where, monkeypatch):
    monkeypatch.setattr(gpu, "PIECE", 300)  # windows of several pieces
    components, *windows = make_components(form)
    weight = np.random.default_rng(1).normal(size=len(LAM))
    expected = on_cpu(components, *windows, weight, form)
    layout = gpu.lay_out(LAM, *windows, dtype=dtype, device=where[0], backend=where[1], block=128)
    rows, weight = (torch.tensor(array, device=where[0]) for array in (components, weight))
    flux, grad = gpu.render(layout, rows, form), gpu.gradient(layout, rows, weight, form)
    assert flux.dtype == grad.dtype == dtype
    assert_close((flux.cpu().numpy(), grad.cpu().numpy()), expected, dtype)
    # fixed order of all sums: the same bits again
    assert torch.equal(gpu.render(layout, rows, form), flux)
    assert torch.equal(gpu.gradient(layout, rows, weight, form), grad)


def batch(form):
    """Lines of four spectra, of which the third has none, in an order that is not that of the spectra."""
    components, start, stop = make_components(form, n_lines=20)
    spectrum = np.array([0, 1, 3])[np.random.default_rng(2).integers(0, 3, len(start))]
    weight = np.random.default_rng(3).normal(size=(4, len(LAM)))
    return components, start, stop, spectrum, weight


def assert_batch_close(got, form, dtype):
    components, start, stop, spectrum, weight = batch(form)
    for k in range(4):
        mine = spectrum == k
        expected = on_cpu(components[mine], start[mine], stop[mine], weight[k], form)
        if mine.any():
            assert_close((got[0][k], got[1][mine]), expected, dtype)
        else:
            np.testing.assert_array_equal(got[0][k], np.ones(len(LAM)))


@pytest.mark.parametrize("where", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_spectra_of_a_batch_are_those_of_each_alone(form, where):
    components, start, stop, spectrum, weight = batch(form)
    options = {"spectrum": spectrum, "n_spectra": 4, "device": where[0], "backend": where[1], "block": 128}
    layout = gpu.lay_out(LAM, start, stop, **options)
    rows, weight = (torch.tensor(array, device=where[0]) for array in (components, weight))
    got = gpu.render(layout, rows, form), gpu.gradient(layout, rows, weight, form)
    assert_batch_close([tensor.cpu().numpy() for tensor in got], form, torch.float64)


def test_triton_in_its_interpreter_is_the_compiled_kernels(tmp_path):
    pytest.importorskip("triton", reason="needs the package triton, which comes with CUDA builds of torch")
    problem = {"wavelength": LAM}
    for form in FORMS:
        problem[f"components{form}"], *windows, spectrum, problem[f"weight{form}"] = batch(form)
        problem.update(start=windows[0], stop=windows[1], spectrum=spectrum)
    np.savez(tmp_path / "in.npz", **problem)
    command = [sys.executable, "-c", INTERPRETED, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("the interpreter of this Triton (3.6, say) does not run with this NumPy (2.4 or later)")
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    for form in FORMS:
        for dtype in list(TOLERANCE)[: 1 if form else 2]:
            assert_batch_close((out[f"flux{form}{dtype}"], out[f"grad{form}{dtype}"]), form, dtype)
    np.testing.assert_array_equal(out["no_lines"], np.ones(len(LAM)))
    assert out["no_grad"].shape == (0, 6)


def test_triton_compiles_for_a_gpu_that_is_not_here(tmp_path):
    pytest.importorskip("triton", reason="needs the package triton, which comes with CUDA builds of torch")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n_spectra", [0, 1, 2])
def test_no_lines_are_the_continuum(n_spectra, device):
    none = [np.empty(0, np.int64)] * n_spectra
    flux = gpu.render_batch(LAM, [np.empty((0, 6))] * n_spectra, none, none, forms.THIN, device=device)
    np.testing.assert_array_equal(flux, np.ones((n_spectra, len(LAM))))


def test_memory_does_not_grow_with_lines_times_pixels():
    n_pixels, n_lines = 300_000, 2000
    start = np.linspace(0, n_pixels - 6000, n_lines).astype(np.int64)
    layout = gpu.lay_out(np.arange(n_pixels, dtype=float), start, start + 6000, device="cpu", block=512)
    held = sum(value.nbytes for value in vars(layout).values() if isinstance(value, torch.Tensor))
    # 8 bytes of a pixel, and of a line 6 words and a word for each of 13 blocks
    assert held < 10 * n_pixels + 150 * n_lines


def make_theta(profile, seed=0):
    rng = np.random.default_rng(seed)
    theta = np.array([[8503.0, -2.5, -2.3, -3.0, 1.0, -3.0], [8506.02, -3.0, -2.0, -2.5, 0.8, -2.5]])
    return (theta + 0.1 * rng.normal(size=theta.shape))[:, : len(get_profile(profile).parameters)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("wing_cut", [None, 300])
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_render_lines_on_a_device(profile, wing_cut, device, every_pixel):
    options = {"theta": make_theta(profile), "profile": profile, "wing_cut": wing_cut}
    # products of two factors
    np.testing.assert_allclose(render_lines(LAM, device=device, **options), render_lines(LAM, **options), rtol=1e-13)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_flow_to_parameters_through_a_layout(device, every_pixel):
    profile, theta = get_profile("minnaert"), make_theta("minnaert")
    windows = line_windows(LAM, line_components(theta, "minnaert"), None)
    gradients = []
    for where in (None, device):
        layout = where and gpu.lay_out(LAM, *windows, device=where)
        parameters = torch.tensor(theta, device=where, requires_grad=True)
        flux = line_product(LAM, profile.components(parameters), *windows, profile.form, layout=layout)
        (flux**2).sum().backward()
        gradients.append(parameters.grad.cpu().numpy())
    # sums over 700 pixels
    np.testing.assert_allclose(*gradients, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("profile", "wing_cut"), [("blase", 300), ("minnaert", None)])
def test_training_on_a_device_takes_the_steps_of_the_cpu(profile, wing_cut, device, every_pixel):
    begin = [make_theta(profile, 1), make_theta(profile, 2)[:1], make_theta(profile, 3)]
    flux = np.stack([render_lines(LAM, make_theta(profile), profile=profile, wing_cut=wing_cut)] * 3)
    options = {
        "profile": profile,
        "wing_cut": wing_cut,
        "pixels": slice(10, 680),
        "learning_rate": 0.05,
        "max_iter": 15,
    }
    expected = [train_adam(LAM, row, theta, **options) for row, theta in zip(flux, begin, strict=True)]
    together = train_adam_batch(LAM, flux, begin, device=device, **options)
    together[1] = train_adam(LAM, flux[1], begin[1], device=device, **options)
    for got, alone in zip(together, expected, strict=True):
        # Adam divides by the size of the gradient, so that gradients equal to 1e-10 give steps equal to about that
        np.testing.assert_allclose(got, alone, rtol=0, atol=1e-8)


@pytest.mark.gpu
@needs_cuda
def test_components_on_the_gpu_are_rendered_there():
    components, start, stop = make_components(forms.THIN)
    rows = torch.tensor(components, device="cuda", requires_grad=True)
    flux = line_product(LAM, rows, start, stop, forms.THIN)
    assert flux.is_cuda
    flux.sum().backward()
    expected = fused.render(LAM, components, start, np.maximum(start, stop), forms.THIN, every_pixel=True)
    np.testing.assert_allclose(flux.detach().cpu().numpy(), expected, rtol=0, atol=1e-12)  # a product of 40 factors
    assert rows.grad.is_cuda


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_error_says_what_to_do():
    with pytest.raises(DeviceNotFoundError, match=r"'cuda' needs a CUDA device.*finds 0.*`device` None"):
        render_lines(LAM, make_theta("blase"), profile="blase", wing_cut=None, device="cuda")


def test_the_cpu_needs_no_triton():
    code = (
        "import sys\n"
        "sys.modules['triton'] = None  # as if it were not installed\n"
        "import numpy as np\n"
        "from stellarhml.kernels.rendering import render_lines\n"
        "theta = np.array([[8503.0, -2.5, -2.3, -3.0]])\n"
        "for device in (None, 'cpu'):\n"
        "    render_lines(8500 + 0.02 * np.arange(700), theta, profile='blase', wing_cut=None, device=device)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
