"""demo: the way from lists to shards on data that it makes itself."""

from pathlib import Path
from typing import Annotated

import typer

from k710_cli.download import download_progress, print_downloads
from k710_cli.index import print_index
from k710_cli.manifest import print_summary
from k710_cli.screen import console
from k710_cli.shards import clip_progress, print_shards, print_verified

__all__ = ["add_to"]

_NUM_DOWNLOADS = 8


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path("work/demo"),
) -> None:
    """Make small lists and videos, build K710 and shards of them, and show what happened.

    Example: k710 demo
    """
    import k710
    from k710.demo import demo_site, write_demo_lists, write_demo_videos
    from k710.downloads import download_videos
    from k710.fetching import Fetching
    from k710.index import index_videos
    from k710.shards import make_shards
    from k710.verify import verify_shards

    screen = console()
    lists = write_demo_lists(folder / "annotations")
    screen.print(f"Wrote {len(lists.files)} small lists to {folder / 'annotations'}.\n")
    print_summary(k710.build_manifest(folder / "annotations", work=folder))
    for youtube_id, story in lists.stories:
        screen.print(f"\nk710 explain {youtube_id} --work {folder}   # {story}", soft_wrap=True)
        for row in k710.explain(youtube_id, work=folder):
            screen.print(f"    {row.list_name}: {row.verdict}", soft_wrap=True)

    clips = list(k710.load_view("k710/val", work=folder)["clip_id"])
    write_demo_videos(folder / "videos", clips)
    options = f"--work {folder}"
    screen.print(f"\nk710 index --videos {folder / 'videos'} {options}", soft_wrap=True)
    print_index(index_videos([folder / "videos"], work=folder))
    train = k710.load_view("k710/train", work=folder)
    lengths_s = {
        str(i): int(end) + 5 for i, end in zip(train.youtube_id, train.time_end, strict=True)
    }
    with demo_site(lengths_s) as url, download_progress() as show_downloads:
        screen.print(
            f"\nk710 download --views k710/train --limit {_NUM_DOWNLOADS} --sleep 0 "
            f"--url-template {url} {options}   # a site of this machine stands for YouTube",
            soft_wrap=True,
        )
        downloads = download_videos(
            ["k710/train"],
            work=folder,
            fetching=Fetching(url_template=url, sleep_s=0, workers=2),
            limit=_NUM_DOWNLOADS,
            on_progress=show_downloads,
        )
    print_downloads(downloads)
    views = ["k710/train", "k710/val"]
    screen.print(f"\nk710 shard --views {','.join(views)} {options}\n", soft_wrap=True)
    with clip_progress() as show:
        print_shards(make_shards(views, work=folder, on_progress=show))
    screen.print(f"\nk710 verify --deep {options}", soft_wrap=True)
    print_verified(verify_shards(work=folder, deep=True))
