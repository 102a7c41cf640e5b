"""A grid from 3500 to 12000 K: part `wide` of scale.py."""

import numpy as np
from shared import load_tool

from stellarhml import BayesianStellarRegressor, LineManifoldInterpolator, SpectrumGenerator, VoigtLineDecomposer, save
from stellarhml import load as load_generator
from stellarhml.inference import results_table
from stellarhml.manifold.lattice import LatticeWeights
from stellarhml.synthesis.decomposed_grid import decompose_grid

RANGES = (3500, 5000), (5000, 7000), (7000, 12000)  # K
POWER, SNR, BAND, SEEDS = 50_000, 100, (8450.0, 8848.0), 3


def read(which, every):
    """Wavelength, labels and flux of the grid, or of the spectra between its nodes."""
    found = getattr(load_tool("shared_data"), which)()
    return found["wavelength"][::every], found["labels"], found["flux"][:, ::every]


def generators(args):
    """Generators of all nodes, and of those with [Fe/H] of -0.5 and 0; fitted once."""
    paths = [args.folder / f"wide_{name}_{args.every}.asdf" for name in ("all", "two")]
    if not all(path.is_file() for path in paths):
        wavelength, labels, flux = read("wide_grid", args.every)
        decomposer = VoigtLineDecomposer(n_jobs=args.jobs, store=args.folder / f"wide_store_{args.every}")
        generator = SpectrumGenerator(wavelength=wavelength, decomposer=decomposer, n_jobs=args.jobs)
        with decompose_grid(generator, labels, flux) as decomposed:
            for path, rows in zip(paths, (slice(None), labels[:, 2] > -0.75), strict=True):
                save(decomposed.fit(rows), path)
    return [load_generator(path) for path in paths]


def by_range(teff, values, summarise=np.median):
    """Summary of the values of the stars in each range of temperatures."""
    return [float(summarise(values[(teff >= low) & (teff < high)])) for low, high in RANGES]


def between_the_nodes(args, generator):
    """RMS of flux at 24 spectra between the nodes: medians in the ranges, and the largest."""
    _, nodes, flux = read("wide_grid", args.every)
    _, labels, truth = read("wide_offgrid", args.every)
    interpolator = generator.interpolator_
    spectra = {
        "generator": generator.predict(labels),
        "lines alone": np.stack([generator.lines_.render(interpolator.locate(x[None])[0]) for x in labels]),
        "pixels, linear": LatticeWeights(nodes, smooth=False).weights(labels)[0] @ flux,
        "pixels, cubic": LineManifoldInterpolator(variables={}).fit(nodes, flux).predict(labels),
    }
    figures = {}
    print(
        f"{generator.interpolator_.table_.n_lines} lines, {interpolator.table_.nbytes / 1e6:.1f} MB of lines, ", end=""
    )
    print(f"{generator.residual_.nbytes / 1e6:.1f} MB of residuals of rank {generator.residual_.rank}")
    print("24 spectra between the nodes, RMS of flux: medians of 3500-5000, 5000-7000, 7000-12000 K; largest")
    for name, flux in spectra.items():
        rms = np.sqrt(np.mean((flux - truth) ** 2, axis=1))
        figures[name] = by_range(labels[:, 0], rms), float(rms.max())
        print(f"{name:>15} " + " ".join(f"{value:.5f}" for value in figures[name][0]) + f"; {rms.max():.5f}")
    ratio = np.array(figures["generator"][0]) / figures["pixels, cubic"][0]
    print("generator over cubic pixels: " + " ".join(f"{value:.2f}" for value in ratio))
    return figures | {"generator_over_cubic": ratio.tolist()}


def mock_stars(args, generator):
    """Labels of mock stars at S/N 100, from spectra between the nodes that are inside [Fe/H] of -0.5 to 0."""
    stars, mock = load_tool("shared_data").wide_offgrid(), load_tool("mock_observation")
    pixels, spectra, truth = np.arange(*BAND, BAND[0] / POWER / 2.5), [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng(1000 + seed)
        for i, (labels, flux) in enumerate(zip(stars["labels"], stars["flux"], strict=True)):
            star = {"rv": rng.uniform(-20, 20), "vsini": rng.uniform(2, 10), "resolving_power": POWER, "snr": SNR}
            if labels[2] < -0.5:
                continue
            seen = mock.observe(stars["wavelength"], flux, pixels[None], **star, seed=1000 * seed + i)
            spectra.append((pixels, seen[0][0], seen[1][0]))
            truth.append(labels)
    regressor = BayesianStellarRegressor.from_generator(generator, n_jobs=args.jobs)
    results = regressor.infer_many(spectra, resolving_power=POWER)
    truth, names = np.array(truth), generator.label_names_
    found = np.array([[result.values[name] for name in names] for result in results])
    std = np.array([[result.errors[name] for name in names] for result in results])
    teff, miss = truth[:, 0], np.abs(found - truth)
    figures = {"n_stars": len(truth), "flags": results_table(results)["flags"].value_counts().to_dict()}
    print(f"{len(truth)} mock stars: mean absolute errors by range, RMS of error over quoted error, in 68 % intervals")
    for k, name in enumerate(names):
        ratio = miss[:, k] / std[:, k]
        parts = by_range(teff, miss[:, k], np.mean), by_range(teff, ratio, lambda r: np.sqrt(np.mean(r**2)))
        inside = float(np.mean(ratio < 1))
        figures[name] = {"error": parts[0], "over_quoted": parts[1], "inside_68": inside}
        print(f"{name:>6} {np.array2string(np.array(parts[0]), precision=4)} ", end="")
        print(f"{np.array2string(np.array(parts[1]), precision=2)} {inside:.0%}")
    return figures


def wide(args):
    """Spectra between the nodes of a wide grid, and labels of mock stars."""
    whole, two = generators(args)
    return {"between": between_the_nodes(args, whole), "mock": mock_stars(args, two)}
