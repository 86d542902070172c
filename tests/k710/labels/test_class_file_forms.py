"""Class files of every form say the same; what is none says why."""

import csv
import io
import json
import pprint
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from k710.errors import SourceError
from k710.labels import class_file_forms
from k710.labels.class_file import check_class_file
from k710.labels.class_file_forms import read_class_file
from k710.labels.orders import class_names, class_rows, dataset_spelling

K400 = [dataset_spelling("k400", row) for row in class_rows("k400", "alphabetical")]


def as_table(rows: list[list[str]], comma: str, *header: str) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=comma).writerows([list(header), *rows] if header else rows)
    return file.getvalue()


def as_pbtxt(names: list[str], first: int, quote: str = '"') -> str:
    items = []
    for number, name in enumerate(names, start=first):
        told = quote + name.replace(quote, "\\" + quote) + quote
        items.append(f"item {{\n  name: {told}\n  id: {number}\n}}\n")
    return "# a label map\n" + "".join(reversed(items))


# Name of the file, and what makes its text of names and of the number of the first.
Writer = Callable[[list[str], int], str]
FORMS: dict[str, Writer] = {
    "lines.txt": lambda names, first: "\n".join(names),
    "lines_with_quotes.txt": lambda names, first: "\r\n".join(f'"{name}"' for name in names),
    "lines_with_commas.txt": lambda names, first: ",\n".join(f"'{name}'" for name in names),
    "header.csv": lambda names, first: "\n".join(["name", *names]),
    "yaml.yaml": lambda names, first: "names:\n" + "\n".join(f"  - {name}" for name in names),
    "numbered.yaml": lambda names, first: (
        "names:\n" + "\n".join(f"  {n}: {name}" for n, name in enumerate(names, first))
    ),
    "before.txt": lambda names, first: "\n".join(f"{n} {x}" for n, x in enumerate(names, first)),
    "after.txt": lambda names, first: "\n".join(f"{x} {n}" for n, x in enumerate(names, first)),
    "tab_before.txt": lambda names, first: "\n".join(
        f"{n}\t{x}" for n, x in enumerate(names, first)
    ),
    "tab_after.tsv": lambda names, first: "\n".join(
        f"{x}\t{n}" for n, x in enumerate(names, first)
    ),
    "padded.txt": lambda names, first: "\n".join(
        f"{n:03} {x.replace(' ', '_')}" for n, x in enumerate(names, first)
    ),
    "comma.txt": lambda names, first: "\n".join(f"{n}, {x}" for n, x in enumerate(names, first)),
    "two.csv": lambda names, first: as_table(
        [[str(n), x] for n, x in enumerate(names, first)], ",", "id", "name"
    ),
    "two_turned.csv": lambda names, first: as_table(
        [[x, str(n)] for n, x in reversed(list(enumerate(names, first)))], ","
    ),
    "many.csv": lambda names, first: as_table(
        [[f"v{n}", x, str(n), "", "train"] for n, x in enumerate(names, first)],
        ",",
        *("key", "label", "index", "remark", "split"),
    ),
    "many_without_header.csv": lambda names, first: as_table(
        [[str(n), x, x.replace(" ", "_"), f"{n}.5"] for n, x in enumerate(names, first)], ";"
    ),
    "list.json": lambda names, first: json.dumps(names),
    "by_name.json": lambda names, first: json.dumps({x: n for n, x in enumerate(names, first)}),
    "by_name_with_quotes.json": lambda names, first: json.dumps(
        {f'"{x}"' if " " in x else x: n for n, x in enumerate(names, first)}
    ),
    "texts.json": lambda names, first: json.dumps({x: str(n) for n, x in enumerate(names, first)}),
    "by_number.json": lambda names, first: json.dumps(
        {str(n): f'"{x}"' for n, x in enumerate(names, first)}, indent=1
    ),
    "json_in.txt": lambda names, first: json.dumps(
        {x: n for n, x in enumerate(names, first)}, indent=1
    ),
    "pairs.json": lambda names, first: json.dumps([[n, x] for n, x in enumerate(names, first)]),
    "objects.json": lambda names, first: json.dumps(
        [{"id": n, "name": x, "frequency": "f"} for n, x in enumerate(names, first)]
    ),
    "config.json": lambda names, first: json.dumps(
        {
            "architectures": ["VideoMAEForVideoClassification"],
            "id2label": {str(n): x for n, x in enumerate(names, first)},
            "label2id": {x: n for n, x in enumerate(names, first)},
            "hidden_size": 768,
        }
    ),
    "list.py": lambda names, first: f'"""Of K."""\nimport os\nCLASSES = {pprint.pformat(names)}\n',
    "tuple.py": lambda names, first: f"CLASSES: tuple[str, ...] = {tuple(names)!r}",
    "dict.py": lambda names, first: (
        f"N = 400\nsome = ['a', 'b']\nkinetics = {dict(enumerate(names, first))!r}\n"
    ),
    "python_in.txt": lambda names, first: repr({x: n for n, x in enumerate(names, first)}),
    "assigned_in.txt": lambda names, first: f"# classes\nlabels = {names!r}",
    "map.pbtxt": as_pbtxt,
    "pbtxt_in.txt": lambda names, first: as_pbtxt(names, first, "'"),
}


@pytest.mark.parametrize("file", FORMS)
def test_every_form_says_the_same(tmp_path: Path, file: str) -> None:
    for first in (0, 1):
        (tmp_path / file).write_text(FORMS[file](K400, first), newline="")
        result = check_class_file(tmp_path / file)
        assert (result.dataset, result.family, result.wrong) == ("k400", "alphabetical", ())
        assert result.first in (first, None)
        numbers = [n for n in (file, FORMS[file](["abseiling"], 7)) if "7" in n]
        assert (result.first is None) == (not numbers)


@given(
    file=st.sampled_from(sorted(FORMS)),
    names=st.lists(st.sampled_from(class_names()), unique=True, min_size=2, max_size=30),
    first=st.sampled_from([0, 1]),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_are_those_that_were_written(
    tmp_path: Path, file: str, names: list[str], first: int
) -> None:
    (tmp_path / file).write_text(FORMS[file](names, first), newline="")
    found = [name.replace("_", " ") for name in read_class_file(tmp_path / file).names]
    assert found == names


@pytest.mark.parametrize("file", FORMS)
def test_a_row_that_is_wrong_is_found_in_every_form(tmp_path: Path, file: str) -> None:
    names = [*K400]
    names[3], names[7], names[0] = names[7], names[3], "abseilng"
    (tmp_path / file).write_text(FORMS[file](names, 0), newline="")
    result = check_class_file(tmp_path / file)
    assert [row.index for row in result.wrong] == [0, 3, 7], file
    assert result.num_rows == 400


# --- what is none

OTHERS: dict[str, tuple[str, str]] = {
    "imagenet.txt": ("tench\ngoldfish\nabseiling", "2 of them are no class of Kinetics, like 'te"),
    "clips.csv": (
        "label,id\n" + "abseiling,x\narchery,y\n" * 9,
        "18 names of 2 classes: a list of",
    ),
    "long.csv": ("a\n" * 6000, "has 6,000 lines, and no list of classes has so many"),
    "many.json": (json.dumps(["archery"] * 6000), "6,000 names, and no list of classes"),
    "large.txt": ("archery " * 200_000, "has 1,600,000 bytes, which is too much"),
    "digits.txt": ("9" * 5000 + " abseiling", "should run from 1 to 1 once each"),
    "digits.json": ('{"abseiling": ' + "9" * 5000 + "}", "is broken JSON"),
    "digits.py": ("x = " + "9" * 5000, "is no Python"),
    "cell.csv": ("0," + "x" * 200_000, "are no class of Kinetics"),
    "deep.json": ("[" * 100_000, "nested too deep"),
    "deep.py": ("x = " + "[" * 90 + "]" * 90, "none of its statements is a literal"),
    "deeper.py": ("x = " + "-" * 100_000 + "1", "nested too deep|is no Python"),
    "twice.json": ('{"abseiling": 0, "abseiling": 1}', "has the key 'abseiling' twice"),
    "gap.json": ('{"abseiling": 0, "archery": 2}', "from 0 to 1 once each; 1 is missing"),
    "gap_from_1.txt": ("1 abseiling\n3 archery", "from 1 to 2 once each; 2 is missing"),
    "both.csv": ("archery,abseiling\nabseiling,archery", "columns 1, 2 have names .* that differ"),
    "orders.csv": ("0,1,archery\n1,0,abseiling", "several columns of numbers"),
    "lists.json": ('{"a": ["archery"], "b": ["abseiling"]}', "has 2 lists of names that differ"),
    "half.pbtxt": (
        'item { name: "archery" id: 1 }\nitem { name: "abseiling" }',
        "1 of its 2 items",
    ),
    "nameless.pbtxt": ("item { id: 1 }", "one of its items has no name"),
    "code.py": ("import os\nnames = os.listdir('.')", "is a literal list or dict of names"),
    "number.json": ("7", "neither a list of names"),
    "rows.json": ("[341, 158, 189]", "neither a list of names"),
    "rows.txt": ("341\n158\n189", "it has no names, or lines of different forms"),
    "flags.json": ('{"archery": true}', "neither a list of names"),
    "html.txt": ("<html>\n<body>404</body>", "are no class of Kinetics, like '<html>'"),
}


@pytest.mark.parametrize("file", OTHERS)
def test_what_is_no_class_file_says_why(tmp_path: Path, file: str) -> None:
    text, words = OTHERS[file]
    (tmp_path / file).write_text(text)
    with pytest.raises(SourceError, match=words):
        check_class_file(tmp_path / file)


def test_a_python_file_is_never_run(tmp_path: Path) -> None:
    names = tmp_path / "names.py"
    runs = f"__import__('pathlib').Path({str(tmp_path / 'was here')!r}).touch()"
    names.write_text(f"{runs}\nother = [{runs}]\nnames = {K400!r}\n")
    assert check_class_file(names).wrong == ()
    assert not (tmp_path / "was here").exists()
    exec(names.read_text())
    assert (tmp_path / "was here").exists(), "or else this would prove nothing"


@given(text=st.text(alphabet="{}[]\"':,#=\\\n\t -01a", max_size=40))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_read_or_says_why(tmp_path: Path, text: str) -> None:
    for ending in ("txt", "json", "py", "pbtxt"):
        (tmp_path / f"a.{ending}").write_text(text, newline="")
        try:
            assert read_class_file(tmp_path / f"a.{ending}").names
        except SourceError as error:
            assert class_file_forms._FORMS in str(error)
