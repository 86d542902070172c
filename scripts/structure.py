"""Count the rooms of each package and the arrows between them; exit 1 where a limit is broken.

    python scripts/structure.py            a line for each package
    python scripts/structure.py --arrows   and every arrow

An entry is a direct child of a package with Python in it, `__init__` aside. An arrow is a pair of
entries with any import between them: in functions and under TYPE_CHECKING too, relative imports
resolved.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"k710": (20, 80), "uniformerv2": (20, 55)}  # entries, arrows
COUNTED_LINES = ("k710", "uniformerv2", "cli/k710_cli")


def find_entries(package: Path) -> set[str]:
    """Name the modules of `package`, and its folders that have Python in them."""
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    folders = [path for path in package.iterdir() if path.is_dir()]
    return modules | {folder.name for folder in folders if any(folder.rglob("*.py"))}


def find_imports(path: Path, package: Path) -> Iterator[list[str]]:
    """Yield each name that a file imports from `package`, as its parts below the package."""
    home = path.relative_to(package.parent).parent.parts  # the package that the file is in
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] if node.level else ()
            module = node.module.split(".") if node.module else ()
            names = [[*base, *module, alias.name] for alias in node.names]
        else:
            continue
        yield from (name[1:] for name in names if name[0] == package.name and name[1:])


def find_arrows(package: Path) -> set[tuple[str, str]]:
    """Find the pairs (importing entry, imported entry) of `package`."""
    entries = find_entries(package)
    arrows = set()
    for path in [*package.rglob("*.py"), *package.rglob("*.pyi")]:
        origin = path.relative_to(package).parts[0].partition(".")[0]
        if origin == "__init__":
            continue
        for name in find_imports(path, package):
            if name[0] in entries and name[0] != origin:
                arrows.add((origin, name[0]))
    return arrows


def count_lines(folder: Path, endings: tuple[str, ...]) -> int:
    """Count the lines of all files below `folder` with one of these endings."""
    files = [path for path in folder.rglob("*") if path.suffix in endings]
    return sum(path.read_text(encoding="utf-8").count("\n") for path in files)


def main() -> None:
    """Print the counts, then what breaks a limit."""
    wrong = []
    for name, (max_entries, max_arrows) in LIMITS.items():
        entries, arrows = find_entries(ROOT / name), find_arrows(ROOT / name)
        both_ways = sorted(pair for pair in arrows if pair[::-1] in arrows and pair < pair[::-1])
        print(
            f"{name}: {len(entries)} entries (at most {max_entries}), "
            f"{len(arrows)} arrows (at most {max_arrows}), {len(both_ways)} pairs both ways"
        )
        if "--arrows" in sys.argv:
            for entry in sorted(entries):
                print(f"  {entry} <- {' '.join(sorted(b for a, b in arrows if a == entry))}")
        if len(entries) > max_entries or len(arrows) > max_arrows:
            wrong.append(f"{name} has too many entries or arrows")
        wrong += [f"{name}: {a} and {b} import each other" for a, b in both_ways]
    python = {name: count_lines(ROOT / name, (".py", ".pyi")) for name in COUNTED_LINES}
    sql = sum(count_lines(ROOT / name, (".sql",)) for name in COUNTED_LINES)
    each = ", ".join(f"{name} {lines:,}" for name, lines in python.items())
    print(f"lines of Python: {sum(python.values()):,} ({each}); of SQL: {sql:,}")
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
