"""What a spectrum has besides one star of the grid: the atmosphere, and a spectrograph that is not known well.

Run: python benchmarks/beyond_the_star.py [--parts tellurics standard spread velocities] [--seed 0] [--stars 24]
     [--jobs 2] [--folder FOLDER]

tellurics  24 off-grid stars through an atmosphere of 1 to 8 mm of water at airmass 1 to 2, 8100 to 9250 angstrom, R
           55,000, S/N 100: amounts fitted with the star, against the same stars without an atmosphere, with masks, and
           with an atlas whose lines are wrong.
standard   an observed A0V star (HPF): what is left of its water lines, with a picture.
spread, velocities  see _beyond_spread.py; --seed and --stars are theirs.

Generators are fitted once and kept in --folder.
"""

import argparse
import time
from pathlib import Path

from _beyond_spread import spread, velocities
from _beyond_tellurics import standard, tellurics
from shared import finish

RESULTS = Path(__file__).parent / "results"
PARTS = {"tellurics": tellurics, "standard": standard, "spread": spread, "velocities": velocities}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stars", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.nodes = 99
    args.folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    figures = {name: PARTS[name](args) for name in args.parts}
    finish(benchmark="beyond_the_star", seed=args.seed, **figures, seconds=time.perf_counter() - begin)


if __name__ == "__main__":
    main()
