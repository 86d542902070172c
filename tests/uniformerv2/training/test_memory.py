"""What can't fit is refused from the estimate; what might fit is not."""

import pytest
import torch

from k710.errors import RecipeError
from support.small_runs import small
from uniformerv2.distributed import Ranks
from uniformerv2.recipe_toml import published_recipes, read_recipe
from uniformerv2.training.memory import check_memory

L14 = ("model.arch=l14", "model.size=224", "model.depth=24", "model.global_layers=[22, 23]")
ALONE = Ranks(0, 1, 1, torch.device("cpu"))


def with_memory(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr("uniformerv2.training.memory.usable_memory", lambda: int(gib * 2**30))


@pytest.mark.parametrize(
    "setting",
    [
        "data.frames=1000000",
        "model.width=65536",
        "data.repetitions=4096",
        "run.clips_per_gpu=4096",
        "model.global_mlp_ratio=64",
    ],
)
def test_what_can_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    with_memory(monkeypatch, 8)
    base = (*L14, "data.batch=4096", "run.clips_per_gpu=1")
    check_memory(small(*base), ALONE)
    more = ("model.width=8192",) if "ratio" in setting else ()
    with pytest.raises(RecipeError, match=r"needs at least [\d,.]+ GiB of memory .* are 8\.0\."):
        check_memory(small(*base, *more, setting), ALONE)


def test_what_is_published_fits_where_it_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, 80)
    for name in published_recipes():
        check_memory(read_recipe(name), ALONE)


def test_processes_share_a_machine_and_sharded_ones_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = small(*L14, "run.clips_per_gpu=1", "run.sharding=fsdp2")
    eight = Ranks(0, 8, 8, torch.device("cpu"))
    with_memory(monkeypatch, 16)
    check_memory(recipe, eight)
    with_memory(monkeypatch, 8)
    check_memory(recipe, ALONE)
    with pytest.raises(RecipeError, match=r"1\.[\d]+ GiB of memory for each process, and .* 1\.0"):
        check_memory(recipe, eight)
