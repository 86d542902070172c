"""Batches out of real shards: the same on any number of ranks and workers, whatever happens."""

import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from k710.errors import MediaError, StageError
from k710.video.frames import read_frames
from support.paths import PYTHONPATH
from support.small_batches import reading, said
from support.small_shards import all_made, copy_of
from support.waiting import wait_until
from uniformerv2.data import Loader
from uniformerv2.dataset.clips import ViewIndex, read_view
from uniformerv2.dataset.frames import Sampling

NUM_CLIPS = 12


@pytest.fixture(scope="module")
def view() -> ViewIndex:
    view = read_view(all_made(), "k400/train")
    assert len(view.clip_ids) == NUM_CLIPS and len(view.shard_sizes) > 1
    return view


def taken(view: ViewIndex, steps: int, first_step: int = 0, **options: Any) -> dict[int, list[Any]]:
    """Step -> what its clips are, of one rank."""
    own = options.pop("reading", None) or reading()
    found: dict[int, list[Any]] = {}
    with Loader(view, own, **{"batch": 4, **options}) as loader:
        parts = options.get("accumulate", 1)
        for batch in itertools.islice(loader.batches(first_step), steps * parts):
            assert len(batch.frames) == len(batch.rows) == len(batch.labels)
            found.setdefault(batch.step, []).extend(said(batch))
    return found


@given(
    shares=st.sampled_from([(b, r, p) for b in (2, 4, 6, 12) for r in (1, 2, 3) for p in (1, 2)]),
    first=st.integers(0, 9),
    seed=st.integers(0, 3),
    window=st.integers(1, 4),
)
@settings(max_examples=15)
def test_ranks_parts_and_where_a_run_goes_on_change_no_batch(
    view: ViewIndex, shares: tuple[int, int, int], first: int, seed: int, window: int
) -> None:
    batch, ranks, parts = shares
    own = reading(seed=seed, sampling=Sampling(1))
    common = {"batch": batch, "window_shards": window, "reading": own}
    if batch % (ranks * parts):
        with pytest.raises(ValueError, match="can't be shared"):
            taken(view, 1, **common, ranks=ranks, accumulate=parts)
        return
    expected = taken(view, first + 2, **common)
    shared = [
        taken(view, 2, first, **common, rank=rank, ranks=ranks, accumulate=parts)
        for rank in range(ranks)
    ]
    for step in (first, first + 1):
        assert [clip for each in shared for clip in each[step]] == expected[step]


@given(
    batch=st.integers(1, 6),
    workers=st.integers(1, 3),
    first=st.integers(0, 20),
    memory=st.sampled_from([None, 4096, 200_000]),
    ahead=st.booleans(),
)
@settings(max_examples=5)
def test_workers_change_no_batch_wherever_a_run_goes_on(
    view: ViewIndex, batch: int, workers: int, first: int, memory: int | None, ahead: bool
) -> None:
    expected = taken(view, 3, first, batch=batch)
    options = {"batch": batch, "workers": workers, "memory_bytes": memory, "ahead": ahead}
    assert taken(view, 3, first, **options) == expected


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 3, "memory_bytes": 4096}])
def test_workers_change_nothing(view: ViewIndex, options: dict[str, Any]) -> None:
    expected = taken(view, 9, reading=reading(repetitions=2))
    assert taken(view, 9, reading=reading(repetitions=2), **options) == expected
    assert taken(view, 2, 7, reading=reading(repetitions=2), **options) == {
        step: expected[step] for step in (7, 8)
    }
    assert all(len(draws) == 2 and draws[0] != draws[1] for *_, draws, _ in expected[0])


def test_each_clip_comes_once_an_epoch_and_as_it_is_in_its_shard(view: ViewIndex) -> None:
    own = reading()
    epochs = [taken(view, 3, 3 * epoch, reading=own) for epoch in range(2)]
    rows = [[row for step in epoch.values() for row, *_ in step] for epoch in epochs]
    assert sorted(rows[0]) == sorted(rows[1]) == list(range(NUM_CLIPS))
    assert rows[0] != rows[1]
    frames = {row: content for step in epochs[0].values() for row, _, _, content in step}
    for row in range(NUM_CLIPS):
        tar = (all_made() / "shards" / f"{view.shards[row]:06d}.tar").read_bytes()
        video = tar[view.offsets[row] :][: view.num_bytes[row]]
        every = {picture.tobytes() for picture in read_frames(video, range(20))}
        size = len(frames[row]) // 4
        pictures = [frames[row][size * place :][:size] for place in range(4)]
        assert set(pictures) <= every and len(set(pictures)) > 1


def test_batches_that_are_kept_stay_as_they_are(view: ViewIndex) -> None:
    expected = taken(view, 12)
    size = 2 * 4 * 4 * 48 * 72 * 3  # two batches
    with Loader(view, reading(), batch=4, workers=2, memory_bytes=size) as loader:
        kept = list(itertools.islice(loader.batches(), 12))
        assert {batch.step: said(batch) for batch in kept} == expected
        del kept
        for first in (5, 0):  # given up half-way, and begun again
            for batch in loader.batches(first):
                assert said(batch) == expected[batch.step]
                if batch.step == first + 3:
                    break


def test_workers_rest_between_batches_where_nothing_is_read_ahead(view: ViewIndex) -> None:
    four_batches = 4 * 12 * 4 * 48 * 72 * 3

    def blocks_in_use(*, ahead: bool, at_least: int) -> int:
        with Loader(
            view, reading(), batch=12, workers=2, memory_bytes=four_batches, ahead=ahead
        ) as loader:
            batches = loader.batches()
            kept = [next(batches), next(batches)]
            assert loader.workers is not None and len(kept) == 2
            spans = loader.workers.ring.spans
            wait_until(lambda: len(spans) >= at_least, "too little is read")
            time.sleep(0.5)  # if they went on, they would have begun another batch
            return len(spans)

    assert blocks_in_use(ahead=False, at_least=6) == 6  # of 4 clips each
    assert blocks_in_use(ahead=True, at_least=7) > 6


def test_what_is_copied_elsewhere_keeps_its_memory_as_long(view: ViewIndex) -> None:
    four_batches = 4 * 12 * 4 * 48 * 72 * 3
    with Loader(
        view, reading(), batch=12, workers=2, device="meta", memory_bytes=four_batches
    ) as loader:
        batches = loader.batches()
        batch = next(batches)
        held = {block.ctypes.data for block in batch.copied_from}
        assert len(held) == 3

        def addresses() -> set[int]:
            return {block.ctypes.data for block in next(batches).copied_from}

        assert all(held.isdisjoint(addresses()) for _ in range(12))
        batch.copied_from.clear()
        assert any(held & addresses() for _ in range(12))


def test_one_iterator_at_a_time(view: ViewIndex) -> None:
    with Loader(view, reading(), batch=4, workers=1) as loader:
        batches = loader.batches()
        first = said(next(batches))
        with pytest.raises(RuntimeError, match="one run of the workers at a time"):
            next(loader.batches(3))
        batches.close()
        assert said(next(loader.batches())) == first
    with pytest.raises(StageError, match="The workers have ended"):
        next(loader.batches())


def lay_on_their_sides(view: ViewIndex, work: Path) -> None:
    """Say in the clips of shards that their pictures must be turned clockwise: no byte moves."""
    for row in range(NUM_CLIPS):
        tar = work / "shards" / f"{view.shards[row]:06d}.tar"
        data = bytearray(tar.read_bytes())
        at = data.index(b"tkhd", view.offsets[row]) + 44
        for place, number in zip((0, 4, 12, 16), (0, 1 << 16, -(1 << 16), 0), strict=True):
            data[at + place : at + place + 4] = number.to_bytes(4, "big", signed=True)
        tar.write_bytes(data)


@pytest.mark.parametrize("workers", [0, 1])
def test_clips_that_lie_on_their_side_in_a_shard_are_loaded_upright(
    view: ViewIndex, tmp_path: Path, workers: int
) -> None:
    # Earlier versions stored such copies, with the size that the pictures have as they lie.
    work = copy_of(all_made(), tmp_path / "work")
    lay_on_their_sides(view, work)
    for chances in ({"chances": None}, {}):
        upright, turned = (
            [
                clip
                for clips in taken(view, 3, reading=one, workers=workers).values()
                for clip in clips
            ]
            for one in (reading(**chances), reading(work, **chances))
        )
        for (*_, before), (_, _, draws, after) in zip(upright, turned, strict=True):
            lying = np.frombuffer(before, np.uint8).reshape(4, 48, 72, 3)
            standing = np.frombuffer(after, np.uint8).reshape(4, 72, 48, 3)
            assert np.array_equal(standing, np.rot90(lying, -1, axes=(1, 2)))
            for box in (draw.box for draw in draws):
                assert box.top + box.height <= 72 and box.left + box.width <= 48


@given(batch=st.integers(1, 5), ranks=st.integers(1, 4), parts=st.integers(1, 2))
@settings(max_examples=12)
def test_evaluation_sees_each_clip_once(
    view: ViewIndex, batch: int, ranks: int, parts: int
) -> None:
    own = reading(chances=None, views=2, sampling=Sampling(2))
    rows: list[int] = []
    steps = set()
    for rank in range(ranks):
        with Loader(
            view, own, batch=batch * ranks * parts, ranks=ranks, rank=rank, accumulate=parts
        ) as loader:
            batches = list(loader.batches())
        assert all(f.shape == (4, 48, 72, 3) for b in batches for f in b.frames)
        assert all(not b.draws or b.draws == [()] * len(b.rows) for b in batches)
        rows += [row for b in batches for row in b.rows]
        steps.add(len(batches))
    assert len(steps) == 1  # the same on all ranks
    assert sorted(rows) == list(range(NUM_CLIPS))


def test_evaluation_with_workers_is_in_the_order_of_the_view(view: ViewIndex) -> None:
    with Loader(view, reading(chances=None), batch=5, workers=2) as loader:
        for _ in range(2):
            batches = list(loader.batches())
            assert [b.rows for b in batches] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
            assert [b.labels.tolist() for b in batches] == [
                view.labels[b.rows].tolist() for b in batches
            ]
        assert [b.rows for b in loader.batches(2)] == [[10, 11]]


def test_what_is_prepared_takes_the_place_of_frames(view: ViewIndex) -> None:
    with Loader(view, reading(), batch=4) as loader:
        batch = next(loader.batches(prepare=lambda b: torch.stack(b.frames).sum()))
    assert batch.frames == [] and batch.prepared > 0


# --- broken clips


def test_another_clip_in_its_place_is_never_taken_for_it(view: ViewIndex, tmp_path: Path) -> None:
    work = copy_of(all_made(), tmp_path / "work")
    tar = work / "shards" / f"{view.shards[7]:06d}.tar"
    with tar.open("r+b") as file:  # of a run that packed other clips
        file.seek(int(view.offsets[7]) - 512)
        file.write(view.clip_ids[6].encode())
    for workers in (0, 1):
        with (
            pytest.raises(StageError, match=f"has no '{view.clip_ids[7]}' at byte"),
            Loader(view, reading(work), batch=12, workers=workers) as loader,
        ):
            next(loader.batches())


def damage(work: Path, view: ViewIndex, row: int) -> None:
    """Overwrite the middle of a clip in its shard."""
    tar = work / "shards" / f"{view.shards[row]:06d}.tar"
    with tar.open("r+b") as file:
        file.seek(int(view.offsets[row]))
        file.write(bytes(int(view.num_bytes[row])))


def test_a_broken_clip_is_replaced_the_same_way_everywhere(
    view: ViewIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = copy_of(all_made(), tmp_path / "work")
    damage(work, view, 7)
    whole = taken(view, 6)
    with caplog.at_level(logging.WARNING):
        found = taken(view, 6, reading=reading(work))
    assert sum(view.clip_ids[7] in message for message in caplog.messages) >= 2
    assert taken(view, 6, reading=reading(work), workers=2) == found
    halves = [taken(view, 6, reading=reading(work), ranks=2, rank=rank) for rank in (0, 1)]
    assert {step: halves[0][step] + halves[1][step] for step in range(6)} == found
    for step, clips in found.items():
        for clip, before in zip(clips, whole[step], strict=True):
            if before[0] == 7:
                assert clip[0] != 7 and clip[1] == view.labels[clip[0]]
            else:
                assert clip == before


def test_too_many_broken_clips_stop_the_run(view: ViewIndex, tmp_path: Path) -> None:
    work = copy_of(all_made(), tmp_path / "work")
    damage(work, view, 7)
    with Loader(view, reading(work), batch=4) as loader:
        with pytest.raises(MediaError, match=r"(?s)11 of \d+ clips are broken.*more than 1 %"):
            for _ in loader.batches():
                assert loader.totals.clips < 12 * NUM_CLIPS
        assert {broken.clip_id for broken in loader.totals.broken} == {view.clip_ids[7]}
    for row in range(NUM_CLIPS):
        damage(work, view, row)
    with (
        pytest.raises(MediaError, match="are broken"),
        Loader(view, reading(work), batch=4) as loader,
    ):
        next(loader.batches())


@pytest.mark.parametrize("workers", [0, 1])
def test_in_evaluation_a_broken_clip_is_named(
    view: ViewIndex, tmp_path: Path, workers: int
) -> None:
    work = copy_of(all_made(), tmp_path / "work")
    damage(work, view, 7)
    own = reading(work, chances=None)
    with (
        pytest.raises(MediaError, match=f"{view.clip_ids[7]}.*\n.*skip_broken"),
        Loader(view, own, batch=4, workers=workers) as loader,
    ):
        list(loader.batches())
    with Loader(view, own, batch=4, workers=workers, skip_broken=True) as loader:
        batches = list(loader.batches())
        assert [b.clip_id for b in batches[1].broken] == [view.clip_ids[7]]
        assert len(loader.totals.broken) == 1 and loader.totals.clips == NUM_CLIPS
    rows = [row for batch in batches for row in batch.rows]
    assert rows == [row for row in range(NUM_CLIPS) if row != 7]
    assert len(batches[1].frames) == len(batches[1].labels) == 3


def test_what_the_index_is_not_of_is_broken_too(view: ViewIndex, tmp_path: Path) -> None:
    import dataclasses

    other = dataclasses.replace(view, heights=view.heights + 2)
    with (
        pytest.raises(MediaError, match=r"\(4, 48, 72, 3\), and \(4, 50, 72, 3\) are expected"),
        Loader(other, reading(chances=None), batch=4) as loader,
    ):
        next(loader.batches())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_is_not_there_ends_the_run(
    view: ViewIndex, tmp_path: Path, workers: int
) -> None:
    work = copy_of(all_made(), tmp_path / "work")
    (work / "shards" / f"{view.shards[-1]:06d}.tar").unlink()
    with (
        pytest.raises(StageError, match="can't be read: No such file"),
        Loader(view, reading(work), batch=12, workers=workers) as loader,
    ):
        next(loader.batches())


def test_a_view_that_can_not_be_trained_on_is_refused(view: ViewIndex) -> None:
    import dataclasses

    with pytest.raises(StageError, match="12 clips in shards: fewer than a batch of 16"):
        Loader(view, reading(), batch=16)
    unlabelled = dataclasses.replace(view, labels=np.full(NUM_CLIPS, -1))
    with pytest.raises(StageError, match="without a label"):
        Loader(unlabelled, reading(), batch=4)
    Loader(unlabelled, reading(chances=None), batch=4).close()


# --- processes


def test_no_files_are_left_open(view: ViewIndex) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with Loader(view, reading(), batch=4, workers=2) as loader:
            next(loader.batches())
            assert loader.workers is not None
            pids = [process.pid for process in loader.workers.processes]
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1


def test_a_worker_that_dies_ends_the_run(view: ViewIndex) -> None:
    with Loader(view, reading(), batch=4, workers=2) as loader:
        batches = loader.batches()
        next(batches)
        assert loader.workers is not None
        loader.workers.processes[1].kill()
        with pytest.raises(StageError, match=r"died \(SIGKILL\).*\n.*fewer workers"):
            list(itertools.islice(batches, 1000))


_TRAINER = """
import sys
sys.path[:0] = {path!r}
from support.small_batches import reading
from support.small_shards import all_made
from pathlib import Path
from support.waiting import wait_until
from uniformerv2.data import Loader
from uniformerv2.dataset.clips import read_view
work = Path({work!r})
with Loader(read_view(work, "k400/train"), reading(work), batch=4, workers=2) as loader:
    for number, _ in enumerate(loader.batches()):
        if number == 3:
            print(*(process.pid for process in loader.workers.processes), flush=True)
"""


def test_nothing_is_left_of_a_trainer_that_is_killed(tmp_path: Path) -> None:
    code = _TRAINER.format(path=PYTHONPATH.split(os.pathsep), work=str(all_made()))
    shared_before = set(os.listdir("/dev/shm"))
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    pids = trainer.stdout.readline().split()
    assert len(pids) == 2 and all(Path(f"/proc/{pid}").exists() for pid in pids)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    trainer.stdout.close()
    wait_until(lambda: not any(map(_is_alive, pids)), "workers outlive their trainer")
    assert set(os.listdir("/dev/shm")) <= shared_before


def _is_alive(pid: str) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
