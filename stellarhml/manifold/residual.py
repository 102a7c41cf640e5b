r"""Residuals of the line model: a mean and a few principal components, interpolated like the lines.

The residual of training spectrum k, flux minus line model, is :math:`\bar r + \sum_m c_{km} b_m`; its coefficients are
interpolated with the same weights as the lines.

CodedRows stores such rows in eight bits, in blocks of 32 pixels. A block of a row that exceeds the row's tolerance has
an entry of 32 signed bytes and a scale; if the rounding error still exceeds the tolerance, it has another entry. Blocks
without entries take no memory, and each window of pixels can be decoded by itself.
"""

import numpy as np
from scipy import sparse

from stellarhml._state import LARGE, Sizes, StateError, check_keys, take, take_array, take_number
from stellarhml.kernels.combine import BLOCK, add_blocks, frozen

_STEPS = 4  # scales are powers of 2^(1/4), of which a byte holds 256: from 2^-48 to 2^16
_LOWEST = -48
_SCALES = 2.0 ** (np.arange(256) / _STEPS + _LOWEST)


class CodedRows:
    """Rows of pixels in eight bits, of shape (`n_rows`, `n_pixels`).

    The entries of block b, pixels ``32 b`` to ``32 b + 31``, are ``indptr[b]:indptr[b + 1]``. Each has its `row`,
    uint16, and `code`, 32 pixels in int8, in units of the scale 2^((exponent + 128) / 4 - 48), `exponent` in int8.
    """

    def __init__(self, n_rows, n_pixels, indptr, row, exponent, code):
        self.n_rows, self.n_pixels = n_rows, n_pixels
        self.indptr, self.row, self.exponent, self.code = indptr, row, exponent, code

    @classmethod
    def encode(cls, rows, tolerance):
        """Store rows (n_rows, n_pixels) of finite values of magnitude below 10^6.

        `tolerance`, of each row or of all, is the largest error of a pixel, at least 10^-12.
        """
        n_rows, n_pixels = rows.shape
        n_blocks = -(-n_pixels // BLOCK)
        left = np.zeros((n_rows, n_blocks * BLOCK), dtype=np.float64)
        left[:, :n_pixels] = rows
        left = left.reshape(n_rows, n_blocks, BLOCK)
        tolerance = np.broadcast_to(np.asarray(tolerance, dtype=np.float64), (n_rows,))
        found = []
        while True:
            largest = np.abs(left).max(axis=2, initial=0.0)
            row, block = np.nonzero(largest > tolerance[:, None])
            if not len(row):
                break
            step = np.searchsorted(_SCALES, largest[row, block] / 127.0)
            scale = _SCALES[step][:, None]
            code = np.rint(left[row, block] / scale)
            left[row, block] -= code * scale
            found.append((block, row, step - 128, code))
        block, row, exponent, code = (
            [np.concatenate(part) for part in zip(*found, strict=True)]
            if found
            else [np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty((0, BLOCK))]
        )
        order = np.argsort(block, kind="stable")
        indptr = np.searchsorted(block[order], np.arange(n_blocks + 1)).astype(np.int64)
        kinds = (np.uint16, np.int8, np.int8)
        parts = [part[order].astype(kind) for part, kind in zip((row, exponent, code), kinds, strict=True)]
        return cls(n_rows, n_pixels, indptr, *parts)

    @classmethod
    def join(cls, pieces):
        """Concatenate neighbouring pieces of the same rows; all but the last have a multiple of 32 pixels."""
        offsets = np.cumsum([0, *(len(piece.row) for piece in pieces)])
        indptr = [piece.indptr[:-1] + offset for piece, offset in zip(pieces, offsets[:-1], strict=True)]
        parts = [np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("row", "exponent", "code")]
        n_pixels = sum(piece.n_pixels for piece in pieces)
        return cls(pieces[0].n_rows, n_pixels, np.concatenate([*indptr, offsets[-1:]]), *parts)

    def to_state(self) -> dict:
        """State for a file: the arguments of the constructor."""
        return {**vars(self), "n_rows": int(self.n_rows), "n_pixels": int(self.n_pixels)}

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        check_keys(state, ("n_rows", "n_pixels", "indptr", "row", "exponent", "code"))
        n_rows = take_number(state, "n_rows", low=0, high=1 << 16, integer=True)
        n_pixels = take_number(state, "n_pixels", low=0, integer=True)
        sizes = Sizes(n_blocks_and_end=-(-n_pixels // BLOCK) + 1)
        row = take_array(state, "row", dtype="u2", shape=("n_entries",), sizes=sizes, low=0, high=max(n_rows - 1, 0))
        exponent = take_array(state, "exponent", dtype="i1", shape=("n_entries",), sizes=sizes)
        code = take_array(state, "code", dtype="i1", shape=("n_entries", BLOCK), sizes=sizes)
        indptr = take_pointers(state, "indptr", "n_blocks_and_end", sizes["n_entries"], sizes)
        if len(row) and not n_rows:
            raise StateError("`n_rows` is 0, but there are entries.")
        return cls(n_rows, n_pixels, indptr, row, exponent, code)

    def combine(self, coefficients, pixels=slice(None)):
        """Weighted sums of the rows at `pixels`, float32, by coefficients (n, n_rows).

        `pixels` is a slice of step 1, or indices.
        """
        if isinstance(pixels, slice):
            first, last, _ = pixels.indices(self.n_pixels)
            first_block, last_block = first // BLOCK, -(-max(last, first) // BLOCK)
            blocks = np.arange(first_block, last_block)
            chosen = slice(first - first_block * BLOCK, max(last, first) - first_block * BLOCK)
        else:
            blocks, place = np.unique(pixels // BLOCK, return_inverse=True)
            chosen = place * BLOCK + pixels % BLOCK
        total = np.zeros((len(coefficients), len(blocks), BLOCK), dtype=np.float32)
        weights = np.require(coefficients, np.float32, ["C", "W"])
        table = frozen(self.indptr, self.row, self.exponent, self.code)
        add_blocks(*table, weights, _SCALES.astype(np.float32), blocks, total)
        return total.reshape(len(total), len(blocks) * BLOCK)[:, chosen]

    @property
    def nbytes(self):
        """Memory of the tables, in bytes."""
        return sum(part.nbytes for part in (self.indptr, self.row, self.exponent, self.code))


def take_pointers(state, key, length, n_entries, sizes=None):
    """Pointers to the first entry of each group, and to the end: int64 from 0 to `n_entries`, not decreasing.

    `length` is the number of groups plus 1, or its name in `sizes`. StateError if they are invalid.
    """
    pointers = take_array(state, key, dtype="i8", shape=(length,), sizes=sizes, low=0, high=n_entries, increasing=True)
    if not len(pointers) or pointers[0] != 0 or pointers[-1] != n_entries:
        raise StateError(f"`{key}` must go from 0 to the number of entries, which is {n_entries}.")
    return pointers


class ResidualBasis:
    """Mean and components of residuals.

    `rows` (1 + rank, n_pixels) are the mean, then the components, scaled so that no coefficient exceeds 1;
    `coefficients` (n_rows, rank), float64, are those of the training rows.
    """

    def __init__(self, rows, coefficients):
        self.rows, self.coefficients = rows, coefficients

    def to_state(self) -> dict:
        """State for a file: "rows" and "coefficients"."""
        return {"rows": self.rows, "coefficients": self.coefficients}

    @classmethod
    def from_state(cls, state):
        """Rebuild from its state; StateError if that is invalid."""
        check_keys(state, ("rows", "coefficients"))
        rows = take(state, "rows", CodedRows)
        coefficients = take_array(state, "coefficients", dtype="f8", shape=(None, None), low=-LARGE, high=LARGE)
        if rows.n_rows != 1 + coefficients.shape[1]:
            raise StateError(
                f"There are {rows.n_rows} `rows` for {coefficients.shape[1]} coefficients; the mean needs one more."
            )
        return cls(rows, coefficients)

    @property
    def rank(self):
        """Number of components."""
        return self.coefficients.shape[1]

    @property
    def nbytes(self):
        """Memory of the tables, in bytes."""
        return self.rows.nbytes + self.coefficients.nbytes

    def at(self, weights, pixels=slice(None), *, slopes=False):
        """Residuals at weighted means of training rows, (n, n_pixels), float32, in units of the normalised flux.

        `weights`, csr_matrix or ndarray of shape (n, n_rows), are of sum 1, or, with `slopes`, derivatives of sum 0.
        `pixels` is a slice or indices.
        """
        if sparse.issparse(weights) and weights.shape[0] == 1:  # a tenth of the time of a sparse product
            coefficients = (weights.data @ self.coefficients[weights.indices])[None]
        else:
            coefficients = np.asarray(weights @ self.coefficients)
        mean = np.full((len(coefficients), 1), 0.0 if slopes else 1.0)
        return self.rows.combine(np.hstack([mean, coefficients]), pixels)
