"""What a spectrum has besides one star of the grid: the atmosphere, other stars, a spectrograph not known well.

Run: python benchmarks/beyond_the_star.py [--parts tellurics standard pairs siblings spots observed_spots spread
     velocities] [--seed 0] [--stars 24] [--black-body] [--six-orders] [--jobs 2] [--folder FOLDER]

tellurics  24 off-grid stars through an atmosphere of 1 to 8 mm of water at airmass 1 to 2, 8100 to 9250 angstrom, R
           55,000, S/N 100: amounts fitted with the star, against the same stars without an atmosphere, with masks, and
           with an atlas whose lines are wrong.
standard   an observed A0V star (HPF): what is left of its water lines, with a picture.
pairs, siblings, spots, observed_spots  two stars and spots, see _beyond_companion.py; --black-body and --six-orders are
           for them.
spread, velocities  see _beyond_spread.py; --stars is theirs.

Settings are chosen with other seeds than those that are reported. Generators are fitted once and kept in --folder.
"""

import argparse
import time
import warnings
from pathlib import Path

from _beyond_companion import observed_spots, pairs, siblings, spots
from _beyond_spread import spread, velocities
from _beyond_tellurics import standard, tellurics
from shared import finish

from stellarhml.exceptions import StellarHMLWarning

RESULTS = Path(__file__).parent / "results"
PARTS = {f.__name__: f for f in (tellurics, standard, pairs, siblings, spots, observed_spots, spread, velocities)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stars", type=int, default=24)
    parser.add_argument("--black-body", action="store_true", help="flux levels of mock stars from black bodies")
    parser.add_argument("--six-orders", action="store_true", help="six orders of mock stars, not all 28")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where generators and pictures are kept")
    args = parser.parse_args()
    args.nodes = 99
    warnings.simplefilter("ignore", StellarHMLWarning)
    args.folder.mkdir(parents=True, exist_ok=True)
    begin, figures = time.perf_counter(), {}
    for part in args.parts:
        print(f"--- {part}", flush=True)
        figures[part] = PARTS[part](args)
    finish(benchmark="beyond_the_star", seed=args.seed, **figures, seconds=time.perf_counter() - begin)


if __name__ == "__main__":
    main()
