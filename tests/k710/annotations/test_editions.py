"""The sources TOML: the official one as it is, and what is said of malformed ones."""

import tomllib
from pathlib import Path

import pytest

from k710.annotations.fetch import EDITIONS_DEFAULT, fetch_annotations
from k710.errors import SourceError
from k710.files import manifests_dir

pytest_plugins = ["support.edition_fixtures"]


def test_the_official_sources() -> None:
    tables = tomllib.loads((manifests_dir() / "sources.toml").read_text())
    assert list(tables) == ["k400", "k600", "k700", "k700_2020"]
    for name, table in tables.items():
        folder = "kinetics" + name.removeprefix("k")
        host = "https://storage.googleapis.com/deepmind-media/Datasets"
        assert table == {"url": f"{host}/{folder}.tar.gz", "folder": folder}
    assert set(EDITIONS_DEFAULT) < set(tables)


K400 = '[k400]\nurl = "http://a/b"\nfolder = "k"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[k400", "no TOML that can be read: "),
        ("\ufffe", "no TOML that can be read: "),
        ("k400 = 1", "'k400' is no table like [k400], with a url and a folder."),
        ('["../k"]\nurl = "http://a/b"', "'../k' is no table like [k400]"),
        ('[k400]\nfolder = "k"', "k400.url is missing, an http:// or https:// address."),
        ('[k400]\nurl = "http://a/b"', "k400.folder is missing, a plain folder name."),
        (K400 + 'sha265 = "0"', "k400 has an unknown key 'sha265'; the nearest is sha256."),
        (K400 + 'sha256 = "0"', "k400.sha256 is '0', not 64 hex digits."),
        (K400 + "sha256 = 7", "k400.sha256 is '7', not 64 hex digits."),
        (K400.replace('"k"', '"../k"'), "k400.folder is '../k', not a plain folder name."),
        (
            K400.replace('"k"', '".downloads"'),
            "k400.folder is '.downloads', not a plain folder name",
        ),
        (K400.replace('"k"', "[]"), "k400.folder is '[]', not a plain folder name."),
        (
            K400 + K400.replace("k400", "k600").replace('"k"', '"K"'),
            "k600.folder is the folder of k400 too",
        ),
        *(
            (
                K400.replace("http://a/b", url),
                f"k400.url is {url!r}, not an http:// or https:// address.",
            )
            for url in ("file:///etc/passwd", "ftp://a/b", "http:///a", "a/b")
        ),
    ],
)
def test_malformed_sources_name_file_and_key(
    root: Path, sources: Path, text: str, words: str
) -> None:
    sources.write_text(text)
    with pytest.raises(SourceError) as error:
        fetch_annotations(root, editions=["k400"], sources=sources)
    first, second = str(error.value).split("\n")
    assert first.startswith(f"{sources}: ")
    assert words in first
    assert second == "Mend that, or leave --sources out: k710 has one of its own."
    assert not root.exists()


def test_missing_sources(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.toml: no TOML .*: No such file or directory"):
        fetch_annotations(root, sources=tmp_path / "none.toml")
