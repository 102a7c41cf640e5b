"""Decomposition by the default settings: the kernel, full-band nodes, and real PHOENIX spectra.

Run: python benchmarks/decompose.py [--parts kernel nodes hband]

kernel: loss and gradient of 5,000 lines x 6,000 pixels on 300,000 pixels, float64, one thread: on every pixel, with far
    wings on cells (the default), the same in two threads, and with adaptive wings; blase takes 13.7-15.1 s for the same
    epoch with two threads (DESIGN.md).
nodes: clone RMS and seconds of five full-band SME nodes, continuum-normalised, lines only, one core; the paper's
    settings give 0.0096.
hband: clone RMS of real PHOENIX spectra at 3000, 4000 and 5200 K, R 45,000; 300 epochs of Adam give 0.015, 0.008,
    0.005.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from shared import finish, load_tool, peak_memory_mb

from stellarhml import PhoenixPreprocessor, VoigtLineDecomposer
from stellarhml.exceptions import StellarHMLWarning
from stellarhml.kernels.autograd import line_product
from stellarhml.kernels.line_profiles import get_profile
from stellarhml.kernels.rendering import line_components, line_windows

BLASE_EPOCH_S = 14.0
PAPER_RMS = 0.0096
HBAND_RMS = {3000: 0.015, 4000: 0.008, 5200: 0.005}


def kernel(n_repeats=9):
    rng = np.random.default_rng(0)
    wavelength = 8038 + 0.016 * np.arange(300_000)
    centers = np.sort(rng.uniform(wavelength[0] + 50, wavelength[-1] - 50, 5000))
    theta = np.stack([centers, rng.normal(-4, 1, 5000), rng.normal(-3, 0.3, 5000), rng.normal(-3, 0.3, 5000)], axis=1)
    target = torch.ones(wavelength.size, dtype=torch.float64)
    profile = get_profile("pseudo-voigt")
    out, gradients = {}, {}
    for name, wing_cut, how in (
        ("every pixel", 6000, {"every_pixel": True}),
        ("cells", 6000, {}),
        ("cells, two threads", 6000, {"n_threads": 2}),
        ("adaptive", None, {}),
    ):
        before = peak_memory_mb()
        start, stop = line_windows(wavelength, line_components(theta, "pseudo-voigt"), wing_cut)
        seconds = []
        for _ in range(n_repeats):
            begin = time.perf_counter()
            parameters = torch.tensor(theta, requires_grad=True)
            model = line_product(wavelength, profile.components(parameters), start, stop, profile.form, **how)
            loss = torch.nn.functional.mse_loss(model, target)
            loss.backward()
            seconds.append(time.perf_counter() - begin)
        gradients[name] = parameters.grad.numpy()
        scale = np.abs(gradients["every pixel"]).max(axis=1, keepdims=True)
        out[name] = {
            "seconds": float(np.median(seconds)),
            "ratio_to_blase": float(np.median(seconds)) / BLASE_EPOCH_S,
            "loss": loss.item(),
            "relative_loss_difference": abs(loss.item() / out["every pixel"]["loss"] - 1) if out else 0.0,
            "relative_gradient_difference": float(np.max(np.abs(gradients[name] - gradients["every pixel"]) / scale)),
            "memory_mb": peak_memory_mb() - before,
        }
        print(f"kernel, {name}: {out[name]}")
    return out


def nodes():
    data = load_tool("shared_data").sme_hpf_grid(normalised=True)
    wanted = [(5000, 4.5, 0), (5200, 4, -0.5), (5500, 4.5, 0), (5800, 5, 0), (6000, 4, -0.5)]
    rows = [int(np.flatnonzero(np.all(data["labels"] == label, axis=1))[0]) for label in wanted]
    flux, wavelength = data["flux"][rows].astype(np.float64), data["wavelength"]
    del data
    out = []
    for label, row in zip(wanted, flux, strict=True):
        decomposer = VoigtLineDecomposer(wavelength=wavelength)
        begin = time.perf_counter()
        theta = decomposer.fit_transform(row[None])
        seconds = time.perf_counter() - begin
        rms = float(np.sqrt(np.mean((decomposer.inverse_transform(theta)[0] - row) ** 2)))
        out.append({"label": label, "rms": rms, "lines": len(decomposer.line_catalog_), "seconds": seconds})
        print(
            f"node {label}: RMS {rms:.5f} ({rms / PAPER_RMS:.2f} of the paper's), "
            f"{out[-1]['lines']} lines, {seconds:.1f} s"
        )
    return out


def hband():
    data = load_tool("shared_data").phoenix_hband()
    out = []
    for teff, reference in HBAND_RMS.items():
        row = np.flatnonzero(np.all(data["labels"] == [teff, 3.5, 0], axis=1))
        flux = data["flux"][row].astype(np.float64)
        preprocessor = PhoenixPreprocessor(wavelength=data["wavelength"])
        flux = preprocessor.fit_transform(flux, teff=[teff])
        decomposer = VoigtLineDecomposer(wavelength=data["wavelength"])
        begin = time.perf_counter()
        theta = decomposer.fit_transform(flux)
        seconds = time.perf_counter() - begin
        rms = float(np.sqrt(np.mean((decomposer.inverse_transform(theta) - flux) ** 2)))
        lines = len(decomposer.line_catalog_)
        out.append({"teff": teff, "rms": rms, "ratio": rms / reference, "lines": lines, "seconds": seconds})
        print(f"H band, {teff} K: RMS {rms:.5f} ({rms / reference:.2f} of Adam's), {lines} lines, {seconds:.1f} s")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"kernel": kernel, "nodes": nodes, "hband": hband}
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", StellarHMLWarning)
    kernel(1)  # compiles
    finish(benchmark="decompose", **{name: parts[name]() for name in args.parts})


if __name__ == "__main__":
    main()
