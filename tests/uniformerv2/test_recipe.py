"""Recipes say what was published; in and out of TOML; and no wrong key goes by unseen."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from k710.errors import RecipeError
from support.list_files import shared
from uniformerv2.config import SIZES
from uniformerv2.cost import CLIPS, cost_of, forward_macs, num_parameters, peak_flops
from uniformerv2.recipe import Published, Recipe, list_differences
from uniformerv2.recipe_toml import (
    RECIPES,
    change_recipe,
    find_fine_tuning_recipe,
    published_recipes,
    read_recipe,
    to_toml,
)

KINETICS = ("k710", "k400", "k600", "k700")


def published() -> dict[str, dict[str, Any]]:
    """Name -> the published settings, of Kinetics."""
    recipes = json.loads((shared("reference") / "recipes.json").read_text())["recipes"]
    split = {key: key.partition("/") for key in recipes}
    return {name: recipes[key] for key, (ds, _, name) in split.items() if ds in KINETICS}


# --- what was published


def test_there_is_one_for_each_published_result() -> None:
    assert published_recipes() == sorted(published())
    assert len(published_recipes()) == 34


def test_all_values_are_those_that_were_published() -> None:
    for name, theirs in published().items():
        recipe = read_recipe(name)
        model, optim, data = recipe.model, recipe.optim, recipe.data
        ours = {
            "frames": data.frames,
            "train_resolution": model.size,
            "test_resolution": model.size,
            "patch": model.patch,
            "width": model.width,
            "depth": model.depth,
            "heads": model.heads,
            "num_classes": model.num_classes,
            "return_list": list(model.global_layers),
            "mlp_factor": model.global_mlp_ratio,
            "mlp_dropout": list(model.global_dropout),  # type: ignore[arg-type]
            "cls_dropout": model.head_dropout,
            "backbone_drop_path_rate": model.drop_path,
            "drop_path_rate": model.global_drop_path,
            "no_lmhra": model.local == "none",
            "temporal_downsample": model.temporal_downsample,
            "frozen": model.frozen,
            "global_batch_videos": data.batch,
            "num_sample_repeated_aug": data.repetitions,
            "batch_per_gpu": recipe.run.clips_per_gpu,
            "base_lr": optim.lr,
            "warmup_start_lr": optim.start_lr,
            "end_lr": optim.end_lr,
            "warmup_epochs": optim.warmup_epochs,
            "max_epoch": optim.epochs,
            "betas": list(optim.betas),
            "eps": optim.eps,
            "weight_decay": optim.weight_decay,
            "clip_grad_norm": optim.clip_norm,
            "random_resized_crop_scale": list(recipe.augment.area),
            "random_resized_crop_ratio": list(recipe.augment.aspect),
            "hflip": recipe.augment.flip,
            "random_erasing_prob": recipe.augment.erase,
            "mixup": bool(recipe.augment.mixup or recipe.augment.cutmix),
            "rng_seed": recipe.run.seed,
        }
        assert ours == {key: theirs[key] for key in ours}, name
        assert recipe.augment.rand_augment and recipe.augment.colours == "reference"
        kept = theirs["grad_checkpoint_first_n_blocks"] if theirs["grad_checkpoint"] else 0
        assert model.checkpoint_blocks == kept
        assert (optim.label_smoothing, optim.layer_decay, optim.ema, optim.wise) == (
            *(0.0, None, None, None),
        )


def test_each_starts_from_what_was_published() -> None:
    for name, theirs in published().items():
        recipe = read_recipe(name)
        assert recipe.dataset == name.removeprefix("frozen_")[:4]
        assert recipe.data.val == f"{recipe.dataset}/val"
        if recipe.start.kind == "image":
            assert theirs["init"].startswith("CLIP") and "CLIP" in str(recipe.start.of)
            continue
        assert (recipe.start.kind, recipe.start.head) == ("video", "mapped")
        source = read_recipe(str(recipe.start.of))
        assert source.dataset == "k710"
        alike = ("size", "patch", "width", "depth", "frozen")
        assert all(getattr(source.model, k) == getattr(recipe.model, k) for k in alike)
        written = theirs["init"].split("/")[1].split(".pyth")[0].replace("uniformerv2_", "")
        assert written.replace("_8x", "_f8x") == recipe.start.of


def test_tests_are_those_of_the_published_numbers() -> None:
    for name, theirs in published().items():
        recipe, reported = read_recipe(name), theirs["reported"]
        if reported["top1"] is None:
            assert recipe.published is None and recipe.dataset == "k710"
            continue
        views = f"{recipe.data.frames}x{recipe.eval.crops}x{recipe.eval.clips}"
        assert recipe.published == Published(reported["top1"], views, reported["top5"])
        assert views == reported["views"], name


@pytest.mark.parametrize("name", published_recipes())
def test_a_header_says_all_that_a_reader_needs(name: str) -> None:
    text = (RECIPES / f"{name}.toml").read_text()
    head = text.split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    recipe = read_recipe(name)
    cost = cost_of(recipe)
    assert "arXiv 2211.09552" in head and f"Status: {recipe.status}" in head
    hours = f"{cost.gpu_hours:,.0f} H100-hour{'s' * (round(cost.gpu_hours) != 1)}"
    assert f"about {hours} with run.compile=true, and {cost.memory_gib:.0f} GiB" in head
    assert f"{cost.parameters / 1e6:.1f} M parameters" in head
    assert f"{cost.macs / 1e9:,.1f} GMACs a view here" in head
    if recipe.published is None:
        assert "none published" in head
    else:
        assert f"top-1 {recipe.published.top1}" in head
    command = re.search(r"# Command: k710 (\S+) (.*)", head)
    assert command
    if recipe.start.kind == "image":
        assert command[1] == "pretrain" and f"--recipe {name} --init " in command[2]
    else:
        frames = re.search(r"--frames (\d+)", command[2])
        assert f"--target {recipe.dataset} --from {recipe.start.of}" in command[2]
        assert (int(frames[1]) if frames else 8) == recipe.data.frames
        found = find_fine_tuning_recipe(recipe.dataset, recipe.model, recipe.data.frames)
        assert command[1] == "finetune" and found == name


def test_each_fault_of_the_published_settings_is_said_to_be_mended() -> None:
    for name, theirs in published().items():
        head = (RECIPES / f"{name}.toml").read_text().split("\n\n")[0]
        assert head.count("# Mended: ") == len(theirs["conflicts"]), name
        for conflict in theirs["conflicts"]:
            assert (
                "DELETE_SPECIAL_HEAD" if "DELETE_SPECIAL_HEAD" in conflict else conflict.split()[2]
            ) in head


# --- what they cost


def test_parameters_and_arithmetic_are_those_that_were_counted() -> None:
    assert num_parameters(SIZES["b16"]) == 114_616_320 + 174_278
    for name, theirs in published().items():
        recipe = read_recipe(name)
        model, frames = recipe.model, recipe.data.frames
        assert num_parameters(model) / 1e6 == pytest.approx(theirs["params_M"], abs=0.006)
        tokens = frames * (1 + (model.size // model.patch) ** 2)
        # Theirs: keys and values of all tokens, and each head's query as wide as a head alone.
        more = 2 * tokens * model.width * (model.width - (model.heads - 1))
        macs = forward_macs(model, frames) + len(model.global_layers) * more
        assert macs / 1e9 == pytest.approx(theirs["gmacs_per_view"], abs=0.0501)  # as they round


@pytest.mark.parametrize("size", ["b16", "l14"])
def test_hours_and_memory_are_those_that_were_measured(size: str) -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "benchmarks" / "results" / "train_step_cuda.json").read_text()
    entry = json.loads(text)["sizes"][size]
    measured = entry["contenders"]["blocks"]
    recipe = change_recipe(
        read_recipe(f"k710_{size}_f8x224"), [f"run.clips_per_gpu={entry['clips']}"]
    )
    cost = cost_of(recipe)
    hours = CLIPS["k710"] * recipe.optim.epochs / measured["clips_per_s"] / 3600
    assert cost.gpu_hours == pytest.approx(hours, rel=0.03)
    assert cost.memory_gib == pytest.approx(measured["peak_gib"], rel=0.01)


@pytest.mark.parametrize(
    ("gpu", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A100-PCIE-40GB", None),
        ("NVIDIA GH200 480GB", None),
        ("GRID A100-10C", None),
        ("NVIDIA RTX A1000 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_only_known_boards_have_a_peak(gpu: str, peak: float | None) -> None:
    assert peak_flops(gpu) == peak


# --- files


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "optim.lr": st.floats(0, 1),
        "optim.ema": st.none() | st.floats(0, 1),
        "optim.epochs": st.integers(6, 90) | st.floats(6, 90),
        "data.val": st.sampled_from(["k400/val", "k600/test"]) | st.none(),
        "data.stride": st.none() | st.integers(1, 9),
        "augment.area": st.lists(st.floats(0.01, 1), min_size=2, max_size=2).map(sorted),
        "eval.every_epochs": st.none() | st.integers(1, 5),
        "model.arch": st.sampled_from(sorted(SIZES)),
        "model.local": st.sampled_from(["none", "single", "double"]),
        "model.local_width": st.none() | st.integers(1, 99),
        "run.precision": st.sampled_from(["bf16", "fp16", "fp32"]) | st.none(),
        "run.seed": st.integers(0, (1 << 63) - 1),
        "start.of": st.none() | st.sampled_from(["k710_b16_f8x224", "a ViT, in words"]),
    },
)


def written(value: object) -> str:
    return "none" if value is None else str(value)


@given(values=SETTINGS)
def test_a_recipe_written_is_the_recipe_read(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = [f"{key}={written(value)}" for key, value in values.items()]
    recipe = change_recipe(Recipe("made"), settings)
    for key, value in values.items():
        section, _, name = key.partition(".")
        if name != "arch":
            expected = tuple(value) if isinstance(value, list) else value
            assert getattr(getattr(recipe, section), name) == expected
    path = tmp_path_factory.mktemp("recipe") / "made.toml"
    path.write_text(to_toml(recipe))
    assert read_recipe(path) == recipe
    assert list_differences(recipe, read_recipe(path)) == []


def test_another_size_brings_its_own_shape_and_keeps_what_was_set() -> None:
    recipe = change_recipe(Recipe("made"), ["model.head_dropout=0.1", "model.arch=l14"])
    assert recipe.model == dataclasses.replace(SIZES["l14"], head_dropout=0.1)


def test_whole_numbers_are_floats_where_those_are_wanted() -> None:
    optim = change_recipe(Recipe("made"), ["optim.betas=[0, 0.9]", "optim.lr=1"]).optim
    assert [type(one) for one in (*optim.betas, optim.lr)] == [float] * 3  # AdamW minds


def test_the_classes_are_those_of_the_view_that_is_trained_on() -> None:
    for dataset, number in {"k710": 710, "k400": 400, "k600": 600, "k700": 700}.items():
        recipe = change_recipe(Recipe("made"), [f"data.train={dataset}/train"])
        assert recipe.model.num_classes == number


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("optim.lrr=1", r"'optim\.lrr'. Near it: optim\.lr"),
        ("optimizer.lr=1", r"'optimizer\.lr'. Near it: optim\.lr"),
        ("model.num_classes=5", "no recipe has a key 'model.num_classes'"),
        ("lr=1", "must be like --set optim.lr=2e-6"),
        ("optim.lr", "must be like --set optim.lr=2e-6"),
        ("optim.lr=fast", r"optim\.lr \('fast'\) must be a finite number from 0 up"),
        ("optim.lr=-1", r"optim\.lr \(-1\) must be a finite number from 0 up"),
        ("optim.start_lr=nan", r"optim\.start_lr \(nan\) must be a finite number"),
        ("optim.epochs=inf", r"optim\.epochs \(inf\) must be a finite number"),
        ("augment.area=[0.5, nan]", r"augment\.area \(\(0\.5, nan\)\) must be two shares"),
        ("optim.lr=1" + "0" * 400, r"optim\.lr \(10+\.\.\.0+\) must be a finite number"),
        ("optim.lr=1" + "0" * 5000, r"optim\.lr \('1000.*'\) must be a finite number"),
        ("data.batch=" + "[" * 5000, r"data\.batch \('\[.*'\) must be a whole number"),
        ("optim.epochs=5", r"warmup_epochs \(5\.0\) must be below epochs \(5\.0\)"),
        ("data.batch=0", r"data\.batch \(0\) must be a whole number above 0"),
        ("data.batch=1.5", r"data\.batch \(1\.5\) must be a whole number"),
        ("data.frames=none", r"data\.frames \('none'\) must be a whole number"),
        ("data.train=k400", "must be a view of k710, k400, k600, k700, like k710/train"),
        ("data.train=mit/train", "must be a view of k710, k400, k600, k700"),
        ("augment.area=[0.5]", "must be two shares"),
        ("augment.area=[0.9, 0.1]", "the smaller first"),
        ("augment.colours=grey", "must be reference or clip"),
        ("optim.betas=[0.9, 1.5]", "two shares below 1"),
        ("model.arch=b15", "Near it: b16"),
        ("model.size=100", "must be a multiple of patch"),
        ("model.drop_path=1.5", "from 0 to below 1"),
        ("eval.crops=2", r"eval\.crops \(2\) must be 1 or 3"),
        ("run.compile=1", r"run\.compile \(1\) must be bool"),
        ("run.workers=1025", r"must be a whole number from 0 to 1,024 or none"),
        ("run.clips_per_gpu=4097", r"must be a whole number above 0, up to 4,096"),
        ("data.batch=1048577", r"data\.batch .* above 0, up to 1,048,576"),
        ("data.window_shards=9223372036854775808", r"must be a whole number above 0, up to"),
        ("run.seed=-1", r"run\.seed \(-1\) must be a whole number from 0 to below 2\*\*63"),
        ("run.keep=0", r"run\.keep \(0\) must be a whole number above 0"),
        ("run.workers=-1", r"run\.workers \(-1\) must be a whole number from 0 to 1,024 or none"),
    ],
)
def test_what_is_wrong_is_said(setting: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        change_recipe(Recipe("made"), [setting])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[optim]\nlearning_rate = 1", r"made\.toml': no recipe has a key 'optim\.learning_rate'"),
        ("[optimiser]\nlr = 1", r"no recipe has a key 'optimiser\.lr'. Near it: optim\.lr"),
        ("optim = 1", r"no recipe has a key 'optim'. Near it: optim\.lr"),
        ("status = 3", r"status \(3\) must be str"),
        ("[optim", r"' is no TOML: Expected"),
        ("[model]\nfrozen = 0", r"model\.frozen \(0\) must be bool"),
        ("[model]\nsize = 224.0", r"model\.size \(224\.0\) must be a whole number"),
        ("[model]\narch = [[1]]", r"model\.arch \(.*\) must be one of b16"),
        ("[model]\nfrozen = 'yes'", r"model\.frozen \('yes'\) must be bool"),
        ("name = '../up'", r"name \('.*'\) must be letters, digits"),
        ("name = '..'", r"name \('.*'\) must be letters, digits"),
        ("name = '-f'", r"name \('.*'\) must be letters, digits"),
        (
            '[published]\ntop1 = 80.0\nviews = "8x3x4\\n"',
            r"published\.views \(.*\) must be like 8x3x4",
        ),
        (
            "[published]\ntop1 = nan\nviews = '8x3x4'",
            r"published\.top1 \(nan\) must be a finite number",
        ),
        ("[optim]\nlr = " + "1" * 5000, r"made\.toml' is no TOML"),
        ("x = " + "[" * 5000, r"made\.toml' is no TOML"),
        ("[published]\ntop1 = 80.0", "missing 1 required"),
    ],
)
def test_a_file_that_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "made.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said):
        read_recipe(path)


def test_a_recipe_that_is_not_there_is_said_with_its_like() -> None:
    with pytest.raises(RecipeError, match="Near it: k400_b16_f8x224"):
        read_recipe("k400_b16_f8x225")
    with pytest.raises(RecipeError, match="There is no recipe"):
        read_recipe("../recipes/k400_b16_f8x224")
    with pytest.raises(RecipeError, match="can't be read"):
        read_recipe(Path("nowhere.toml"))


def test_what_changes_no_result_is_no_difference() -> None:
    recipe = Recipe("made")
    free = ["run.workers=3", "run.compile=true", "run.keep=9", "eval.clips=1", "run.log_steps=1"]
    assert (
        list_differences(change_recipe(recipe, [*free, "model.checkpoint_blocks=2"]), recipe) == []
    )
    other = change_recipe(recipe, ["optim.lr=0.5", "model.head_dropout=0.1", "run.seed=1"])
    assert list_differences(other, recipe) == [
        "model.head_dropout: 0.1, was 0.5",
        "optim.lr: 0.5, was 1e-05",
        "run.seed: 1, was 6666",
    ]


def test_a_model_that_no_recipe_fine_tunes_is_said() -> None:
    with pytest.raises(RecipeError, match=r"24 frames on k600.*\nThere are frozen_k600"):
        find_fine_tuning_recipe("k600", SIZES["l14"], 24)
    assert find_fine_tuning_recipe("k600", SIZES["l14"], 32) == "k600+k710_l14_f32x224"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[optm]\n", r"no recipe has a key 'optm'\..* Near it: .*optim"),
        ('"optim.lr" = 5e-4\n', r"no recipe has a key 'optim\.lr'"),
        ("model = 3\n", r"no recipe has a key 'model'\. Near it: model"),
        ("[[optim]]\nlr = 1.0\n", r"no recipe has a key 'optim'"),
        ("[name]\n", r"no recipe has a key 'name'"),
    ],
)
def test_a_section_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        read_recipe(path)
