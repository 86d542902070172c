"""labels: the 710 classes, the orders in which heads have them, and what supports the merges."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k710.labels.orders import Dataset, Family
from k710_cli.options import Json, Work
from k710_cli.screen import console, print_json, say, say_cells, table

if TYPE_CHECKING:
    from k710 import ClassFileCheck

__all__ = ["labels"]

_SHOWN_FAULTS = 10


def labels(
    dataset: Annotated[Dataset | None, typer.Option(help="Only its own classes.")] = None,
    family: Annotated[
        Family,
        typer.Option(
            help="Order: of the OpenGVLab checkpoints, or alphabetical (MMAction2, torchvision)."
        ),
    ] = "opengvlab",
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Say which order a class file is in, or what is wrong."),
    ] = None,
    evidence: Annotated[
        bool,
        typer.Option("--evidence", help="Count the clips that two datasets name differently."),
    ] = False,
    work: Work = Path("work"),
    as_json: Json = False,
) -> None:
    """Print the classes in the order of a head: class index, K710 row, name.

    Example: k710 labels --dataset k400 --family alphabetical
    Example: k710 labels --check label_map.txt
    """
    if check is not None and evidence:
        raise typer.BadParameter("--check and --evidence can't be used together.")
    if check is not None:
        _check(check, as_json)
    elif evidence:
        _evidence(work, as_json)
    else:
        _print_order(dataset, family, as_json)


def _print_order(dataset: Dataset | None, family: Family, as_json: bool) -> None:
    from k710.labels.orders import class_names, class_rows, dataset_spelling

    order = class_rows(dataset or "k710", family)
    names = [dataset_spelling(dataset or "k710", row) for row in order]
    rows = list(enumerate(zip(order, names, strict=True)))
    if as_json:
        all_names = class_names()
        return print_json(
            [
                {"class_index": index, "k710_row": row, "name": name, "k710_name": all_names[row]}
                for index, (row, name) in rows
            ]
        )
    say_cells("class_index", "k710_row", "name")
    for index, (row, name) in rows:
        say_cells(index, row, name)


def _check(path: Path, as_json: bool) -> None:
    from k710.labels.class_file import check_class_file

    result = check_class_file(path)
    if as_json:
        print_json(result)
    else:
        _print_check(path, result)
    if result.wrong:
        raise typer.Exit(1)


def _print_check(path: Path, result: "ClassFileCheck") -> None:
    from k710.errors import printable, shown

    order = f"{result.dataset} in {result.family} order"
    aliases = f" ({result.num_aliases} by another of their names)" if result.num_aliases else ""
    if result.first == 1:
        aliases += ", numbered from 1"
    if not result.wrong:
        say(printable(f"{path}: {order}, all {result.num_rows} rows right{aliases}."))
        return
    most = max(result.num_rows, result.wrong[-1].index + 1)  # of the file, or of the order
    say(
        printable(
            f"{path}: nearest to {order}, "
            f"but {len(result.wrong)} of {most} rows are wrong{aliases}:"
        )
    )
    for row in result.wrong[:_SHOWN_FAULTS]:
        found = "nothing" if row.found is None else shown(row.found)
        expected = "nothing" if row.expected is None else shown(row.expected)
        say(f"  row {row.index}: {found} should be {expected} ({row.note})")
    if len(result.wrong) > _SHOWN_FAULTS:
        rest = [row.index for row in result.wrong[_SHOWN_FAULTS:]]
        say(f"  and {len(rest)} more, rows {_ranges(rest)}. All of them: --json")


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _evidence(work: Path, as_json: bool) -> None:
    import k710

    pairs = k710.label_evidence(work=work)
    if as_json:
        return print_json(pairs)
    screen = console()
    columns = ("one name", "other name", "clips", "k400/k600", "k400/k700", "k600/k700")
    for merged, title in ((True, "Merged in K710"), (False, "Not merged")):
        made = table(*columns, title=title, text_columns=2)
        for pair in (pair for pair in pairs if pair.merged == merged):
            counts = (pair.clips, pair.k400_k600, pair.k400_k700, pair.k600_k700)
            made.add_row(pair.name_a, pair.name_b, *(f"{count:,}" for count in counts))
        screen.print(made)
