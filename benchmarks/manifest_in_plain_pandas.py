"""The rules of K710 as one first writes them in pandas: every step its usual call, nothing tuned.

    python benchmarks/manifest_in_plain_pandas.py ANNOTATIONS OUT

The baseline of benchmarks/manifest.py. Strings stay strings, and which lists hold an id is a
groupby with sets. What tuning brings is in manifest_in_pandas.py, which is timed beside it; both
make the same tables (a test compares them).
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from k710.labels.orders import class_names, resolve_label
from manifest_in_pandas import (
    ANNOTATIONS,
    CLIP,
    DROPPED,
    MANIFEST,
    ORIGIN,
    SPLITS,
    Tables,
    dataset_of,
    write_tables,
)

PREFER = {"k700": 0, "k600": 1, "k400": 2}


def build(folder: Path) -> Tables:
    """The four tables of the lists below `folder` by the default rules."""
    rows = pd.concat([read_file(path, folder) for path in sorted(folder.rglob("*.csv"))])
    rows = rows.sort_values(["dataset", "split", *CLIP, "label", *ORIGIN], ignore_index=True)
    rows["list"] = rows["dataset"] + "/" + rows["split"]
    rows["clip_id"] = clip_ids(rows)
    rows["label_name"] = rows["label"].map(dict(enumerate(class_names())))
    rows["found_in"] = rows["youtube_id"].map(
        rows.groupby("youtube_id")["list"].agg(lambda lists: sorted(set(lists)))
    )

    guarded = set(rows.loc[rows["split"] != "train", "youtube_id"])
    is_train = rows["split"] == "train"
    held_out = is_train & rows["youtube_id"].isin(guarded)
    train = choose(rows[is_train & ~held_out])
    val = choose(rows[(rows["split"] == "val") & rows["label"].notna()])
    own = rows.drop_duplicates(["list", *CLIP])
    manifest = pd.concat(
        [own.assign(view=own["list"]), train.assign(view="k710/train"), val.assign(view="k710/val")]
    ).sort_values(["view", *CLIP], ignore_index=True)

    return Tables(
        annotations=rows[ANNOTATIONS],
        manifest=manifest[MANIFEST],
        dropped=dropped_of(rows, held_out, {"train": train, "val": val}),
        leakage=leakage_of(own),
    )


def read_file(path: Path, folder: Path) -> pd.DataFrame:
    """One CSV file, with the columns of `annotations`."""
    dataset = dataset_of(path, folder)
    rows = pd.read_csv(path, dtype={"youtube_id": str}, keep_default_na=False)
    rows["dataset"] = dataset
    rows["split"] = rows["split"].replace(SPLITS)
    rows["label_raw"] = rows["label"].where(rows["label"] != "") if "label" in rows else None
    names = {n: resolve_label(n, dataset=dataset) for n in rows["label_raw"].dropna().unique()}
    rows["label"] = rows["label_raw"].map(names).astype("Int16")
    rows["source_file"] = path.relative_to(folder).as_posix()
    rows["source_line"] = range(2, len(rows) + 2)
    return rows


def clip_ids(rows: pd.DataFrame) -> Any:
    """`<id>_<start>_<end>`, six digits each."""
    start = rows["time_start"].astype(str).str.zfill(6)
    end = rows["time_end"].astype(str).str.zfill(6)
    return rows["youtube_id"] + "_" + start + "_" + end


def choose(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each id."""
    ranked = rows.assign(rank=rows["dataset"].map(PREFER))
    order = ["rank", "time_start", "time_end", "label_name", *ORIGIN]
    return ranked.sort_values(order).drop_duplicates("youtube_id")


def dropped_of(
    rows: pd.DataFrame, held_out: "pd.Series[bool]", kept: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    """Every train row and labelled val row that was not chosen, with its reason."""
    parts = []
    for split, chosen in kept.items():
        part = rows[(rows["split"] == split) & rows["label"].notna()].drop(chosen.index)
        clips = chosen.set_index("youtube_id")["clip_id"]
        parts.append(part.assign(kept_clip_id=part["youtube_id"].map(clips)))
    dropped = pd.concat(parts).sort_index()
    out = held_out.loc[dropped.index]
    dropped["reason"] = out.map({True: "held_out", False: "duplicate_id"})
    guards = dropped["found_in"].map(lambda lists: [n for n in lists if not n.endswith("/train")])
    dropped["held_out_by"] = guards.where(out, None)
    return dropped[DROPPED].reset_index(drop=True)


def leakage_of(own: pd.DataFrame) -> pd.DataFrame:
    """What each pair of lists shares."""
    lists = sorted(own["list"].unique())
    counts = []
    for place, a in enumerate(lists):
        for b in lists[place + 1 :]:
            left, right = own[own["list"] == a], own[own["list"] == b]
            ids = set(left["youtube_id"]) & set(right["youtube_id"])
            both = left.merge(right, on=CLIP)
            same = (both["label_x"] == both["label_y"]).sum()
            other = (both["label_x"] != both["label_y"]).sum()
            counts.append((a, b, len(ids), len(both), same, other))
    columns = ["a", "b", "ids", "clips", "same_label", "other_label"]
    return pd.DataFrame(counts, columns=columns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", type=Path, help="the folder that holds the lists")
    parser.add_argument("out", type=Path, help="where the four Parquet files go")
    arguments = parser.parse_args()
    write_tables(build(arguments.annotations), arguments.out)
