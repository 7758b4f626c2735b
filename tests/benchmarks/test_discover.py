"""The benchmark of discovery asks both engines the same and hears the same; its times are `make bench`'s."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def discover(test_data: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark", Path(__file__).parent / "discover.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(discover, test_data, tmp_path_factory) -> dict:
    """The answers of each engine that is installed, over 900 papers."""
    folder = tmp_path_factory.mktemp("discover")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLAIMBOOK_TEST_DATA", str(test_data))
        real = discover.real_records()
    snapshot = folder / "snapshot.jsonl"
    discover.write_snapshot(snapshot, discover.replicated(real, 900))
    questions = [discover.question(parts, 2, **filters) for parts, filters in discover.QUESTIONS.values()]
    return {
        name: discover.measured(name, snapshot, folder / name, questions)
        for name, (python, _) in discover.ENGINES.items()
        if python.exists()
    }


def test_every_question_is_answered_and_timed(discover, results):
    ours = results["FTS5"]
    assert [len(answer["ms"]) for answer in ours["answers"]] == [2] * len(discover.QUESTIONS)
    assert ours["seconds"] > 0
    assert ours["megabytes"] > 1


def test_both_engines_find_equally_many_papers(discover, results):
    if "tantivy" not in results:
        pytest.skip("tantivy is not installed; `make peers` installs it")
    found = {name: [answer["total"] for answer in result["answers"]] for name, result in results.items()}
    assert dict(zip(discover.QUESTIONS, found["FTS5"], strict=True)) == dict(
        zip(discover.QUESTIONS, found["tantivy"], strict=True)
    )
