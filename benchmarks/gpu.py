"""The kernels on a GPU against those on the CPU: equality, time, share of the card's limits, batches, training.

Run: python benchmarks/gpu.py [--parts equality speed batch adam] [--sweep]

equality: flux and gradient of every form against the compiled kernels of the CPU on every pixel, largest difference
    over largest value; and whether a second run gives the same bits.
speed: loss and gradient of 5,000 lines x 6,000 pixels on 300,000 pixels, in float64 and float32, against the CPU kernel
    on one thread; "seconds" as called from Python, "seconds_on_card" without its overhead. Shares of what the card can
    do in that, measured here: "flops", operations (of a wing pixel, FLOPS below; a division is one) over those of a
    chain of multiply-adds; "pipe", in float64, instructions (INSTRUCTIONS below; a division is nine) over those of that
    chain; "bytes", each array once, over those of a copy.
batch: spectra a second, 60 of them in one launch, the layout of their windows included and not.
adam: nodes an hour of the paper's training, 100 epochs at 6,000 pixels a line, by spectra at once.
--sweep: times for other sizes of blocks and numbers of warps.

benchmarks/on_a_card.sh runs the tests on a card as well. Without a CUDA device it says so;
`--device cpu --lines 30 --pixels 3000 --width 400` tries the script itself.
"""

import argparse
import sys
import time
import traceback

import numpy as np
import torch
from shared import finish

from stellarhml.kernels import forms, fused, gpu
from stellarhml.kernels.line_profiles import get_profile
from stellarhml.kernels.rendering import line_components, line_windows
from stellarhml.kernels.training import train_adam, train_adam_batch

# Of one pixel in the wing of a line in the thin form, as written in kernels.gpu_triton: +, -, x, /, max and < are one
# each, a multiply-add two. A group of eight lines shares the division of the product. The cores, some per cent of all
# pixels, add the exponentials, which are not counted.
FLOPS = {"render": 9 + 2 / 8, "gradient": 21}
INSTRUCTIONS = {"render": 9 + 10 / 8, "gradient": 27}
PROMISE = 1e-9
BATCH = 60


def make_problem(args, profile="pseudo-voigt", seed=0):
    """Wavelength and random lines like those of an M dwarf of the paper."""
    rng = np.random.default_rng(seed)
    wavelength = 8038 + 0.016 * np.arange(args.pixels)
    n, edge = args.lines, 50 * (wavelength[-1] - wavelength[0]) / 4800
    columns = [np.sort(rng.uniform(wavelength[0] + edge, wavelength[-1] - edge, n)), rng.normal(-4, 1, n)]
    columns += [rng.normal(-3, 0.3, n), rng.normal(-3, 0.3, n), rng.normal(1, 0.5, n), rng.normal(-3, 0.5, n)]
    return wavelength, np.stack(columns[: len(get_profile(profile).parameters)], axis=1)


def seconds(call, device, n_calls=20, n_rounds=5):
    """Median over rounds of the time of a call; on a GPU a round is many calls in a row, so that launches overlap."""
    n_calls = n_calls if device == "cuda" else 1
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    call()  # compiles
    times = []
    for _ in range(n_rounds):
        wait()
        begin = time.perf_counter()
        for _ in range(n_calls):
            call()
        wait()
        times.append((time.perf_counter() - begin) / n_calls)
    return float(np.median(times))


def seconds_on_card(call, n_calls=20):
    """Time of a call without Python's share: replays of a recording of many calls; with it where none can be made."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(n_calls):
                call()
        return seconds(graph.replay, "cuda", n_calls=3) / n_calls
    except RuntimeError as error:
        print(f"not recorded: {error}", flush=True)
        return seconds(call, "cuda")


def backends(args):
    """Backends that work here, the one used by default first."""
    names = ["triton"] if args.device == "cuda" and gpu.find_spec("triton") else []
    return [*names, "torch"]


def equality(args):
    out = {}
    for profile in ("pseudo-voigt", "saturated-voigt", "minnaert"):
        wavelength, theta = make_problem(args, profile)
        components, form = line_components(theta, profile), get_profile(profile).form
        target = 1 + 0.01 * np.random.default_rng(1).normal(size=len(wavelength))
        for name, wing_cut in (("fixed", args.width), ("adaptive", None)):
            windows = line_windows(wavelength, components, wing_cut)
            flux = fused.render(wavelength, components, *windows, form, every_pixel=True)
            weight = 2 * (flux - target) * flux
            grad = fused.gradient(wavelength, components, *windows, weight, form, every_pixel=True)
            rows, share = (torch.tensor(array, device=args.device) for array in (components, weight))
            for backend in backends(args):
                layout = gpu.lay_out(wavelength, *windows, device=args.device, backend=backend)
                first, again = ((gpu.render(layout, rows, form), gpu.gradient(layout, rows, share, form)) for _ in "ab")
                scale = np.abs(grad).max(axis=0) + 1e-300
                figures = {
                    "flux": float(np.abs(first[0].cpu().numpy() - flux).max()),
                    "gradient": float((np.abs(first[1].cpu().numpy() - grad) / scale).max()),
                    "same_bits_again": all(torch.equal(*pair) for pair in zip(first, again, strict=True)),
                }
                out[f"{profile}, {name}, {backend}"] = figures
                print(f"equality, {profile}, {name} wings, {backend}: {figures}", flush=True)
    worst = max(max(figures["flux"], figures["gradient"]) for figures in out.values())
    same = all(figures["same_bits_again"] for figures in out.values())
    if not (worst < PROMISE and same):
        raise AssertionError(f"differences up to {worst:.1e}, promised {PROMISE:.0e}; same bits again: {same}")
    return {"largest": worst, "same_bits_again": same, **out}


def peaks(args, dtype):
    """Operations and bytes a second that the card reaches, or None where that cannot be measured."""
    if args.device != "cuda":
        return {"flops": None, "bytes": None}
    source = torch.ones(2**28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / seconds(lambda: target.copy_(source), "cuda")
    if backends(args)[0] != "triton":
        return {"flops": None, "bytes": copied}
    from gpu_peak import multiply_adds

    call, flops = multiply_adds(dtype)
    return {"flops": flops / seconds(call, "cuda"), "bytes": copied}


def loss_and_gradient(layout, rows, target, form):
    """The mean squared error and its gradient, as training computes them."""
    flux = gpu.render(layout, rows, form)
    difference = flux - target
    grad = gpu.gradient(layout, rows, 2 / len(target) * difference * flux, form)
    return (difference**2).mean(), grad


def speed(args):
    wavelength, theta = make_problem(args)
    components = line_components(theta, "pseudo-voigt")
    windows = line_windows(wavelength, components, args.width)
    evaluations, target = int((windows[1] - windows[0]).sum()), np.full(len(wavelength), 0.99)

    def on_cpu(**options):
        flux = fused.render(wavelength, components, *windows, forms.THIN, **options)
        weight = 2 / len(target) * (flux - target) * flux
        return fused.gradient(wavelength, components, *windows, weight, forms.THIN, **options)

    grad = on_cpu(every_pixel=True)
    cpu = seconds(on_cpu, "cpu", n_rounds=3)
    out = {"cpu_seconds": cpu, "evaluations": evaluations}
    print(f"speed, CPU kernel, one thread: {cpu:.4f} s for {evaluations:.3g} pixels of lines", flush=True)
    rows = torch.tensor(components, device=args.device)
    for dtype in (torch.float64, torch.float32):
        peak = peaks(args, dtype)
        wanted = torch.tensor(target, dtype=dtype, device=args.device)
        for backend in backends(args):
            layout = gpu.lay_out(wavelength, *windows, device=args.device, dtype=dtype, backend=backend)
            calls = {
                "render": lambda layout=layout: gpu.render(layout, rows, forms.THIN),
                "gradient": lambda layout=layout, wanted=wanted: gpu.gradient(layout, rows, wanted, forms.THIN),
                "both": lambda layout=layout, wanted=wanted: loss_and_gradient(layout, rows, wanted, forms.THIN),
            }
            times = {name: seconds(call, args.device) for name, call in calls.items()}
            figures = {"seconds": times, "times_faster_than_cpu": cpu / times["both"], "peak": peak}
            difference = np.abs(calls["both"]()[1].cpu().numpy() - grad) / (np.abs(grad).max(axis=0) + 1e-300)
            figures["largest_difference_of_gradient"] = float(difference.max())
            if backend == "triton":  # plain torch asks the host between its calls and cannot be recorded
                figures["seconds_on_card"] = times = {name: seconds_on_card(call) for name, call in calls.items()}
            size = wanted.element_size()
            for name in ("render", "gradient"):
                limit = {"flops": FLOPS[name] * evaluations / times[name] / peak["flops"]} if peak["flops"] else {}
                if limit and dtype == torch.float64:
                    limit["pipe"] = INSTRUCTIONS[name] * evaluations / times[name] / (peak["flops"] / 2)
                if peak["bytes"]:
                    moved = len(wavelength) * (8 + size) + len(rows) * (6 * (8 + size) + 8)
                    limit["bytes"] = moved / times[name] / peak["bytes"]
                figures[f"share_of_limit_{name}"] = limit
            out[f"{dtype}, {backend}"] = figures
            print(f"speed, {dtype}, {backend}: {figures}", flush=True)
    return out


def batch(args):
    wavelength, _ = make_problem(args)
    spectra = [line_components(make_problem(args, seed=k)[1], "pseudo-voigt") for k in range(args.batch)]
    out = {}
    for name, wing_cut in (("fixed", args.width), ("adaptive", None)):
        windows = [line_windows(wavelength, components, wing_cut) for components in spectra]
        start, stop = (np.concatenate(edge) for edge in zip(*windows, strict=True))
        spectrum = np.repeat(np.arange(len(spectra)), [len(rows) for rows in spectra])
        given = [torch.tensor(a, device=args.device) for a in (wavelength, start, stop)]
        rows, spectrum = (torch.tensor(a, device=args.device) for a in (np.concatenate(spectra), spectrum))
        options = {"spectrum": spectrum, "n_spectra": len(spectra), "device": args.device}
        layout = gpu.lay_out(*given, **options)
        lists = [wavelength, spectra, *map(list, zip(*windows, strict=True)), forms.THIN]
        calls = {
            "render": lambda layout=layout, rows=rows: gpu.render(layout, rows, forms.THIN),
            "with_layout": lambda given=given, o=options, r=rows: gpu.render(gpu.lay_out(*given, **o), r, forms.THIN),
            "from_and_to_host": lambda lists=lists: gpu.render_batch(*lists, device=args.device),
        }
        rates = {key: len(spectra) / seconds(call, args.device, n_calls=3) for key, call in calls.items()}
        one = lambda windows=windows: fused.render(wavelength, spectra[0], *windows[0], forms.THIN)  # noqa: E731
        rates["cpu_one_thread"] = 1 / seconds(one, "cpu", n_rounds=3)
        out[name] = {"spectra_per_second": rates, "mean_window": float((stop - start).mean())}
        print(f"batch of {len(spectra)}, {name} wings: {out[name]}", flush=True)
    return out


def adam(args):
    out, options = (
        {},
        {"profile": "pseudo-voigt", "wing_cut": args.width, "pixels": slice(10, -10), "learning_rate": 0.05},
    )
    wavelength, truth = make_problem(args)
    components = line_components(truth, "pseudo-voigt")
    flux = fused.render(wavelength, components, *line_windows(wavelength, components, args.width), forms.THIN)
    start = truth + 0.01 * np.random.default_rng(1).normal(size=truth.shape)
    begin = time.perf_counter()
    few = train_adam(wavelength, flux, start, max_iter=3, **options)
    out["cpu_one_thread"] = 3600 / ((time.perf_counter() - begin) / 3 * args.epochs)
    same = train_adam(wavelength, flux, start, max_iter=3, device=args.device, **options)
    out["difference_after_3_epochs"] = float(np.abs(few - same).max())
    for n in (1, 8, args.batch):
        fluxes, starts = np.tile(flux, (n, 1)), [start] * n
        begin = time.perf_counter()
        train_adam_batch(wavelength, fluxes, starts, max_iter=args.epochs, device=args.device, **options)
        out[f"{n}_at_once"] = 3600 * n / (time.perf_counter() - begin)
        print(f"adam, nodes an hour: {out}", flush=True)
    return out


def sweep(args):
    """Times of render by (block, warps), of gradient by (pixels at once, warps)."""
    from stellarhml.kernels import gpu_triton

    wavelength, theta = make_problem(args)
    components = line_components(theta, "pseudo-voigt")
    windows = line_windows(wavelength, components, args.width)
    rows, weight = (torch.tensor(a, device=args.device) for a in (components, np.full(len(wavelength), 0.01)))
    out = {}
    for pixels in (128, 256, 512, 1024):
        for warps in (1, 2, 4, 8):
            gpu_triton.PIXELS_AT_ONCE, gpu_triton.WARPS = pixels, warps
            layout = gpu.lay_out(wavelength, *windows, device=args.device, block=pixels)
            out[f"{pixels} pixels, {warps} warps"] = {
                "render": seconds(lambda layout=layout: gpu.render(layout, rows, forms.THIN), args.device),
                "gradient": seconds(lambda layout=layout: gpu.gradient(layout, rows, weight, forms.THIN), args.device),
            }
    for name, times in sorted(out.items(), key=lambda item: sum(item[1].values())):
        print(f"sweep, {name}: {times}", flush=True)
    return out


def attempt(part, args):
    """Run a part; its failure is printed and told in the figures, and the others go on."""
    begin = time.perf_counter()
    try:
        return part(args)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        print(f"{part.__name__} took {time.perf_counter() - begin:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {part.__name__: part for part in (equality, speed, batch, adam)}
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    for name, value in (("lines", 5000), ("pixels", 300_000), ("width", 6000), ("batch", BATCH), ("epochs", 100)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"No CUDA device: torch {torch.__version__} finds none, and this benchmark measures one.")
    torch.set_num_threads(1)
    card = torch.cuda.get_device_properties(0) if args.device == "cuda" else None
    figures = {name: attempt(parts[name], args) for name in args.parts}
    if args.sweep and backends(args)[0] == "triton":
        figures["sweep"] = attempt(sweep, args)
    memory = torch.cuda.max_memory_allocated() / 2**20 if card else None
    finish(benchmark="gpu", card=str(card), backend=backends(args)[0], peak_device_memory_mb=memory, **figures)
    sys.exit(any("error" in part for part in figures.values()))


if __name__ == "__main__":
    main()
