"""What changes a fingerprint and what does not."""

from __future__ import annotations

import json

import pytest

from claimbook.errors import RunError
from claimbook.products.named import fingerprint_of
from claimbook.runner.fingerprints import code_fingerprints, notebook_fingerprint


def change(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_outputs_and_markdown_leave_a_notebooks_fingerprint_alone_and_code_does_not(toy):
    path = toy.notebook("toy")
    before = notebook_fingerprint(path)
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "hello"}]
    notebook["cells"][1]["execution_count"] = 7
    notebook["cells"].append({"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# Remarks"})
    path.write_text(json.dumps(notebook))
    assert notebook_fingerprint(path) == before
    change(path, "n = 200", "n = 201")
    assert notebook_fingerprint(path) != before


def test_code_is_followed_through_imports_and_stops_at_what_decides_no_number(toy):
    path = toy.notebook("toy")
    names = code_fingerprints(path, toy)
    assert "claimbook/products/subset.py" in names
    assert not [
        name for name in names if name.startswith(("claimbook/session", "claimbook/cli", "claimbook/vlm"))
    ]
    change(path, "import os, random", "from claimbook.vlm.techniques import siglip\\nimport os, random")
    names = code_fingerprints(path, toy)
    assert {"claimbook/vlm/__init__.py", "claimbook/vlm/techniques/siglip.py"} <= names.keys()
    assert "claimbook/vlm/techniques/clip.py" not in names


def test_a_module_of_ones_own_beside_the_notebook_is_covered(toy):
    path = toy.notebook("toy")
    helper = toy.notebooks / "shelf" / "count.py"
    helper.parent.mkdir()
    (helper.parent / "__init__.py").write_text("from .count import count\n")
    helper.write_text("def count(): return 1\n")
    change(path, "import os, random", "%matplotlib inline\\nimport shelf\\nimport os, random")
    before = code_fingerprints(path, toy)
    assert {"notebooks/shelf/__init__.py", "notebooks/shelf/count.py"} <= before.keys()
    helper.write_text("def count(): return 2\n")
    after = code_fingerprints(path, toy)
    assert {name for name in before if before[name] != after[name]} == {"notebooks/shelf/count.py"}


def test_a_title_changes_the_fingerprint_of_the_product_set(toy):
    before, description = fingerprint_of([{"products": "tiny"}], toy)
    assert description == "tiny: 12 pictures of 12 products, 6 train, 0 val, 6 test"
    change(toy.root / "data" / "items.jsonl", "mug 7", "mug seven")
    after, _ = fingerprint_of([{"products": "tiny"}], toy)
    assert after != before


def test_several_product_sets_make_one_fingerprint(toy):
    one, _ = fingerprint_of([{"products": "tiny"}], toy)
    two, description = fingerprint_of([{"products": "tiny", "shift_products": "catalog"}], toy)
    assert one != two
    assert "catalog: " in description
    assert "tiny: " in description


def test_ipythons_own_syntax_is_read_and_a_slip_is_named_with_its_cell(toy):
    path = toy.notebook("toy")
    change(path, "import os, random", "%matplotlib inline\\nfiles = !ls\\nimport os, random")
    assert code_fingerprints(path, toy)
    change(path, "import os, random", "def broken(:\\nimport os, random")
    with pytest.raises(RunError, match=r"toy\.ipynb: code cell 2, line 3"):
        code_fingerprints(path, toy)
