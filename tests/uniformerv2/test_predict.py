"""The classes of a video, and of several: what `k710 predict` is made of."""

from pathlib import Path

import pytest
import torch

from k710.errors import MediaError, WeightsError
from support.small_shards import write_video
from uniformerv2.predict import predict, predict_videos


class Spy(torch.nn.Module):
    """Says the same of all clips, and keeps them."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.seen: list[torch.Tensor] = []

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.seen.append(clips)
        return self.logits.expand(len(clips), -1)


def test_one_video_and_several_have_the_same_classes(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    spy = Spy(0.0, 2.0, 1.0)
    best = predict(spy, tmp_path / "a.mp4", None, size=32, clip_frames=4, crops=3, top=2)
    assert [(one.name, one.row) for one in best] == [("class 1", 1), ("class 2", 2)]
    assert best[0].probability == pytest.approx(torch.tensor([0.0, 2, 1]).softmax(0)[1].item())
    assert [tuple(clips.shape) for clips in spy.seen] == [(3, 3, 4, 32, 32)]
    both = predict_videos(
        spy, [tmp_path / "a.mp4"] * 2, None, size=32, clip_frames=4, crops=3, top=2
    )
    assert both == [best, best]


def test_what_can_not_be_said_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("no video")
    for logits in ((torch.nan, 1.0), (torch.inf, 1.0), (-torch.inf, -torch.inf)):
        with pytest.raises(WeightsError, match=r"What the model says of '.*a\.mp4' is no number"):
            predict(Spy(*logits), tmp_path / "a.mp4", None, size=32)
    with pytest.raises(MediaError):
        predict(Spy(1.0), tmp_path / "b.mp4", None, size=32)
    with pytest.raises(ValueError, match="must be 1 or 3"):
        predict(Spy(1.0), tmp_path / "a.mp4", None, size=32, crops=2)
