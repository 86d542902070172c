"""The tests lie as the modules do: tests/ROOM/test_MODULE.py, or test_MODULE_ASPECT.py."""

from collections.abc import Iterator

from support.paths import ROOT

TESTS = ROOT / "tests"
PACKAGES = {
    "k710": ROOT / "k710",
    "uniformerv2": ROOT / "uniformerv2",
    "cli": ROOT / "cli/k710_cli",
}

# Modules that have no test file of their own on purpose, under the one whose tests cover them:
# they are steps of what is tested there as a whole, or values that its tests read.
COVERED_BY = {
    "cli/test_loader": ("uniformerv2/loader_speed",),
    "cli/test_manifest": ("cli/classes", "cli/main"),
    "cli/test_screen": ("cli/plain_text",),
    "cli/test_status": ("cli/options",),
    "k710/annotations/test_check": ("k710/annotations/read", "k710/annotations/table"),
    "k710/demo/test_lists": ("k710/demo/videos",),
    "k710/doctor/test_checks": ("k710/doctor/machine",),
    "k710/download/test_run": ("k710/download/files", "k710/download/summary"),
    "k710/download/test_run_stored": ("k710/sources/cleanup",),
    "k710/export/test_view": (
        "k710/export/clips",
        "k710/export/formats",
        "k710/export/request",
        "k710/export/siblings",
        "k710/export/summary",
        "k710/export/wids",
    ),
    "k710/annotations/test_content": ("k710/labels/video_lines",),
    "k710/manifest/test_build": ("k710/manifest/rules",),
    "k710/report/test_status": ("k710/tables/views",),
    "k710/shards/test_run": (
        "k710/shards/clip",
        "k710/shards/extract",
        "k710/shards/make",
        "k710/shards/summary",
    ),
    "k710/sources/test_index_again": ("k710/sources/seen", "k710/sources/stamps"),
    "k710/tables/test_reading": ("k710/tables/clip_ids",),
    "k710/tables/test_sidecar": ("k710/tables/schemas",),
    "k710/video/test_container": ("k710/video/formats",),
    "k710/video/test_cut": ("k710/video/decoding", "k710/video/streams"),
    "k710/video/test_encode": ("k710/video/upright",),
    "uniformerv2/augment/test_transforms": ("uniformerv2/augment/colours",),
    "uniformerv2/test_data": ("uniformerv2/dataset/decode",),
    "uniformerv2/test_depthwise_triton": ("uniformerv2/depthwise",),
    "uniformerv2/test_evaluate": (
        "uniformerv2/evaluation/predictions",
        "uniformerv2/evaluation/scoring",
        "uniformerv2/training/validate",
    ),
    "uniformerv2/test_model": ("uniformerv2/config",),
    "uniformerv2/test_recipe": ("uniformerv2/field_types", "uniformerv2/recipe_toml"),
    "uniformerv2/test_train_interrupted": ("cli/__main__", "cli/train"),
    "uniformerv2/test_train": (
        "uniformerv2/training/checkpoint",
        "uniformerv2/training/init",
        "uniformerv2/training/metrics",
        "uniformerv2/training/run",
        "uniformerv2/training/model",
    ),
    "uniformerv2/weights/test_load": (
        "uniformerv2/weights/class_order",
        "uniformerv2/weights/files",
        "uniformerv2/weights/names",
    ),
}


def find_modules() -> set[str]:
    """The modules, as their tests are to lie: `cli/screen`, `k710/shards/plan`."""
    return {
        f"{name}/{path.relative_to(folder).with_suffix('')}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
        if path.name != "__init__.py"
    }


def find_tests() -> Iterator[str]:
    """The test files of the packages: `k710/shards/test_plan`."""
    for name in PACKAGES:
        for path in sorted((TESTS / name).rglob("test_*.py")):
            yield str(path.relative_to(TESTS).with_suffix(""))


def module_of(test: str, modules: set[str]) -> str | None:
    """The module that a test file is named after: the longest name that fits."""
    room, _, words = test.rpartition("/test_")
    parts = words.split("_")
    names = ["_".join(parts[:num]) for num in range(len(parts), 0, -1)]
    return next((f"{room}/{name}" for name in names if f"{room}/{name}" in modules), None)


def test_every_test_file_is_named_after_a_module() -> None:
    modules = find_modules()
    strays = [test for test in find_tests() if module_of(test, modules) is None]
    assert not strays, (
        f"{strays} are named after no module: rename each to test_MODULE.py or "
        "test_MODULE_ASPECT.py in the folder of its module's room."
    )


def test_every_module_is_tested_under_its_name_or_said_to_be_elsewhere() -> None:
    modules = find_modules()
    tested = {module_of(test, modules) for test in find_tests()}
    covered = {module for listed in COVERED_BY.values() for module in listed}
    missing = sorted(modules - tested - covered)
    assert not missing, (
        f"{missing} have no tests: write tests/ROOM/test_MODULE.py, or add each to COVERED_BY in "
        "this file, under the test file that covers it."
    )
    stale = sorted(covered - modules) + sorted(covered & tested)
    assert not stale, f"{stale} are gone or have tests of their own: take them out of COVERED_BY."
    gone = [test for test in COVERED_BY if not (TESTS / f"{test}.py").is_file()]
    assert not gone, f"{gone} are no test files: name others in COVERED_BY that cover the modules."


def test_helpers_of_tests_have_names_of_their_own() -> None:
    names = {module.rpartition("/")[2] for module in find_modules()}
    names |= {path.name for folder in PACKAGES.values() for path in folder.iterdir()}
    taken = sorted(path.name for path in (TESTS / "support").glob("*.py") if path.stem in names)
    assert not taken, f"tests/support/{taken} are called as modules are: choose other names."
