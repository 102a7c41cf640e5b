"""Fit one full-band spectrum with the paper's settings: quality, time and memory of the clone.

Run: python benchmarks/paper_clone.py [--teff 5000 --logg 4.5 --feh 0] [--true-continuum]

The reference is 0.0096 RMS, measured for this project with 4,606 lines on a spectrum of this kind (DESIGN.md); blase
itself takes 14 s and 5 GB an epoch.
"""

import argparse
import time

import numpy as np
from shared import finish, load_tool, peak_memory_mb

from stellarhml import PhoenixPreprocessor, VoigtLineDecomposer
from stellarhml.pipeline import PAPER_SETTINGS

REFERENCE_RMS = 0.0096
BLASE_EPOCH_S = 14.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teff", type=float, default=5000)
    parser.add_argument("--logg", type=float, default=4.5)
    parser.add_argument("--feh", type=float, default=0)
    parser.add_argument("--true-continuum", action="store_true", help="normalise by the continuum of the calculation")
    parser.add_argument("--profile", default="pseudo-voigt", choices=["pseudo-voigt", "blase"])
    args = parser.parse_args()

    data = load_tool("shared_data").sme_hpf_grid(normalised=args.true_continuum)
    wavelength = data["wavelength"]
    row = np.flatnonzero(np.all(data["labels"] == [args.teff, args.logg, args.feh], axis=1))
    flux = data["flux"][row].astype(np.float64)
    del data
    if not args.true_continuum:
        preprocessor = PhoenixPreprocessor(wavelength=wavelength, **PAPER_SETTINGS["preprocessor"])
        flux = preprocessor.fit_transform(flux, teff=[args.teff])
    settings = {**PAPER_SETTINGS["decomposer"], "profile": args.profile}
    decomposer = VoigtLineDecomposer(wavelength=wavelength, **settings)
    decomposer.set_params(max_iter=1).fit(flux).transform(flux)  # compiles the kernels
    decomposer.set_params(max_iter=settings["max_iter"])
    before = peak_memory_mb()
    begin = time.perf_counter()
    theta = decomposer.fit_transform(flux)
    seconds = time.perf_counter() - begin
    margin = settings["loss_margin"]
    inside = (wavelength > wavelength[0] + margin) & (wavelength < wavelength[-1] - margin)
    difference = (decomposer.inverse_transform(theta) - flux)[0, inside]
    rms = float(np.sqrt(np.mean(difference**2)))
    print(f"{settings} on {wavelength.size} pixels, Teff {args.teff:g} K, log g {args.logg:g}, [Fe/H] {args.feh:g}")
    n_lines = len(decomposer.line_catalog_)
    print(f"clone RMS {rms:.5f} ({rms / REFERENCE_RMS:.2f} of the reference), {n_lines} lines, {seconds:.1f} s")
    print(
        f"{BLASE_EPOCH_S * settings['max_iter'] / seconds:.0f} times faster than blase; "
        f"peak memory {peak_memory_mb():.0f} MB"
    )
    finish(
        benchmark="paper_clone",
        rms=rms,
        ratio_to_reference_rms=rms / REFERENCE_RMS,
        n_lines=n_lines,
        seconds=seconds,
        ratio_to_blase_seconds=seconds / (BLASE_EPOCH_S * settings["max_iter"]),
        peak_memory_mb=peak_memory_mb(),
        memory_beyond_data_mb=peak_memory_mb() - before,
    )


if __name__ == "__main__":
    main()
