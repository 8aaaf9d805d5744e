"""Sums of exponentials over tiles of logits, in kernels that keep a tile on the chip.

Axes: n rows, m columns, D embedding size. Logits are in units of log 2.

A text is left out of a row's sum when one of its two marks equals the row's mark in the same
place. Importing this file needs Triton; whoever has none takes the tiles of ``tile_sums``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int32
from torch import Tensor

BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_INNER, BLOCK_OUT = 64, 64, 64, 128


@triton.jit
def _powers(  # type: ignore[no-untyped-def]
    x,
    y,
    x_marks,
    y_marks,
    rows,
    columns,
    num_rows,
    num_columns,
    reference,
    size: tl.constexpr,
    wide: tl.constexpr,
    block_inner: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):
    """2^(logit - reference) of one tile; 0 where a mark says so, or where there is no text."""
    logits = tl.zeros((block_rows, block_columns), dtype=tl.float32)
    for start in range(0, size, block_inner):
        inner = start + tl.arange(0, block_inner)
        left_mask = (rows[:, None] < num_rows) & (inner[None, :] < size)
        left = tl.load(x + rows[:, None] * size + inner[None, :], mask=left_mask, other=0.0)
        right_mask = (columns[:, None] < num_columns) & (inner[None, :] < size)
        right = tl.load(y + columns[:, None] * size + inner[None, :], mask=right_mask, other=0.0)
        if wide:
            # The interpreter's bfloat16 product is wrong, and float32 must not become TF32.
            logits += tl.dot(
                left.to(tl.float32), tl.trans(right.to(tl.float32)), input_precision="ieee"
            )
        else:
            logits += tl.dot(left, tl.trans(right))
    there = (rows[:, None] < num_rows) & (columns[None, :] < num_columns)
    for place in tl.static_range(2):
        row_marks = tl.load(x_marks + place * num_rows + rows, mask=rows < num_rows, other=-2)
        column_marks = tl.load(
            y_marks + place * num_columns + columns, mask=columns < num_columns, other=-3
        )
        there = there & (row_marks[:, None] != column_marks[None, :])
    return tl.where(there, tl.exp2(logits - reference), 0.0)


@triton.jit
def _row_sums_kernel(  # type: ignore[no-untyped-def]
    x,
    y,
    x_marks,
    y_marks,
    sums,
    num_rows,
    num_columns,
    reference,
    size: tl.constexpr,
    wide: tl.constexpr,
    block_inner: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    total = tl.zeros((block_rows,), dtype=tl.float32)
    for start in range(0, num_columns, block_columns):
        columns = start + tl.arange(0, block_columns)
        powers = _powers(
            x, y, x_marks, y_marks, rows, columns, num_rows, num_columns, reference,
            size, wide, block_inner, block_rows, block_columns,
        )  # fmt: skip
        total += tl.sum(powers, axis=1)
    tl.store(sums + rows, total, mask=rows < num_rows)


@triton.jit
def _weighted_kernel(  # type: ignore[no-untyped-def]
    x,
    y,
    x_marks,
    y_marks,
    row_factors,
    column_factors,
    out,
    num_rows,
    num_columns,
    reference,
    size: tl.constexpr,
    wide: tl.constexpr,
    block_inner: tl.constexpr,
    block_out: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    outer = tl.program_id(1) * block_out + tl.arange(0, block_out)
    of_rows = tl.load(row_factors + rows, mask=rows < num_rows, other=0.0)
    total = tl.zeros((block_rows, block_out), dtype=tl.float32)
    for start in range(0, num_columns, block_columns):
        columns = start + tl.arange(0, block_columns)
        powers = _powers(
            x, y, x_marks, y_marks, rows, columns, num_rows, num_columns, reference,
            size, wide, block_inner, block_rows, block_columns,
        )  # fmt: skip
        of_columns = tl.load(column_factors + columns, mask=columns < num_columns, other=0.0)
        weights = powers * (of_rows[:, None] + of_columns[None, :])
        mask = (columns[:, None] < num_columns) & (outer[None, :] < size)
        right = tl.load(y + columns[:, None] * size + outer[None, :], mask=mask, other=0.0)
        if wide:
            total += tl.dot(weights, right.to(tl.float32), input_precision="ieee")
        else:
            total += tl.dot(weights.to(right.dtype), right)
    mask = (rows[:, None] < num_rows) & (outer[None, :] < size)
    tl.store(out + rows[:, None] * size + outer[None, :], total, mask=mask)


def row_sums(
    x: Float[Tensor, "n D"],
    y: Float[Tensor, "m D"],
    x_marks: Int32[Tensor, "2 n"],
    y_marks: Int32[Tensor, "2 m"],
    *,
    reference: float,
) -> Float[Tensor, " n"]:
    """For each row, the sum of 2^(x y^T - reference) over the columns without an equal mark."""
    sums = torch.empty(len(x), dtype=torch.float32, device=x.device)
    _row_sums_kernel[(triton.cdiv(len(x), BLOCK_ROWS),)](
        x, y, x_marks, y_marks, sums, len(x), len(y), reference,
        size=x.shape[1], wide=_is_wide(x),
        block_inner=BLOCK_INNER, block_rows=BLOCK_ROWS, block_columns=BLOCK_COLUMNS,
    )  # fmt: skip
    return sums


def weighted_sums(
    x: Float[Tensor, "n D"],
    y: Float[Tensor, "m D"],
    x_marks: Int32[Tensor, "2 n"],
    y_marks: Int32[Tensor, "2 m"],
    row_factors: Float[Tensor, " n"],
    column_factors: Float[Tensor, " m"],
    *,
    reference: float,
) -> Float[Tensor, "n D"]:
    """For each row, the columns added up by 2^(logit - reference) (row factor + column factor)."""
    out = torch.empty(len(x), x.shape[1], dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(len(x), BLOCK_ROWS), triton.cdiv(x.shape[1], BLOCK_OUT))
    _weighted_kernel[grid](
        x, y, x_marks, y_marks, row_factors, column_factors, out, len(x), len(y), reference,
        size=x.shape[1], wide=_is_wide(x), block_inner=BLOCK_INNER, block_out=BLOCK_OUT,
        block_rows=BLOCK_ROWS, block_columns=BLOCK_COLUMNS,
    )  # fmt: skip
    return out


def _is_wide(x: Tensor) -> bool:
    """Whether products are made in float32: of float32 vectors, and always on a CPU."""
    return x.dtype == torch.float32 or not x.is_cuda
