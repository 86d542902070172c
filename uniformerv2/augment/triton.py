"""The augmentation of training for a whole batch on a GPU, in four Triton kernels a round.

`transforms.training_clip` starts dozens of kernels for each clip, and a GPU waits for most
of them to be started. Here clips of any sizes go through together: operation i of all clips that
have one is round i, and a kernel finds in a row of numbers where its clip lies and what to do with
it. All rows of a batch are copied to the GPU at once, and nothing is asked back.

Where the new level depends on the old one alone, as in eight of the fifteen operations, a table of
256 levels is made first for each colour of each frame, from a histogram if it takes one. Products
and sums are not contracted (`enable_fp_fusion`): rounded like PyTorch's, they give the same levels.

    row        of a clip in a round, or of a picture; see `_FIELDS`
    plane      one colour of one frame of a clip, 3 T of them
    place      of a pixel in its frame, row by row
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from uniformerv2.augment.colours import MEAN, STD, check_batch
from uniformerv2.augment.rand_augment import matrix
from uniformerv2.dataset.draws import Draw

__all__ = ["make_pictures"]

# In this order, so that the clips of a round that take a histogram come first, then those that take
# a table. What is not named here moves pixels.
_COUNTED_OPS = ("auto_contrast", "equalize", "contrast")
_TABLE_OPS = (*_COUNTED_OPS, "invert", "posterize", "solarize", "solarize_add", "brightness")
_KINDS = {name: kind for kind, name in enumerate((*_TABLE_OPS, "color", "sharpness"))}
_MOVED = len(_KINDS)
_AUTO_CONTRAST = tl.constexpr(_KINDS["auto_contrast"])
_EQUALIZE = tl.constexpr(_KINDS["equalize"])
_CONTRAST = tl.constexpr(_KINDS["contrast"])
_INVERT = tl.constexpr(_KINDS["invert"])
_POSTERIZE = tl.constexpr(_KINDS["posterize"])
_SOLARIZE = tl.constexpr(_KINDS["solarize"])
_SOLARIZE_ADD = tl.constexpr(_KINDS["solarize_add"])
_COLOR = tl.constexpr(_KINDS["color"])

# Words of 8 bytes in a row: six integers, then six floats. An operation has its source and target
# (addresses), height, width, kind, 0, and its value or matrix; a picture has the address of its
# box, height and width of the frame, then of the box, is it flipped, and how far apart in the box
# its pixels are, down and across. A row of 96 bytes keeps all of them aligned.
_FIELDS = tl.constexpr(12)
_FLOATS = tl.constexpr(6)
_COUNTED, _BLOCK, _MOVED_BLOCK = 1024, 512, 256  # pixels of a program
_SPLITS = 16  # of a plane, for its histogram


# --- levels


@triton.jit
def _frames_of(rows, row):
    """Source, target, height, width and kind of an operation."""
    fields = rows + row * _FIELDS
    source = tl.load(fields).to(tl.pointer_type(tl.uint8))
    target = tl.load(fields + 1).to(tl.pointer_type(tl.uint8))
    height, width = tl.load(fields + 2).to(tl.int32), tl.load(fields + 3).to(tl.int32)
    return source, target, height, width, tl.load(fields + 4).to(tl.int32)


@triton.jit
def _grey(pixels, there):
    """Luma in 16 bits of fraction, rounded, of pixels at these addresses."""
    red = tl.load(pixels, there, 0).to(tl.int32)
    green = tl.load(pixels + 1, there, 0).to(tl.int32)
    blue = tl.load(pixels + 2, there, 0).to(tl.int32)
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


@triton.jit
def _blend(degenerate, level, factor):
    """degenerate + factor (level - degenerate), cut to 0..255, the fraction dropped."""
    base = degenerate.to(tl.float32)
    mixed = base + factor.to(tl.float32) * (level.to(tl.float32) - base)
    return tl.minimum(tl.maximum(mixed, 0.0), 255.0).to(tl.int32)


@triton.jit
def _count(rows, counts, BLOCK: tl.constexpr):
    """Histograms of planes: of their colour, or of grey. Programs: splits, planes, rows."""
    row, plane = tl.program_id(2), tl.program_id(1)
    source, _, H, W, kind = _frames_of(rows, row)
    frame = source + (plane // 3).to(tl.int64) * (H * W * 3)
    total = tl.zeros((256,), tl.int32)
    for start in range(tl.program_id(0) * BLOCK, H * W, tl.num_programs(0) * BLOCK):
        place = start + tl.arange(0, BLOCK)
        there = place < H * W
        if kind == _CONTRAST:
            level = _grey(frame + place * 3, there)
        else:
            level = tl.load(frame + place * 3 + plane % 3, there, 0).to(tl.int32)
        total += tl.histogram(level, 256, there)
    bins = counts + (row * tl.num_programs(1) + plane) * 256 + tl.arange(0, 256)
    tl.atomic_add(bins, total)


@triton.jit
def _tabulate(rows, values, counts, tables):
    """What becomes of each level of a plane. Programs: planes, rows."""
    row, plane = tl.program_id(1), tl.program_id(0)
    _, _, H, W, kind = _frames_of(rows, row)
    value = tl.load(values + row * _FIELDS + _FLOATS)
    level = tl.arange(0, 256)
    first = (row * tl.num_programs(0) + plane) * 256
    table = level
    if kind <= _CONTRAST:
        count = tl.load(counts + first + level)
        low = tl.min(tl.where(count > 0, level, 255))
        high = tl.max(tl.where(count > 0, level, 0))
        if kind == _AUTO_CONTRAST:
            if high > low:
                scale = 255.0 / (high - low).to(tl.float64)
                stretched = level.to(tl.float64) * scale + (-low).to(tl.float64) * scale
                table = tl.minimum(tl.maximum(stretched, 0.0), 255.0).to(tl.int32)
        elif kind == _EQUALIZE:
            # The brightest level that is there does not count.
            step = tl.sum(tl.where(level < high, count, 0)) // 255
            if step > 0:
                darker = tl.cumsum(count) - count
                table = tl.minimum((darker + step // 2) // step, 255)
        else:
            total = tl.sum(count.to(tl.int64) * level)
            mean = (total.to(tl.float64) / (H * W).to(tl.float64) + 0.5).to(tl.int32)
            table = _blend(mean, level, value)
    elif kind == _INVERT:
        table = 255 - level
    elif kind == _POSTERIZE:
        table = level & (256 - (1 << (8 - value.to(tl.int32))))
    elif kind == _SOLARIZE:
        table = tl.where(level >= value.to(tl.int32), 255 - level, level)
    elif kind == _SOLARIZE_ADD:
        table = tl.where(level < 128, level + value.to(tl.int32), level)
    else:
        table = _blend(tl.zeros_like(level), level, value)
    tl.store(tables + first + level, table.to(tl.uint8))


# --- pixels


@triton.jit
def _block_of(rows, BLOCK: tl.constexpr):
    """This program's frame, where it goes, the places in it, its height, width, and the kind."""
    source, target, H, W, kind = _frames_of(rows, tl.program_id(2))
    start = tl.program_id(1).to(tl.int64) * (H * W * 3)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return source + start, target + start, place, H, W, kind


@triton.jit
def _apply(rows, values, tables, BLOCK: tl.constexpr):
    """An operation that moves nothing, on a block of a frame. Programs: blocks, frames, rows."""
    row, t = tl.program_id(2), tl.program_id(1)
    frame, target, place, H, W, kind = _block_of(rows, BLOCK)
    if tl.program_id(0) * BLOCK >= H * W:
        return  # a frame smaller than the largest of this round
    there = place < H * W
    factor = tl.load(values + row * _FIELDS + _FLOATS)
    if kind < _COLOR:
        table = tables + (row * tl.num_programs(1) + t) * (3 * 256)
        for colour in tl.static_range(3):
            level = tl.load(frame + place * 3 + colour, there, 0).to(tl.int32)
            changed = tl.load(table + colour * 256 + level, there, 0)
            tl.store(target + place * 3 + colour, changed, there)
    elif kind == _COLOR:
        grey = _grey(frame + place * 3, there)
        for colour in tl.static_range(3):
            level = tl.load(frame + place * 3 + colour, there, 0).to(tl.int32)
            mixed = _blend(grey, level, factor)
            tl.store(target + place * 3 + colour, mixed.to(tl.uint8), there)
    else:
        _sharpen(frame, target, place, H, W, factor)


@triton.jit
def _sharpen(frame, target, place, H, W, factor):
    """Away from the mean of 3 x 3 pixels, the middle one counted five times, or towards it."""
    y, x = place // W, place % W
    there = place < H * W
    within = (y > 0) & (y < H - 1) & (x > 0) & (x < W - 1)
    for colour in tl.static_range(3):
        at = frame + place * 3 + colour
        level = tl.load(at, there, 0).to(tl.int32)
        total = 4 * level
        for tap in tl.static_range(9):
            offset = ((tap // 3 - 1) * W + tap % 3 - 1) * 3
            total += tl.load(at + offset, within, 0).to(tl.int32)
        smooth = tl.where(within, (total + 6) // 13, level)
        mixed = _blend(smooth, level, factor)
        tl.store(target + place * 3 + colour, mixed.to(tl.uint8), there)


@triton.jit
def _move(rows, values, BLOCK: tl.constexpr):
    """Bicubic, and grey where there is no picture, on a block of a frame. Programs: as of `_apply`.

    A kernel of its own: it takes so many registers that few threads of the others would have room.
    """
    frame, target, place, H, W, _ = _block_of(rows, BLOCK)
    if tl.program_id(0) * BLOCK >= H * W:
        return
    there = place < H * W
    floats = values + tl.program_id(2) * _FIELDS + _FLOATS
    down, across = (place // W).to(tl.float64) + 0.5, (place % W).to(tl.float64) + 0.5
    x = tl.load(floats) * across + tl.load(floats + 1) * down + tl.load(floats + 2)
    y = tl.load(floats + 3) * across + tl.load(floats + 4) * down + tl.load(floats + 5)
    inside = there & (x >= 0) & (x < W) & (y >= 0) & (y < H)
    first_x, first_y = tl.floor(x - 0.5), tl.floor(y - 0.5)
    dx, dy = (x - 0.5 - first_x).to(tl.float32), (y - 0.5 - first_y).to(tl.float32)
    left, top = first_x.to(tl.int32), first_y.to(tl.int32)
    for colour in range(3):
        above = _in_row(frame + colour, top - 1, left, H, W, dx, inside)
        upper = _in_row(frame + colour, top, left, H, W, dx, inside)
        lower = _in_row(frame + colour, top + 1, left, H, W, dx, inside)
        below = _in_row(frame + colour, top + 2, left, H, W, dx, inside)
        moved = tl.minimum(tl.maximum(_cubic(above, upper, lower, below, dy), 0.0), 255.0)
        level = tl.where(inside, moved.to(tl.int32), 128)
        tl.store(target + place * 3 + colour, level.to(tl.uint8), there)


@triton.jit
def _in_row(frame, y, left, H, W, dx, inside):
    """Between the pixels of a row, which the picture's border repeats."""
    start = tl.minimum(tl.maximum(y, 0), H - 1) * W
    a = _pixel(frame, start, left - 1, W, inside)
    b = _pixel(frame, start, left, W, inside)
    c = _pixel(frame, start, left + 1, W, inside)
    d = _pixel(frame, start, left + 2, W, inside)
    return _cubic(a, b, c, d, dx)


@triton.jit
def _pixel(frame, start, x, W, inside):
    place = start + tl.minimum(tl.maximum(x, 0), W - 1)
    return tl.load(frame + place * 3, inside, 0).to(tl.float32)


@triton.jit
def _cubic(a, b, c, d, at):
    """Between b and c, with a = -1; in the order of sums that `rand_augment` has."""
    first, second, third = c - a, 2 * (a - b) + c - d, b - a + d - c
    return b + at * (first + at * (second + at * third))


# --- pictures


@triton.jit
def _picture(rows, values, out, scale, shift, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """A block of a picture out of its box: scaled, turned, normalised. Programs: blocks, T, N."""
    n, t = tl.program_id(2), tl.program_id(1)
    fields = rows + n * _FIELDS
    source = tl.load(fields).to(tl.pointer_type(tl.uint8))
    frame_pixels = tl.load(fields + 1) * tl.load(fields + 2)
    W = tl.load(fields + 2).to(tl.int32)
    height, width = tl.load(fields + 3).to(tl.int32), tl.load(fields + 4).to(tl.int32)
    is_flipped = tl.load(fields + 5)
    apart = values + n * _FIELDS + _FLOATS
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < SIZE * SIZE
    y, x = place // SIZE, place % SIZE
    x = tl.where(is_flipped != 0, SIZE - 1 - x, x)
    top, down, dy = _between(y, tl.load(apart), height)
    left, right, dx = _between(x, tl.load(apart + 1), width)
    frame = source + t * (frame_pixels * 3)
    T = tl.num_programs(1)
    for colour in tl.static_range(3):
        a = tl.load(frame + (top * W + left) * 3 + colour, there, 0).to(tl.float32)
        b = tl.load(frame + (top * W + right) * 3 + colour, there, 0).to(tl.float32)
        c = tl.load(frame + (down * W + left) * 3 + colour, there, 0).to(tl.float32)
        d = tl.load(frame + (down * W + right) * 3 + colour, there, 0).to(tl.float32)
        level = (1 - dy) * ((1 - dx) * a + dx * b) + dy * ((1 - dx) * c + dx * d)
        plane = (n.to(tl.int64) * 3 + colour) * T + t
        tl.store(out + plane * (SIZE * SIZE) + place, level * scale + shift, there)


@triton.jit
def _between(index, apart, num):
    """The pixels on both sides of where one of the picture comes from, and its way from the first.

    In float64, then rounded once: PyTorch's place in float32 is that of a fused product and sum.
    """
    at = tl.maximum(((index.to(tl.float64) + 0.5) * apart - 0.5).to(tl.float32), 0.0)
    first = tl.minimum(at.to(tl.int32), num - 1)
    return first, tl.minimum(first + 1, num - 1), at - first.to(tl.float32)


# --- batches

_Row = tuple[tuple[int, ...], tuple[float, ...]]  # integers and floats; see _FIELDS


def make_pictures(frames: Sequence[Tensor], draws: Sequence[Draw], size: int) -> Tensor:
    """Float (N, 3, T, size, size) of N clips uint8 RGB (T, H, W, 3), each with its draw.

    As `transforms.training_batch` has it, but for what is erased, with its ValueErrors. On
    a GPU, or on a CPU in Triton's interpreter. The same frames may come several times: they stay as
    they are.
    """
    check_batch(frames, draws)  # from here on addresses are trusted
    frames = [clip.contiguous() for clip in frames]
    T, device = len(frames[0]), frames[0].device
    with torch.cuda.device_of(frames[0]):
        sizes = (
            clip.numel() if drawn.ops else 0 for clip, drawn in zip(frames, draws, strict=True)
        )
        starts = list(accumulate(sizes, initial=0))
        # A clip has its part of both halves: each operation reads one and writes the other.
        scratch = torch.empty(2, starts[-1], dtype=torch.uint8, device=device)
        halves = scratch.data_ptr(), scratch.data_ptr() + starts[-1]
        rounds, pictures = _rows(frames, draws, size, [[h + at for at in starts] for h in halves])
        words = _words([*(row for rows in rounds for row in rows), *pictures], device)
        for rows in rounds:
            _run(rows, words, T)
            words = words[len(rows) :]
        values = words.view(torch.float64)
        out = torch.empty(len(frames), 3, T, size, size, device=device)
        grid = (triton.cdiv(size * size, _BLOCK), T, len(frames))
        scale, shift = 1 / (255 * STD), -MEAN / STD
        _picture[grid](words, values, out, scale, shift, size, _BLOCK, num_warps=8)
    return out


def _rows(
    frames: Sequence[Tensor], draws: Sequence[Draw], size: int, targets: Sequence[Sequence[int]]
) -> tuple[list[list[_Row]], list[_Row]]:
    """What is to be done in each round, ordered by kind, and the pictures then."""
    rounds: list[list[_Row]] = [[] for _ in range(max(len(drawn.ops) for drawn in draws))]
    pictures: list[_Row] = []
    for index, (clip, drawn) in enumerate(zip(frames, draws, strict=True)):
        source = clip.data_ptr()
        _, H, W, _ = clip.shape
        for number, op in enumerate(drawn.ops):
            target = targets[number % 2][index]
            kind = _KINDS.get(op.name, _MOVED)
            floats = matrix(op, H, W) if kind == _MOVED else (op.value, 0, 0, 0, 0, 0)
            rounds[number].append(((source, target, H, W, kind, 0), floats))
            source = target
        box = drawn.box
        # In float32, as F.interpolate has it.
        down = float(np.float32(box.height) / np.float32(size))
        across = float(np.float32(box.width) / np.float32(size))
        corner = source + (box.top * W + box.left) * 3
        numbers = (corner, H, W, box.height, box.width, int(drawn.is_flipped))
        pictures.append((numbers, (down, across, 0, 0, 0, 0)))
    for rows in rounds:
        rows.sort(key=_kind)
    return rounds, pictures


def _kind(row: _Row) -> int:
    return row[0][4]


def _words(rows: Sequence[_Row], device: torch.device) -> Tensor:
    """(rows, 12) in one copy; the host does not wait for it."""
    words = np.empty((len(rows), _FIELDS.value), dtype=np.int64)
    words[:, :6] = [numbers for numbers, _ in rows]
    words.view(np.float64)[:, 6:] = [floats for _, floats in rows]
    made = torch.from_numpy(words)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made


def _run(rows: Sequence[_Row], words: Tensor, T: int) -> None:
    """One round: histograms, tables, pixels."""
    values = words.view(torch.float64)
    num_counted, num_tables, num_still = (
        sum(_kind(row) < end for row in rows)
        for end in (len(_COUNTED_OPS), len(_TABLE_OPS), _MOVED)
    )
    counts = torch.zeros(num_counted, 3 * T, 256, dtype=torch.int32, device=words.device)
    tables = torch.empty(num_tables, 3 * T, 256, dtype=torch.uint8, device=words.device)
    if num_counted:
        splits = min(_blocks(rows[:num_counted], _COUNTED), _SPLITS)
        _count[(splits, 3 * T, num_counted)](words, counts, _COUNTED)
    if num_tables:
        _tabulate[(3 * T, num_tables)](words, values, counts, tables, enable_fp_fusion=False)
    options = {"num_warps": 8, "enable_fp_fusion": False}
    if num_still:
        grid = (_blocks(rows[:num_still], _BLOCK), T, num_still)
        _apply[grid](words, values, tables, _BLOCK, **options)
    if num_still < len(rows):
        grid = (_blocks(rows[num_still:], _MOVED_BLOCK), T, len(rows) - num_still)
        _move[grid](words[num_still:], values[num_still:], _MOVED_BLOCK, **options)


def _blocks(rows: Sequence[_Row], block: int) -> int:
    """How many make up the largest frame."""
    largest: int = max(numbers[2] * numbers[3] for numbers, _ in rows)
    return -(-largest // block)
