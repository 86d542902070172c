"""remap-head, convert and predict as a user runs them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from k710.labels.orders import class_names
from k710.video.frames import read_frames
from support.command_line import k710
from support.small_shards import write_video
from support.tiny_models import CONFIG, published
from uniformerv2.augment.transforms import evaluation_clip
from uniformerv2.dataset.frames import view_frames


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small model with a K710 head, as OpenGVLab publishes them."""
    published(tmp_path / "k710.pyth", replace(CONFIG, size=32))
    return tmp_path


def test_a_person_sees_which_classes_went_where(checkpoint: Path) -> None:
    done = k710("remap-head", "k710.pyth", "--target", "k400", cwd=checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "From: 710 classes of k710 in opengvlab order, as such tensor names have them: no record"
    )
    assert lines[1] == "To:   400 classes of k400 in opengvlab order"
    assert lines[2] == f"  row   0  {class_names()[0]}  (was row 0)"
    assert lines[5] == f"  row 399  {class_names()[399]}  (was row 399)"
    assert lines[6].endswith("k710_k400.pyth")
    told = ("--target", "k400", "--source-family", "alphabetical")
    done = k710("remap-head", "k710.pyth", *told, "--out", "b.pyth", cwd=checkpoint)
    assert done.stdout.splitlines()[0].endswith("order, as --source-family says: no record")
    done = k710("remap-head", "k710.pyth", *told, "--json", "--out", "b.pyth", cwd=checkpoint)
    said = json.loads(done.stdout)
    assert said["known_by"] == "told" and said["first_class"] == min(class_names()[:400])
    done = k710("remap-head", "k710_k400.pyth", *told, cwd=checkpoint)
    assert done.returncode == 1
    assert "only one of 710" in done.stderr


def test_convert_and_back(checkpoint: Path) -> None:
    done = k710("convert", "k710.pyth", "--to", "mmaction2", "--out", "m.pth", cwd=checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == "To:   710 classes of k710 in alphabetical order"
    done = k710("convert", "m.pth", "--to", "opengvlab", "--out", "o.pyth", cwd=checkpoint)
    ways = [torch.load(checkpoint / n, weights_only=True) for n in ("k710.pyth", "o.pyth")]
    before, after = (way["model_state"] for way in ways)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_video_has_the_classes_that_the_model_gives_it(checkpoint: Path) -> None:
    model = published(checkpoint / "k710.pyth", replace(CONFIG, size=32))
    write_video(checkpoint / "a.mp4")
    shared = ("predict", "a.mp4", "--checkpoint", "k710.pyth", "--json")
    done = k710(*shared, "--frames", 4, "--views", 2, "--crops", 3, cwd=checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    scores = []
    for view in (0, 1):
        frames = read_frames(checkpoint / "a.mp4", view_frames(20, 4, view, 2))
        clips = [evaluation_clip(torch.from_numpy(frames), 32, crop) for crop in (0, 1, 2)]
        scores.append(model(torch.stack(clips)).softmax(-1))
    best = torch.cat(scores).mean(0).topk(5)
    assert [one["row"] for one in found] == best.indices.tolist()
    assert [one["name"] for one in found] == [class_names()[row] for row in best.indices]
    assert [one["probability"] for one in found] == pytest.approx(best.values.tolist(), rel=1e-4)
    done = k710("predict", "a.mp4", "--checkpoint", "k710.pyth", cwd=checkpoint)
    assert len(done.stdout.strip().splitlines()) == 8


def test_scores_that_are_no_numbers_are_said(checkpoint: Path) -> None:
    write_video(checkpoint / "a.mp4")
    saved = torch.load(checkpoint / "k710.pyth", weights_only=True)
    for name in ("norm.weight", "proj.2.weight", "proj.0.weight"):  # finite, and too large
        for key, tensor in saved["model_state"].items():
            if key.endswith(name):
                tensor.fill_(3e38)
    torch.save(saved, checkpoint / "large.pyth")
    saved["model_state"]["backbone.transformer.balance"].fill_(torch.nan)
    torch.save(saved, checkpoint / "nan.pyth")
    for name, said in (("large", "What the model says of"), ("nan", "holds numbers that are none")):
        done = k710("predict", "a.mp4", "--checkpoint", f"{name}.pyth", cwd=checkpoint)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr and "Traceback" not in done.stderr


def test_what_is_no_video_is_said(checkpoint: Path) -> None:
    done = k710("predict", "k710.pyth", "--checkpoint", "k710.pyth", cwd=checkpoint)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    done = k710("predict", "a.mp4", "--checkpoint", "k710.pyth", "--crops", 2, cwd=checkpoint)
    assert done.returncode == 2
