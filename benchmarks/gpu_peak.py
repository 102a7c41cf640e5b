"""What a card can do at most, measured: multiply-adds a second by a Triton kernel, bytes a second by a copy."""

import torch
import triton
import triton.language as tl

STEPS, LANES, PROGRAMS = 4096, 1024, 4096


@triton.jit
def _chains(numbers, steps, LANES: tl.constexpr):
    """Multiply-adds in as many independent chains as there are lanes; eight of them to a thread."""
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    factor = tl.load(numbers + lane)
    value = factor
    for _ in range(steps):
        value = value * factor + factor
    tl.store(numbers + lane, value)


def multiply_adds(dtype):
    """Return a call and the floating-point operations that it does, a multiply-add being two."""
    numbers = torch.full((PROGRAMS * LANES,), 0.5, dtype=dtype, device="cuda")

    def call():
        _chains[(PROGRAMS,)](numbers, STEPS, LANES=LANES, num_warps=4, enable_fp_fusion=True)

    return call, 2 * STEPS * LANES * PROGRAMS
