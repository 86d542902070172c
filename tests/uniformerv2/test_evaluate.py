"""Each clip counts once: the probabilities of its views, summed, of its dataset's classes."""

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch

from k710.errors import LabelError, StageError, WeightsError
from k710.files import sha256_of
from k710.labels.orders import head_map
from k710.video.frames import read_frames
from support.small_runs import small, work_in
from support.small_shards import all_made, without_copies
from support.small_tables import rewrite_table
from uniformerv2.augment.transforms import evaluation_clip
from uniformerv2.config import Config
from uniformerv2.data import Loader
from uniformerv2.dataset.clips import read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.frames import Sampling, view_frames
from uniformerv2.dataset.shard_reader import ByteSpan, ShardReader
from uniformerv2.distributed import Ranks
from uniformerv2.evaluate import Evaluated, EvalViews, evaluate_model, recipe_of
from uniformerv2.evaluation.predictions import class_accuracies, confusions, write_predictions
from uniformerv2.evaluation.scoring import Look, Scores, score_clips
from uniformerv2.model import UniFormerV2
from uniformerv2.recipe import Published
from uniformerv2.recipe_toml import to_toml
from uniformerv2.weights.class_order import ClassOrder
from uniformerv2.weights.convert import remap_head
from uniformerv2.weights.files import write_tensors
from uniformerv2.weights.load import load_model, make_record, read_checkpoint

ALONE = Ranks(0, 1, 1, torch.device("cpu"))
K710 = dataclasses.replace(small().model, num_classes=710)
SHORT = EvalViews(num_clips=2, num_crops=3, num_frames=4, workers=0, batch=5)


def checkpoint(path: Path, config: Config = K710, family: Any = "alphabetical") -> Path:
    """A model of K710 with drawn weights, large enough to tell clips apart."""
    torch.manual_seed(3)
    model = UniFormerV2(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    dataset: Any = {710: "k710", 400: "k400"}[config.num_classes]
    record = make_record(config, ClassOrder(dataset, family), "k710")
    write_tensors(path, model.state_dict(), record=record, wrapper="model_state")
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return work_in(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model") / "k710.safetensors")


def evaluated(model: Path, work: Path, views: EvalViews = SHORT, **options: Any) -> Evaluated:
    found = evaluate_model(model, "k400/train", views, work=work, device="cpu", **options)
    assert found is not None
    return found


def rows_of(found: Evaluated) -> list[Any]:
    return rows_at(found.path)


def rows_at(path: Path | str) -> list[Any]:
    with duckdb.connect() as con:
        return con.execute("from read_parquet($path)", {"path": str(path)}).fetchall()


def by_hand(path: Path, work: Path, clips: int, crops: int, frames: int) -> dict[str, np.ndarray]:
    """Clip -> the sum of probabilities of each class of K400, in the order of its head."""
    found = read_checkpoint(path)
    model = load_model(found)
    order = ClassOrder("k400", found.order.family)  # type: ignore[union-attr]
    place = {row: at for at, row in enumerate(found.order.rows())}  # type: ignore[union-attr]
    view = read_view(work, "k400/train")
    sums = {}
    for at, clip_id in enumerate(view.clip_ids):
        part = ByteSpan(
            clip_id,
            int(view.shards[at]),
            int(view.offsets[at]),
            int(view.num_bytes[at]),
            view.digests[at].decode(),
        )
        (content,) = ShardReader(work / "shards").read([part])
        total = 0
        for clip in range(clips):
            chosen = view_frames(int(view.num_frames[at]), frames, clip, clips)
            pixels = torch.from_numpy(np.stack([read_frames(content, [i])[0] for i in chosen]))
            for crop in (0, 1, 2) if crops == 3 else (1,):
                with torch.no_grad():
                    x = evaluation_clip(pixels, found.config.size, crop)[None]
                    logits = model(x)[0]
                total = total + logits[[place[row] for row in order.rows()]].softmax(0)
        sums[clip_id] = total.numpy()  # type: ignore[attr-defined]
    return sums


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (3, 3)])
def test_scores_are_sums_of_probabilities(model: Path, work: Path, clips: int, crops: int) -> None:
    found = evaluated(model, work, dataclasses.replace(SHORT, num_clips=clips, num_crops=crops))
    expected = by_hand(model, work, clips, crops, 4)
    classes = head_map("k400", "alphabetical")
    rows = rows_of(found)
    assert [row[1] for row in rows] == sorted(expected)
    for view, clip_id, _label, top, sums, views in rows:
        assert (view, views) == ("k400/train", clips * crops)
        best = np.argsort(-expected[clip_id], kind="stable")[:5]
        assert top == [classes[at] for at in best]
        np.testing.assert_allclose(sums, expected[clip_id][best], rtol=1e-4)
    hits = [top[0] == label for _, _, label, top, *_ in rows]
    assert found.top1 == pytest.approx(sum(hits) / 12)
    assert found.top5 == pytest.approx(sum(label in top for _, _, label, top, *_ in rows) / 12)


def test_accuracies_are_those_of_the_answers(model: Path, tmp_path: Path) -> None:
    """A model that says one class of all clips, one that has fewer of them, and another second."""
    work = work_in(tmp_path)
    view = read_view(work, "k400/train")
    first, second = sorted(set(view.labels.tolist()))[:2]
    fewer = [view.clip_ids[row] for row in np.flatnonzero(view.labels == first)[1:]]
    rewrite_table(work / "index.parquet", f"from whole where not list_contains({fewer}, clip_id)")
    found = read_checkpoint(model)
    tensors = {name: tensor.clone() for name, tensor in found.tensors.items()}
    order = found.order.rows()  # type: ignore[union-attr]
    tensors["head.bias"][order.index(first)] = 300
    tensors["head.bias"][order.index(second)] = 200
    path, record = tmp_path / "biased.safetensors", make_record(found.config, found.order, "k710")
    write_tensors(path, tensors, record=record, wrapper="model_state")
    tested = evaluated(path, work)
    rows = rows_of(tested)
    assert all(row[3][:2] == [first, second] for row in rows)
    assert (tested.videos, tested.listed) == (10, 12)
    assert tested.top1 == pytest.approx(1 / 10)
    assert tested.top5 == pytest.approx(sum(row[2] in row[3] for row in rows) / 10)
    assert tested.top5 >= 4 / 10
    assert tested.mean_class == pytest.approx(1 / 4)
    assert [one.top1 for one in class_accuracies(tested.path)] == [0.0, 0.0, 0.0, 1.0]


def test_the_hash_is_of_clips_and_labels(model: Path, work: Path, tmp_path: Path) -> None:
    """As sha256sum tells it of the list: a line for each clip, its name and its row of K710."""
    with duckdb.connect() as con:
        rows = con.execute(
            "select clip_id, label from read_parquet($path) where view = 'k400/train' order by all",
            {"path": str(work / "manifest.parquet")},
        ).fetchall()
    text = "".join(f"{clip_id} {label}\n" for clip_id, label in rows)
    found = evaluated(model, work)
    assert found.list_sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_a_k710_model_is_tested_as_its_remapped_head_would_be(
    model: Path, work: Path, tmp_path: Path
) -> None:
    remapped = remap_head(model, "k400", out=tmp_path / "k400.safetensors").path
    assert rows_of(evaluated(model, work)) == rows_of(evaluated(remapped, work))
    turned = remap_head(model, "k400", family="opengvlab", out=tmp_path / "other.safetensors").path
    rows, others = (rows_of(evaluated(each, work)) for each in (model, turned))
    assert [row[:4] for row in rows] == [row[:4] for row in others]


@pytest.mark.parametrize("options", [{"batch": 1}, {"batch": 12}, {"workers": 2}])
def test_neither_batch_nor_workers_count(model: Path, work: Path, options: dict[str, int]) -> None:
    rows = rows_of(evaluated(model, work))
    others = rows_of(evaluated(model, work, dataclasses.replace(SHORT, **options)))
    assert [row[:4] for row in rows] == [row[:4] for row in others]
    for row, other in zip(rows, others, strict=True):
        np.testing.assert_allclose(row[4], other[4], rtol=1e-5)


def test_a_model_without_the_classes_is_refused(work: Path, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "k400.safetensors", dataclasses.replace(K710, num_classes=400))
    with pytest.raises(LabelError, match="has no row for 310 classes"):
        evaluate_model(path, "k710/train", SHORT, work=work, device="cpu")
    other = tmp_path / "other.safetensors"
    recorded = read_checkpoint(path)
    write_tensors(
        other,
        recorded.tensors,
        record=make_record(recorded.config, None, "k710"),
        wrapper="model_state",
    )
    with pytest.raises(WeightsError, match="classes of none of Kinetics"):
        evaluated(other, work)


def test_what_is_no_number_is_no_answer(model: Path, work: Path, tmp_path: Path) -> None:
    found = read_checkpoint(model)
    tensors = {name: tensor.clone() for name, tensor in found.tensors.items()}
    tensors["balance"].fill_(torch.nan)
    path, record = tmp_path / "nan.safetensors", make_record(found.config, found.order, "k710")
    write_tensors(path, tensors, record=record, wrapper="model_state")
    with pytest.raises(WeightsError, match=r"'balance' holds numbers that are none"):
        evaluated(path, work)
    tensors = {name: tensor.clone() for name, tensor in found.tensors.items()}
    tensors["norm.weight"].fill_(3e38)
    tensors["head.weight"].fill_(3e38)
    write_tensors(path, tensors, record=record, wrapper="model_state")
    with pytest.raises(WeightsError, match=r"What the model says of \S+ is no number"):
        evaluated(path, work)


def test_a_view_without_clips_is_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError):
        evaluated(model, without_copies(tmp_path))


def test_the_list_is_told_and_what_of_it_is_missing(
    model: Path, work: Path, tmp_path: Path
) -> None:
    """Clips that are in no shard are missing; where shards lie changes nothing."""
    found = evaluated(model, work)
    assert (found.videos, found.listed, found.missing) == (12, 12, 0.0)
    fewer = work_in(tmp_path)
    shard = sorted((fewer / "shards").glob("*.tar"))[0]
    rewrite_table(fewer / "index.parquet", f"from whole where shard <> {int(shard.stem)}")
    partly = evaluated(model, fewer)
    assert partly.videos < 12 and partly.listed == 12
    assert partly.missing == pytest.approx(1 - partly.videos / 12)
    assert partly.list_sha256 == found.list_sha256
    said = json.loads((partly.path.parent / "summary.json").read_text())
    assert said["videos"] == partly.videos and said["list_sha256"] == found.list_sha256


def test_a_folder_that_can_not_be_written_to_is_said_before_the_test(
    model: Path, work: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    seen: list[int] = []
    with pytest.raises(StageError, match="can't be used"):
        evaluated(model, work, out=tmp_path / "file", report=lambda done, _: seen.append(done))
    assert seen == []


@pytest.mark.parametrize("room", [0, 700])
def test_a_full_disk_is_worded(model: Path, work: Path, tmp_path: Path, room: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(*_: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))

    try:
        with pytest.raises(StageError, match="No room left to write in"):
            evaluated(model, work, out=tmp_path / "out", report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list((tmp_path / "out").iterdir())


def test_a_manifest_that_is_built_meanwhile_changes_nothing(
    model: Path, work: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(work, tmp_path / "work")
    expected = evaluated(model, own)

    def build(*_: int) -> None:
        (own / "manifest.parquet").unlink(missing_ok=True)

    found = evaluated(model, own, report=build)
    assert (found.listed, found.list_sha256) == (expected.listed, expected.list_sha256)


def test_a_run_that_goes_on_meanwhile_changes_nothing(
    model: Path, work: Path, tmp_path: Path
) -> None:
    """Its next step comes, and the one that is tested is removed."""
    run = tmp_path / "run"

    def step(number: int) -> Path:
        folder = run / f"step_{number:09d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(model.read_bytes() if number == 1 else b"other")
        (folder / "state.json").write_text("{}")
        return folder

    def go_on(*_: int) -> None:
        step(2)
        shutil.rmtree(run / "step_000000001", ignore_errors=True)

    first = step(1)
    found = evaluated(run, work, report=go_on)
    assert found.checkpoint == str(first / "model.safetensors")
    said = json.loads(Path(f"{found.path}.json").read_text())
    assert said["inputs"]["checkpoint"] == sha256_of(model)


def test_the_same_test_gives_the_same_bytes(model: Path, work: Path, tmp_path: Path) -> None:
    one, other = (evaluated(model, work, out=tmp_path / name).path for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


def test_files_of_one_name_are_tested_each_in_a_folder_of_its_own(
    model: Path, work: Path, tmp_path: Path
) -> None:
    ours, theirs = (tmp_path / name / "best.safetensors" for name in ("ours", "theirs"))
    for path in (ours, theirs):
        path.parent.mkdir()
    ours.write_bytes(model.read_bytes())
    checkpoint(theirs, dataclasses.replace(K710, num_classes=400))
    found = [evaluated(path, work) for path in (ours, theirs)]
    assert found[0].path != found[1].path
    assert all(each.path.parent.parent.name.startswith("best_") for each in found)
    assert evaluated(ours, work).path == found[0].path


def test_part_of_the_environment_of_torchrun_is_no_place(
    model: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(StageError, match=r"^WORLD_SIZE is set, and LOCAL_WORLD_SIZE not"):
        evaluated(model, work)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_a_gpu_that_is_not_there_is_said(model: Path, work: Path) -> None:
    with pytest.raises(StageError, match=r"^PyTorch sees no GPU: k710 doctor tells why"):
        evaluate_model(model, "k400/train", SHORT, work=work, device="cuda")


def test_frames_out_of_order(model: Path, work: Path) -> None:
    def tested(seed: int | None, frames: int = 4) -> list[Any]:
        views = dataclasses.replace(SHORT, shuffle_seed=seed, num_frames=frames)
        return [row[3:5] for row in rows_of(evaluated(model, work, views))]

    assert tested(1) == tested(1)
    assert tested(1) != tested(2) and tested(1) != tested(None)
    assert tested(1, frames=1) == tested(None, frames=1)  # one frame has one order


def test_the_same_frames_are_seen_in_another_order(work: Path) -> None:
    """A model that only adds up what is in each frame can't tell."""

    class Sum(torch.nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            seen.append(clips)
            return clips.double().sum((3, 4)).sum(2).float()

    seen: list[torch.Tensor] = []
    view = read_view(work, "k400/train")
    reading = Reading(ShardReader(work / "shards"), Sampling(4))
    found = []
    for seed in (None, 1):
        how = Look([0, 1, 2], [5, 6, 7], 32, shuffle_seed=seed)
        with Loader(view, reading, batch=12) as loader:
            found.append(score_clips(Sum(), loader, ALONE, how))
    np.testing.assert_allclose(found[0].sums, found[1].sums, rtol=1e-5)
    ordered, shuffled = seen
    assert not torch.equal(ordered, shuffled)
    for clip, other in zip(ordered, shuffled, strict=True):
        frames = [frame.numpy().tobytes() for frame in clip.unbind(1)]
        assert sorted(frames) == sorted(frame.numpy().tobytes() for frame in other.unbind(1))


def test_accuracies_by_hand() -> None:
    labels = np.array([1, 1, 1, 2])
    top = np.array([[1, 2], [1, 2], [2, 1], [1, 2]])
    scores = Scores(np.arange(4), labels, top, np.ones((4, 2), np.float32))
    assert scores.accuracy() == 0.5
    assert scores.accuracy(2) == 1.0
    assert scores.mean_class_accuracy() == pytest.approx((2 / 3 + 0) / 2)


def test_classes_and_confusions_by_hand(tmp_path: Path) -> None:
    labels = np.array([0, 0, 0, 1, 2])
    top = np.array([[0, 1], [1, 0], [1, 0], [1, 0], [0, 1]])
    scores = Scores(np.arange(5), labels, top, np.ones((5, 2), np.float32))
    path = write_predictions(tmp_path, read_view(all_made(), "k400/train"), scores, 1, {})
    found = [(one.clips, round(one.top1, 3), one.top5) for one in class_accuracies(path)]
    assert found == [(1, 0.0, 0.0), (3, 0.333, 1.0), (1, 1.0, 1.0)]
    pairs = confusions(path)
    assert [(pair.clips, round(pair.share, 3)) for pair in pairs] == [(2, 0.667), (1, 1.0)]
    assert pairs[0].name == class_accuracies(path)[1].name
    assert len(confusions(path, most=1)) == 1


def test_recipe_and_what_was_published_come_from_the_run(
    model: Path, work: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    step = run / "step_000000012"
    step.mkdir(parents=True)
    assert recipe_of(run) is None
    shutil.copy(model, step / "model.safetensors")
    (step / "state.json").write_text("{}")
    recipe = dataclasses.replace(
        small("eval.clips=1", "eval.crops=1"), published=Published(80.0, "4x1x1", 95.0)
    )
    (run / "recipe.toml").write_text(to_toml(recipe))
    assert recipe_of(run) == recipe_of(step) == recipe_of(step / "model.safetensors") == recipe
    found = evaluate_model(run, "k400/val", EvalViews(workers=0), work=work, device="cpu")
    assert found is not None
    assert (found.frames, found.crops, found.clips) == (4, 1, 1)
    assert found.published == recipe.published
    mixed = evaluate_model(
        run, "k400/val", EvalViews(workers=0, shuffle_seed=1), work=work, device="cpu"
    )
    assert mixed is not None and mixed.published is None  # nobody has published that
    said = json.loads((mixed.path.parent / "summary.json").read_text())
    assert (said["shuffle_seed"], said["precision"], said["missing"]) == (1, "fp32", 0.0)
    file = evaluate_model(step / "model.safetensors", "k400/val", EvalViews(workers=0), work=work)
    assert file is not None and file.path.parent.parent.name == "run_step_000000012"
    assert evaluated(run, work, EvalViews(workers=0)).published is None  # k400/train was not


def two_processes(path: Path, work: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    """`k710 evaluate` of k400/train under torchrun, five clips at a time for each of two."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "k710_cli", "evaluate", str(path)]
    command += ["--view", "k400/train", "--clips", "2", "--crops", "3", "--frames", "4"]
    command += ["--batch", "5", "--work", str(work), "--out", str(out)]
    command += ["--device", "cpu", "--json"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_two_processes_test_each_clip_once(work: Path, tmp_path: Path) -> None:
    """Twelve clips in batches of five for each of two: the last ones have less, or nothing."""
    path = checkpoint(tmp_path / "k710.safetensors")
    alone = evaluated(path, work)
    done = two_processes(path, work, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["videos"] == 12 and said["top1"] == alone.top1
    rows, others = rows_of(alone), rows_at(said["path"])
    assert [row[:4] for row in rows] == [row[:4] for row in others]


def test_a_broken_clip_of_one_process_is_no_traceback_of_the_other(
    model: Path, tmp_path: Path
) -> None:
    work = work_in(tmp_path)
    view = read_view(work, "k400/train")
    with (work / "shards" / f"{view.shards[3]:06d}.tar").open("r+b") as file:
        file.seek(int(view.offsets[3]) + int(view.num_bytes[3]) // 2)
        file.write(b"\xff" * 500)
    done = two_processes(model, work, tmp_path / "two")
    assert done.returncode == 1
    assert f"{view.clip_ids[3]} (shard " in done.stderr
    assert "Traceback" not in done.stderr.partition("torch/distributed/elastic")[0]
