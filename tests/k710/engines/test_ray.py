"""Tasks run on a real Ray cluster of two nodes with one core each; nodes and workers are killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from k710.engines.local import Failed
from k710.engines.ray import Ray
from k710.errors import K710Error, MissingExtra, SourceError, StageError
from k710.shards.encode_clip import ClipSettings, stage_clip
from k710.shards.summary import ShardProgress
from k710.sources.index import index_videos
from k710.video.cut import Window
from k710.video.encode import Encoding
from support.paths import PYTHONPATH
from support.small_shards import (
    build,
    clip_task,
    copy_of,
    name_of,
    shard,
    statuses,
    tars,
    write_videos,
)
from tests.k710.engines.test_local import dies_once, double, moody, parent_alive, pid, refuses

pytestmark = pytest.mark.slow

K710 = str(Path(sys.executable).with_name("k710"))
ROWS = [("yoga", f"y{number}", number, number + 2) for number in range(48)]
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


def kills_ray_worker(number: int) -> int:
    if number == 3:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return number


def kills_every_ray_worker(number: int) -> int:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
    return number


def kills_ray_worker_and_counts(tries: str) -> None:
    with Path(tries).open("a") as file:
        file.write("x")
    kills_every_ray_worker(0)


def sleeps(number: int) -> int:
    time.sleep(60)
    return number


class OnlyInRay:
    """A function that a Ray worker can load, and the process that it starts can't."""

    def __call__(self, number: int) -> int:
        return number

    def __setstate__(self, state: Any) -> None:
        if not ray.is_initialized():
            raise SystemExit("not here")

    def __getstate__(self) -> Any:
        return {"some": "state"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head and a second node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHONPATH)  # Ray workers import this module
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        started.add_node(**NODE)
        yield started
        ray.shutdown()
        started.shutdown()


@pytest.fixture
def on(cluster: Cluster) -> Callable[..., dict[Any, Any]]:
    """Runs tasks on the cluster."""

    def run(function: Any, tasks: Any, *, timeout_s: float = 60, **options: Any) -> dict[Any, Any]:
        return dict(Ray(cluster.address, **options).run(function, tasks, timeout_s=timeout_s))

    return run


def test_every_task_has_its_result(on: Callable[..., dict[Any, Any]]) -> None:
    assert on(double, range(50)) == {n: 2 * n for n in range(50)}
    assert not ray.is_initialized()


def test_both_nodes_work_and_keep_their_worker(on: Callable[..., dict[Any, Any]]) -> None:
    assert len(set(on(pid, range(64)).values())) == 2


@pytest.mark.slow
def test_what_kills_hangs_or_raises_costs_itself_alone(on: Callable[..., dict[Any, Any]]) -> None:
    done = on(moody, range(12), timeout_s=1)
    assert {n: r for n, r in done.items() if not isinstance(r, Failed)} == {
        n: n for n in (0, 1, 2, 4, 6, 8, 10, 11)
    }
    assert done[3].why == "the worker died (SIGKILL)"
    assert done[5].why == "the worker died (exit code 7)"
    assert done[7].why == "ValueError: no [bold]seven[/bold]"
    assert done[9].why == "not done after 1 s"


def test_what_died_once_is_tried_again(on: Callable[..., dict[Any, Any]], tmp_path: Path) -> None:
    assert on(dies_once, [str(tmp_path / "marker")]) == {str(tmp_path / "marker"): "done"}


@pytest.mark.slow
def test_what_ray_gives_up_costs_itself_alone(on: Callable[..., dict[Any, Any]]) -> None:
    done = on(kills_ray_worker, range(6), max_retries=0)
    assert done.pop(3) == Failed("Ray gave it up (WorkerCrashedError)")
    assert done == {n: n for n in (0, 1, 2, 4, 5)}


@pytest.mark.slow
def test_a_group_is_tried_anew_as_often_as_asked(
    on: Callable[..., dict[Any, Any]], tmp_path: Path
) -> None:
    tries = tmp_path / "tries"
    done = on(kills_ray_worker_and_counts, [str(tries)], max_retries=1)
    assert done == {str(tries): Failed("Ray gave it up (WorkerCrashedError)")}
    assert len(tries.read_text()) == 2 * 2, "in its group, and by itself"


@pytest.mark.slow
def test_it_is_not_the_tasks_fault_if_all_are_given_up(on: Callable[..., dict[Any, Any]]) -> None:
    with pytest.raises(StageError, match=r"lost 8 groups of tasks in a row[\s\S]*same command"):
        on(kills_every_ray_worker, range(20), max_retries=0)


@pytest.mark.slow
def test_kills_for_want_of_memory_have_an_end_and_print_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    done = dict(Ray(workers=1, max_retries=1).run(sleeps, [1], timeout_s=60))
    assert done == {1: Failed("Ray gave it up (OutOfMemoryError)")}
    assert capfd.readouterr() == ("", "")


def test_a_worded_error_ends_the_run_and_names_the_node(on: Callable[..., dict[Any, Any]]) -> None:
    with pytest.raises(SourceError, match=r"^On \S+: number \d+ is refused$"):
        on(refuses, range(5))


@pytest.mark.slow
def test_a_node_that_lacks_a_module_is_said(on: Callable[..., dict[Any, Any]]) -> None:
    module = types.ModuleType("only_here")
    exec("def same(number):\n    return number\n", module.__dict__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "only_here", module)
        with pytest.raises(StageError, match=r"No module named 'only_here'[\s\S]*pip install"):
            on(module.same, range(5))


def test_a_worker_that_does_not_start_says_where_it_told_why(
    on: Callable[..., dict[Any, Any]],
) -> None:
    with pytest.raises(StageError, match=r"^On \S+: .* in the logs of that node, /tmp/ray/"):
        on(OnlyInRay(), [1])


def test_a_worker_of_another_k710_is_refused() -> None:
    settings = ClipSettings(Encoding(), "nowhere", k710="0.0.0")
    task = clip_task(Path("x.mp4"), Window(0, 2), Path("nowhere"), settings=settings)
    with pytest.raises(StageError, match=r"^A worker has k710 [\s\S]* install k710 0\.0\.0 there"):
        stage_clip(task)


def test_tasks_are_taken_as_cores_become_free(cluster: Cluster) -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(8):  # the first groups, of one task each
            taken.append(number)
            yield number

    done = 0
    for _ in Ray(cluster.address).run(double, tasks(), timeout_s=60):
        assert len(taken) <= done + 2 * 2
        done += 1
        if done == 1:
            assert len(taken) == 2 * 2, "and no fewer"
    assert done == 8


@pytest.mark.slow
def test_a_task_that_is_not_ready_holds_up_no_other(on: Callable[..., dict[Any, Any]]) -> None:
    until = time.monotonic() + 0.3

    def tasks() -> Iterator[int | None]:
        yield from (None, 1, None, 2)
        while time.monotonic() < until:
            yield None
        yield 3

    assert on(double, tasks()) == {1: 2, 2: 4, 3: 6}


@pytest.mark.slow
def test_what_is_in_flight_is_stopped_at_the_end(cluster: Cluster) -> None:
    tasks = [*[0.0] * 8, *[60.0 + n for n in range(8)]]
    engine = Ray(cluster.address).run(parent_alive, iter(tasks), timeout_s=99)
    next(engine)
    engine.close()
    until = time.monotonic() + 20
    while any(workers_of(raylet) for raylet in map(raylet_of, cluster.list_all_nodes())):
        assert time.monotonic() < until, "workers outlive the run"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_ray_that_was_connected_stays_so(cluster: Cluster) -> None:
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        assert dict(Ray().run(double, [1], timeout_s=60)) == {1: 2}
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_a_ray_that_is_connected_elsewhere_is_refused(cluster: Cluster) -> None:
    host, _, port = cluster.address.rpartition(":")
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        assert dict(Ray(f"127.0.0.1:{port}").run(double, [1], timeout_s=60)) == {1: 2}
        with pytest.raises(StageError, match=rf"connected to {cluster.address} .*:1'"):
            dict(Ray(f"{host}:1").run(double, [1], timeout_s=60))
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_session_stays_connected_from_its_first_task_on(cluster: Cluster) -> None:
    with Ray(cluster.address).session() as session:
        assert not ray.is_initialized()
        assert dict(session.run(double, [1], timeout_s=60)) == {1: 2}
        job = ray.get_runtime_context().get_job_id()
        assert dict(session.run(double, [2], timeout_s=60)) == {2: 4}
        assert ray.get_runtime_context().get_job_id() == job
    assert not ray.is_initialized()


def test_nothing_to_do_needs_no_cluster() -> None:
    assert dict(Ray("127.0.0.1:1").run(double, [], timeout_s=60)) == {}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "Connection refused.\nIs it up?"),
        ("somewhere", "it is not written HOST:PORT"),
        ("ray://127.0.0.1:10001", "with --address auto or HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(address: str, words: str) -> None:
    with pytest.raises(K710Error) as error:
        dict(Ray(address).run(double, [1], timeout_s=60))
    assert words in str(error.value)


def test_ray_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"on every node: pip install 'k710\[ray\]'"):
        dict(Ray().run(double, [1], timeout_s=60))


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="workers"):
        Ray(workers=0)
    with pytest.raises(ValueError, match="max_retries"):
        Ray(max_retries=-1)


# --- a run is stopped, a node is gone


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with sources of more groups of clips than may be in flight."""
    folder = tmp_path_factory.mktemp("untouched")
    work = build(folder, train=ROWS)
    index_videos([write_videos(folder / "videos", ROWS)], work=work)
    return work


@pytest.fixture(scope="module")
def plain(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    work = copy_of(untouched, tmp_path_factory.mktemp("plain") / "work")
    shard(work, ["k400/train"])
    return tars(work)


@pytest.fixture
def work(untouched: Path, tmp_path: Path) -> Path:
    return copy_of(untouched, tmp_path / "work")


def raylet_of(node: Any) -> int:
    (raylet,) = node.all_processes["raylet"]
    number: int = raylet.process.pid
    return number


def below(process: int) -> list[int]:
    """The processes that this one started, and those that they did."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True
    )
    children = [int(word) for word in listed.stdout.split()]
    return [*children, *(number for child in children for number in below(child))]


def workers_of(raylet: int) -> list[int]:
    """The processes of k710.engines on a node."""
    found = []
    for number in below(raylet):
        with contextlib.suppress(OSError):
            if b"k710.engines.local import _serve" in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(number)
    return found


def start(work: Path, cluster: Cluster) -> "subprocess.Popen[str]":
    command = [K710, "shard", "--views", "k400/train", "--work", str(work), "--json"]
    return subprocess.Popen(
        [*command, "--shard-size", "500kB", "--engine", "ray", "--address", cluster.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_of_several_windows_connects_once(
    cluster: Cluster, work: Path, plain: dict[str, bytes]
) -> None:
    jobs = set()

    def note(progress: ShardProgress) -> None:
        if progress.clips and ray.is_initialized():
            jobs.add(ray.get_runtime_context().get_job_id())

    engine = Ray(cluster.address)
    window = {"staging_bytes": 500_000, "workers": None}
    made = shard(work, ["k400/train"], engine=engine, on_progress=note, **window)
    assert len(made.shards_made) > 1 and len(jobs) == 1
    assert tars(work) == plain


def test_a_worker_elsewhere_that_does_not_see_the_videos_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = types.SimpleNamespace(gethostname=lambda: "driver")
    monkeypatch.setattr("k710.shards.make.socket", elsewhere)  # so workers are on another machine
    rows = ROWS[:3]
    work = build(tmp_path, train=rows)
    folder = os.open(write_videos(tmp_path / "videos", rows), os.O_DIRECTORY)
    os.dup2(folder, 900)
    try:
        index_videos([Path("/proc/self/fd/900/yoga")], work=work)
        with pytest.raises(StageError, match=r"^A worker on \S+ could not read '/proc/self/fd/900"):
            shard(work, ["k400/train"])
    finally:
        os.close(900)
        os.close(folder)
    assert not list(work.glob("shards/*"))


def is_under_way(work: Path) -> bool:
    return any(work.glob("staging/*.json")) or any(work.glob("shards/*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_stopped_goes_on(
    cluster: Cluster, work: Path, plain: dict[str, bytes], number: signal.Signals
) -> None:
    with start(work, cluster) as process:
        while not is_under_way(work):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        said = process.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert process.returncode == 1
        assert said == ("", "Stopped. Run the same k710 shard again: it goes on from here.\n")
    with start(work, cluster) as process:
        assert process.communicate(timeout=120)[1] == ""
    assert tars(work) == plain
    assert not (work / "staging").exists()


def test_a_node_that_dies_in_the_middle_costs_nothing(
    cluster: Cluster, work: Path, plain: dict[str, bytes]
) -> None:
    (node,) = cluster.worker_nodes
    with start(work, cluster) as process:
        while not (workers := workers_of(raylet_of(node))):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(workers[0], signal.SIGSTOP)  # it has a group, and won't be done with it
        while not is_under_way(work):
            assert process.poll() is None
            time.sleep(0.01)
        for number in (raylet_of(node), *below(raylet_of(node))):
            os.kill(number, signal.SIGKILL)
        said = process.communicate(timeout=120)
    assert (process.returncode, said[1]) == (0, "")
    assert json.loads(said[0])["part"] is None, "and Ray says nothing"
    assert tars(work) == plain
    assert {statuses(work)[name_of(row)] for row in ROWS} == {"ok"}
    assert not (work / "staging").exists()
    cluster.remove_node(node)  # what is left of it
    cluster.add_node(**NODE)


@pytest.mark.slow
def test_a_cluster_that_is_lost_ends_the_run_and_no_clip_is_given_up(
    cluster: Cluster, work: Path, plain: dict[str, bytes]
) -> None:
    lost = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        with start(work, lost) as process:
            while not is_under_way(work):
                assert process.poll() is None
                time.sleep(0.01)
            os.kill(raylet_of(lost.head_node), signal.SIGKILL)
            said = process.communicate(timeout=120)
    finally:
        lost.shutdown()
    assert (process.returncode, said[0]) == (1, "")
    assert said[1].startswith("This run lost the Ray cluster (")
    assert said[1].endswith("What is staged stays: run the same command again.\n")
    shard(work, ["k400/train"])
    assert tars(work) == plain
