"""The rules of K710 in pandas, tuned: annotation lists in, the tables of `k710 build-manifest` out.

    python benchmarks/manifest_in_pandas.py ANNOTATIONS OUT

Tests hold k710's own tables to this second opinion, and benchmarks/manifest.py times it beside the
baseline, manifest_in_plain_pandas.py. Ids are categories, and which lists hold an id is a bitmask.
It shares the class names (k710.labels) with k710 and nothing else.
Not covered: checks of the input (it takes valid CSV), JSON, sidecars.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from k710.labels.orders import Dataset, class_names, resolve_label

SPLITS = {"validate": "val", "validation": "val", "holdout_test": "test"}
NAMED = re.compile(r"(?<![a-z0-9])k(?:inetics)?[-_ ]?([467]00)(?![0-9])", re.IGNORECASE)
CLIP = ["youtube_id", "time_start", "time_end"]
ORIGIN = ["source_file", "source_line"]
ANNOTATIONS = ["dataset", "split", *CLIP, "label_raw", "label", *ORIGIN]
MANIFEST = ["view", "clip_id", *CLIP, "label", "label_name", "dataset", "found_in"]
DROPPED = [*ANNOTATIONS, "reason", "kept_clip_id", "held_out_by"]


@dataclass(frozen=True)
class Tables:
    """Columns and order of rows are those of k710's tables of the same names."""

    annotations: pd.DataFrame
    manifest: pd.DataFrame
    dropped: pd.DataFrame
    leakage: pd.DataFrame


def build(
    folder: Path,
    *,
    protect: Sequence[str] = ("val", "test"),
    prefer: Sequence[str] = ("k700", "k600", "k400"),
    dedup: Literal["id", "clip"] = "id",
) -> Tables:
    """The four tables of the lists below `folder`; `protect=()` holds nothing out."""
    rows = read_rows(folder)
    lists = list(rows["list"].cat.categories)
    protected = sum(1 << bit for bit, name in enumerate(lists) if name.split("/")[1] in protect)

    is_train = rows["split"] == "train"
    is_val = (rows["split"] == "val") & rows["label"].notna()
    held_out = is_train & (rows["holders"] & protected != 0)
    train_key = ["youtube_id"] if dedup == "id" else CLIP
    train = choose(rows[is_train & ~held_out], train_key, prefer)
    val = choose(rows[is_val], ["youtube_id"], prefer)
    own = rows.drop_duplicates(["list", *CLIP])  # rows are sorted, so the lowest label stays

    dropped_train = with_kept_clip(rows[is_train].drop(train.index), train, train_key)
    dropped_val = with_kept_clip(rows[is_val].drop(val.index), val, ["youtube_id"])
    dropped = pd.concat([dropped_train, dropped_val]).sort_index()
    dropped["reason"] = "duplicate_id"
    dropped.loc[dropped["split"] == "train", "reason"] = f"duplicate_{dedup}"
    dropped.loc[held_out.reindex(dropped.index), "reason"] = "held_out"
    guards = (dropped["holders"] & protected).where(dropped["reason"] == "held_out", 0)
    dropped["held_out_by"] = names_of(guards, lists)

    return Tables(
        annotations=finished(rows, ANNOTATIONS),
        manifest=manifest_of(own, {"k710/train": train, "k710/val": val}),
        dropped=finished(dropped, DROPPED),
        leakage=leakage_of(own),
    )


def read_rows(folder: Path) -> pd.DataFrame:
    """Every row of every list in the order of `annotations`, its index 0..n-1.

    Text is categorical, its categories in byte order. Not in `annotations`: `list` (dataset/split),
    `clip_id`, and `holders`: bit i is set if the i-th category of `list` holds the id.
    """
    files = set(folder.rglob("*.csv"))
    files |= {path for path in folder.rglob("*.csv.gz") if path.with_suffix("") not in files}
    rows = pd.concat([read_file(path, folder) for path in files], ignore_index=True)
    rows["list"] = rows["dataset"] + "/" + rows["split"]
    for column in ("dataset", "split", "list", "youtube_id", "label_raw", "source_file"):
        rows[column] = rows[column].astype("category")
    # The nulls of an Int16 sort last.
    rows = rows.sort_values(["dataset", "split", *CLIP, "label", *ORIGIN], ignore_index=True)

    start, end = (padded(rows[column]) for column in CLIP[1:])
    rows["clip_id"] = text(rows["youtube_id"]) + "_" + start + "_" + end

    holds = rows[["youtube_id", "list"]].drop_duplicates()
    bits = 2 ** holds["list"].cat.codes.astype("int64")
    masks = bits.groupby(holds["youtube_id"], observed=False).sum()  # in the order of the codes
    rows["holders"] = masks.to_numpy()[rows["youtube_id"].cat.codes]
    return rows


def read_file(path: Path, folder: Path) -> pd.DataFrame:
    """One CSV file with the columns of `annotations`, in the order of the file."""
    dataset = dataset_of(path, folder)
    raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    label_raw = raw["label"] if "label" in raw else pd.Series("", index=raw.index, dtype="str")
    label_raw = label_raw.where(label_raw.str.strip() != "")
    resolved = {name: resolve_label(name, dataset=dataset) for name in label_raw.dropna().unique()}
    rows = raw[["youtube_id"]].copy()
    rows["dataset"] = dataset
    rows["split"] = raw["split"].replace(SPLITS)
    for time in ("time_start", "time_end"):
        rows[time] = pd.to_numeric(raw[time]).astype("int32")
    rows["label_raw"] = label_raw
    rows["label"] = label_raw.map(resolved).astype("Float64").astype("Int16")
    rows["source_file"] = path.relative_to(folder).as_posix()
    rows["source_line"] = np.arange(2, len(raw) + 2, dtype="int32")
    return rows


def dataset_of(path: Path, folder: Path) -> Dataset:
    """The dataset that the nearest path part names, from the file's name up to `folder`'s own."""
    parts = (folder.resolve().name, *path.relative_to(folder).parts)
    named = [found[1] for part in parts for found in NAMED.finditer(part)]
    by_size: dict[str, Dataset] = {"400": "k400", "600": "k600", "700": "k700"}
    return by_size[named[-1]]


def choose(candidates: pd.DataFrame, key: list[str], prefer: Sequence[str]) -> pd.DataFrame:
    """One row of `candidates` for each `key`: by `prefer`, then the times, then the label name."""
    rank = candidates["dataset"].cat.set_categories(list(prefer), ordered=True)
    order = ["rank", "time_start", "time_end", "name", "label", *ORIGIN]
    ranked = candidates.assign(rank=rank, name=label_names(candidates["label"]))
    return ranked.sort_values(order).drop_duplicates(key)


def with_kept_clip(dropped: pd.DataFrame, kept: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """`dropped` and the clip that stands for its `key` in the view: null where held out."""
    kept_clip = kept[[*key, "clip_id"]].rename(columns={"clip_id": "kept_clip_id"})
    return dropped.merge(kept_clip, on=key, how="left").set_index(dropped.index)


def manifest_of(own: pd.DataFrame, chosen: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of every view: the datasets' `own` lists, and those `chosen` for the k710 views."""
    lists = list(own["list"].cat.categories)
    views = pd.CategoricalDtype(sorted([*lists, *chosen]))
    parts = [own.assign(view=own["list"].astype(views))]
    for view, rows in chosen.items():
        parts.append(rows.assign(view=pd.Series(view, index=rows.index, dtype=views)))
    rows = pd.concat(parts).sort_values(["view", *CLIP])
    rows["label_name"] = label_names(rows["label"])
    rows["found_in"] = names_of(rows["holders"], lists)
    return finished(rows, MANIFEST)


def leakage_of(own: pd.DataFrame) -> pd.DataFrame:
    """Every pair a < b of lists and what they share; `own` has each clip of a list once."""
    ids = pairs_of(own[["youtube_id", "list"]].drop_duplicates(), ["youtube_id"])
    clips = pairs_of(own[[*CLIP, "list", "label"]], CLIP)
    clips["same_label"] = (clips["label_a"] == clips["label_b"]).fillna(False)
    clips["other_label"] = (clips["label_a"] != clips["label_b"]).fillna(False)
    by_pair = clips.groupby(["a", "b"], observed=False)  # every pair, met or not
    leakage = pd.DataFrame(
        {
            "ids": ids.groupby(["a", "b"], observed=False).size(),
            "clips": by_pair.size(),
            "same_label": by_pair["same_label"].sum(),
            "other_label": by_pair["other_label"].sum(),
        }
    ).astype("int64")
    leakage = finished(leakage.reset_index(), ["a", "b", *leakage.columns])
    return leakage[leakage["a"] < leakage["b"]].reset_index(drop=True)


def pairs_of(holds: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """One row for each `key` and ordered pair of lists, `a` and `b`, that hold it."""
    shared = holds[holds.duplicated(key, keep=False)]
    pairs = shared.merge(shared, on=key, suffixes=("_a", "_b"))
    return pairs.rename(columns={"list_a": "a", "list_b": "b"})


def label_names(labels: pd.Series) -> pd.Series:
    """The class name of each K710 row, categorical in alphabetical order; null for null."""
    names = pd.Categorical(class_names(), categories=sorted(class_names()), ordered=True)
    codes = labels.fillna(-1).to_numpy(dtype="int64")
    return pd.Series(names.take(codes, allow_fill=True), index=labels.index)


def names_of(masks: pd.Series, lists: list[str]) -> pd.Series:
    """The sorted lists of each mask, null for 0; every distinct mask is spelled out once."""
    spelled = {m: [n for bit, n in enumerate(lists) if m >> bit & 1] for m in masks.unique()}
    return masks.map(spelled).astype(object).where(masks != 0, None)


def padded(seconds: pd.Series) -> pd.Series:
    """Six digits, zeros in front; every distinct number is written once."""
    digits = seconds.astype("category")
    return text(digits.cat.rename_categories(lambda number: f"{number:06d}"))


def finished(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """These columns with plain text in place of categories, and a new index."""
    table = rows[columns].reset_index(drop=True)
    for column in table.select_dtypes("category").columns:
        table[column] = text(table[column])
    return table


def text(column: pd.Series) -> pd.Series:
    """`column.astype("str")` of a categorical, without a Python string for every row."""
    codes = column.cat.codes.to_numpy()
    return pd.Series(column.cat.categories.array.take(codes, allow_fill=True), column.index)


def write_tables(tables: Tables, out: Path) -> None:
    """Write the four Parquet files (zstd) to the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for field in fields(tables):
        table: pd.DataFrame = getattr(tables, field.name)
        table.to_parquet(out / f"{field.name}.parquet", compression="zstd", index=False)
        print(f"{field.name}: {len(table):,} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="K710's four tables, made with pandas.")
    parser.add_argument("annotations", type=Path, help="the folder that holds the lists")
    parser.add_argument("out", type=Path, help="where the four Parquet files go")
    arguments = parser.parse_args()
    write_tables(build(arguments.annotations), arguments.out)
