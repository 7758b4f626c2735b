"""discover build and discover search as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from snapshots import many, paper, write

from claimbook.cli import main

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(toy, monkeypatch, capsys) -> Typed:
    """Type `claimbook discover …` in the toy workspace: exit code, standard output, standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["claimbook", "discover", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def shelf(typed: Typed, tmp_path: Path) -> Typed:
    """With an index of four papers, one of which is the toy workspace's."""
    records = [
        paper("2303.15343", title="Sigmoid loss", authors=["A B", "C D", "E F", "G H", "I J"]),
        paper("2001.00009", title="[bold]A survey[/bold] of losses", abstract="Nothing to see."),
        *many(2),
    ]
    assert typed("build", write(tmp_path / "shelf.jsonl", records))[0] == 0
    return typed


def test_a_build_says_what_it_did(typed, tmp_path):
    file = write(tmp_path / "a.jsonl", ["{", *many(3)])
    code, out, err = typed("build", file)
    assert (code, out) == (0, "3 papers added, 0 replaced, 0 unchanged; 3 in the index\n")
    assert err.startswith(f"1 lines skipped, the first of them:\n  {file}:1: no JSON")
    code, out, err = typed("build", file)
    assert (code, err) == (0, "")
    assert out.startswith(f"{file}: read to its end before, nothing to do\n0 papers added")


def test_a_build_for_scripts(typed, tmp_path):
    file = write(tmp_path / "a.jsonl", ["{", *many(3)])
    built = json.loads(typed("build", file, "--json")[1])
    assert built.pop("complaints")[0].startswith(f"{file}:1: ")
    assert built == {
        "added": 3, "replaced": 0, "unchanged": 0, "skipped": 1, "known": [], "torn": [], "total": 3,
    }  # fmt: skip
    assert json.loads(typed("build", file, "--json")[1])["known"] == [str(file)]


def test_a_file_that_breaks_off_is_told_and_ends_with_an_error(typed, tmp_path):
    file = write(tmp_path / "a.jsonl.gz", many(2000))
    file.write_bytes(file.read_bytes()[:-500])
    code, out, err = typed("build", file)
    assert code == 1
    assert "papers added" in out
    assert "breaks off" in err


@pytest.mark.parametrize("name", ["missing.jsonl", "wrong.csv"])
def test_a_wrong_file_is_an_error_that_says_what_to_do(typed, tmp_path, name):
    (tmp_path / "wrong.csv").write_text("id,title\n")
    code, out, err = typed("build", tmp_path / name)
    assert (code, out) == (1, "")
    assert f"{tmp_path / name}: " in err
    assert "what to do: " in err


def test_without_an_index_the_command_that_builds_one_is_named(typed):
    code, out, err = typed("search", "anything")
    assert (code, out) == (1, "")
    assert "claimbook discover build FILE" in err


def test_papers_are_shown_as_text_and_those_of_the_library_with_a_star(shelf):
    code, out, err = shelf("search", "loss")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "2303.15343 ★  Sigmoid loss"
    assert lines[1] == "  2021-02-26  cs.CV cs.LG  A B, C D, E F, G H et al."
    assert lines[3] == "2001.00009  [bold]A survey[/bold] of losses"


def test_a_word_with_a_hyphen_is_left_out_and_an_unknown_option_is_none(shelf):
    assert shelf("search", "loss", "-survey", "--ids")[1] == "2303.15343\n"
    assert shelf("search", "--ids", "loss", '-"a survey"')[1] == "2303.15343\n"
    code, out, err = shelf("search", "loss", "--categroy", "cs.CV")
    assert (code, out) == (2, "")
    assert "--categroy" in err


def test_ids_alone_are_printed_one_a_line(shelf):
    assert shelf("search", "series", "--ids")[1] == "2001.00002\n2001.00001\n"
    assert shelf("search", "nowhere", "--ids") == (0, "", "")


def test_filters_and_pages(shelf):
    year_2021 = ("--since", "2021", "--until", "2021", "--category", "cs.*", "--ids")
    assert shelf("search", *year_2021)[1] == "2001.00009\n2303.15343\n"
    code, out, _ = shelf("search", "--limit", "1", "--offset", "1")
    assert code == 0
    assert out.splitlines()[-1] == "1 of 4 papers; --limit and --offset show others"
    assert shelf("search", "nowhere")[1] == "nothing found\n"
    assert shelf("search", "loss", "--offset", "9")[1] == "only 2 papers found; lower --offset\n"


def test_papers_for_scripts(shelf):
    found = json.loads(shelf("search", "sigmoid", "--json")[1])
    assert found == {
        "total": 1,
        "exact": True,
        "papers": [
            {
                "id": "2303.15343",
                "title": "Sigmoid loss",
                "authors": ["A B", "C D", "E F", "G H", "I J"],
                "categories": ["cs.CV", "cs.LG"],
                "published": "2021-02-26",
                "abstract": "State-of-the-art vision systems are trained to predict categories.",
                "in_library": True,
            }
        ],
    }
