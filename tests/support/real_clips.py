"""The real videos beside the project, named as the clips of a small manifest."""

import shutil
import tarfile
from pathlib import Path

import k710
from support.list_files import shared, vid, write_lists

# What stands in for what: the file, the clip's id and window, its class, its list.
CLIPS = (
    ("Tw2yXa6CzWE.mp4", "Tw2yXa6CzWE", 0, 10, "archery", "k400/train"),
    ("arm_wrestling_demo.mp4", "-arm_wrestl", 3, 13, "arm wrestling", "k400/train"),
    ("hitting_baseball.mp4", "hit_basebal", 12, 22, "hitting baseball", "k400/train"),
    ("making_cake.mp4", "making_cake", 100, 110, "making a cake", "k400/train"),
    ("playing_guitar.mp4", "play_guitar", 5, 15, "playing guitar", "k400/train"),
    ("yoga.mp4", "yoga", 40, 50, "yoga", "k400/train"),
    ("flipping_a_pancake.mkv", "-pancake", 7, 17, "flipping pancake", "k400/train"),
    ("jesse_dance.mp4", "jesse_dance", 1, 11, "zumba", "k400/train"),
    ("nasa_13013.mp4", "nasa_13013", 2, 12, "juggling balls", "k400/val"),  # a whole video
    ("eEG7ZOQG6LM.00.mp4", "eEG7ZOQG6LM", 20, 30, "push up", "k400/val"),
    ("mmaction_test.mp4", "mmaction_te", 9, 19, "dancing ballet", "k400/val"),  # in a .tar.gz
    ("internvid_example1.mp4", "internvid_1", 6, 16, "cooking egg", "k400/val"),
    ("paddle_example.avi", "paddle_exam", 0, 10, "bowling", "k400/val"),
    ("demo_skeleton.mp4", "skeleton", 30, 40, "jogging", "k400/val"),  # 2.6 of 10 s
    ("corrupted.mp4", "corrupted", 4, 14, "yoga", "k400/val"),
    (None, "no_bytes", 4, 14, "yoga", "k400/val"),
    ("", "not_there", 8, 18, "yoga", "k400/train"),
)

# Whole videos on a site, and the windows that lists have of them.
SITE = (
    ("Tw2yXa6CzWE.mp4", "Tw2yXa6CzWE", 0, 10, "archery", "k400/train"),
    ("playing_guitar.mp4", "play_guitar", 0, 10, "playing guitar", "k400/train"),
    ("yoga.mp4", "-yoga", 0, 10, "yoga", "k400/train"),
    ("nasa_13013.mp4", "nasa_13013", 0, 10, "juggling balls", "k400/train"),
    ("nasa_13013.mp4", "nasa_13013", 3, 13, "juggling balls", "k400/train"),  # fetched once
    ("arm_wrestling_demo.mp4", "-arm_wrestl", 4, 14, "arm wrestling", "k400/train"),  # ends at 10
    (None, "taken_down", 8, 18, "massaging person's head", "k400/train"),
    ("mmaction_test.mp4", "mmaction_te", 0, 10, "dancing ballet", "k400/val"),
    ("making_cake.mp4", "making_cake", 0, 10, "making a cake", "k400/val"),
    ("corrupted.mp4", "corrupted", 0, 10, "yoga", "k400/val"),
)


def lay_out_site(folder: Path) -> Path:
    """annotations/ and site/, with ID.mp4 files, below `folder`; skips without the data."""
    videos = shared("videos")
    (folder / "site").mkdir()
    lists: dict[str, list[tuple[str, str, int, int]]] = {}
    for source, name, start, end, label, listed in SITE:
        lists.setdefault(listed, []).append((label, name, start, end))
        if source is not None:
            shutil.copyfile(videos / source, folder / "site" / f"{vid(name)}.mp4")
    write_lists(folder / "annotations", lists)
    return folder


def lay_out(folder: Path) -> Path:
    """annotations/, videos/ and work/ with its manifest below `folder`; skips without the data."""
    videos = shared("videos")
    lists: dict[str, list[tuple[str, str, int, int]]] = {}
    for source, name, start, end, label, listed in CLIPS:
        lists.setdefault(listed, []).append((label, name, start, end))
        clip_id = f"{vid(name)}_{start:06d}_{end:06d}"
        place = folder / "videos" / label.replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        if source is None:
            (place / f"{clip_id}.mp4").touch()
        elif source == "nasa_13013.mp4":
            shutil.copyfile(videos / source, place / f"{vid(name)}.mp4")
        elif source == "mmaction_test.mp4":
            with tarfile.open(folder / "videos" / "part_0.tar.gz", "w:gz") as tar:
                tar.add(videos / source, f"part_0/{clip_id}.mp4")
        elif source:
            shutil.copyfile(videos / source, place / (clip_id + Path(source).suffix))
    shutil.copyfile(videos / "h265_video.mp4", folder / "videos" / "unknown_____000000_000010.mp4")
    write_lists(folder / "annotations", lists)
    k710.build_manifest(folder / "annotations", work=folder / "work")
    return folder
