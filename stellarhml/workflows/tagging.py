"""Species of the lines of a saved generator, by a list of transitions."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarhml.workflows.generators import save_generator
from stellarhml.workflows.tables import number, text_of


class Tagged(NamedTuple):
    """What `tag_generator` found.

    `table` has a row for each species that has the largest share of a line, those of most lines first: `species`,
    `n_lines`, `zero_point` [dex], NaN where no line tells it. `n_tagged` of the generator's `n_lines` lines are tagged.
    """

    table: pd.DataFrame
    n_tagged: int
    n_lines: int


def tag_generator(generator, line_list, path, *, medium=None):
    """Tag the lines of a generator with species, and save it.

    Parameters
    ----------
    generator : SpectrumGenerator
        Fitted generator; it gets `tags_`, in place of those that it had.
    line_list : LineList, str or path-like
        Transitions, or a file of them, see :func:`stellarhml.lines.line_lists.read_line_list`.
    path : str or path-like
        File to write, see :func:`stellarhml.save`.
    medium : {"vacuum", "air"}, default=None
        Medium of the wavelengths of a file, see :meth:`stellarhml.SpectrumGenerator.tag_lines`.

    Returns
    -------
    tagged : Tagged
        Lines and zero points of the species.

    Raises
    ------
    ValueError
        If the list cannot be read or does not suit the generator, or no line is tagged. Nothing is saved then.
    OSError
        If the list does not exist, or the file cannot be written.
    """
    tags = tag_some_lines(generator, line_list, medium=medium)
    save_generator(generator, path)
    species, counts = np.unique(tags.names()[tags.tagged].astype(str), return_counts=True)
    zero_points = pd.Series(tags.zero_points, index=list(tags.species))[species].to_numpy()
    table = pd.DataFrame({"species": species, "n_lines": counts, "zero_point": zero_points})
    table = table.sort_values("n_lines", ascending=False, kind="stable", ignore_index=True)
    return Tagged(table, int(tags.tagged.sum()), len(tags.tagged))


def tag_some_lines(generator, line_list, *, medium=None):
    """Tag the lines of a generator with species and return its LineTags; ValueError if no line is tagged."""
    tags = generator.tag_lines(line_list, medium=medium).tags_
    if not tags.tagged.any():
        raise ValueError(
            f"None of the generator's {len(tags.tagged)} lines is at a transition of the list that is strong enough. "
            "Pass the list behind the grid, or a similar one, and the medium of its wavelengths."
        )
    return tags


def format_species(table):
    """Text of the table of a `Tagged` for a terminal."""
    cells = {
        "species": table["species"].tolist(),
        "lines": [str(n) for n in table["n_lines"]],
        "zero point [dex]": [number(value, 2) or "not learnt" for value in table["zero_point"]],
    }
    return text_of(pd.DataFrame(cells), left=("species",))
