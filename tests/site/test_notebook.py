import base64
import json
from pathlib import Path
from typing import Any

import pytest

from claimbook.errors import SiteError
from claimbook.site.notebook import Cell, cells
from claimbook.site.shelf import Page, Shelf


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Shelf(tmp_path / "site", tmp_path).page("runs/e/r.html", tmp_path / "notebook.ipynb")


def read(page: Page, document: Any) -> list[Cell]:
    page.source.write_text(json.dumps(document), "utf-8")
    return cells(page)


def test_headings_of_a_notebook_are_one_outline(page: Page, make: Any) -> None:
    shown = read(page, make.notebook(make.markdown_cell("# a"), make.markdown_cell("### b")))
    assert [str(cell.html) for cell in shown] == ["<h2>a</h2>\n", "<h3>b</h3>\n"]


def test_empty_cells_are_left_out(page: Page, make: Any) -> None:
    raw = {"cell_type": "raw", "source": "<script>", "metadata": {}}
    assert read(page, make.notebook(make.code_cell(""), make.markdown_cell(" \n"), raw)) == []


def test_a_progress_bar_is_shown_as_it_ended(page: Page, make: Any) -> None:
    cell = make.code_cell("x", make.stream("\r 0%\r 50%"), make.stream("\r100%\n\x1b[32mdone\x1b[0m\n"))
    (shown,) = read(page, make.notebook(cell))
    assert [output.text for output in shown.outputs] == ["100%\ndone"]


def test_a_figure_keeps_its_alt_text_and_size(page: Page, make: Any) -> None:
    data = {"image/png": base64.b64encode(make.picture(64, 48)).decode()}
    cell = make.code_cell("x", make.display(data, **{"image/png": {"alt": "막대 여덟 개"}}))
    figure = read(page, make.notebook(cell))[0].outputs[0].figure
    assert figure is not None
    assert (figure.alt, figure.width, figure.height) == ("막대 여덟 개", 64, 48)
    assert (page.shelf.folder / figure.path).read_bytes() == make.picture(64, 48)
    assert page.shelf.warnings == []


def test_alt_text_may_stand_in_the_metadata_of_output_or_cell(page: Page, make: Any) -> None:
    data = {"image/png": base64.b64encode(make.picture(64, 48)).decode()}
    document = make.notebook(
        make.code_cell("x", make.display(data, alt="from the output")),
        make.code_cell("x", make.display(data), alt="from the cell"),
    )
    figures = [cell.outputs[0].figure for cell in read(page, document)]
    assert [figure.alt for figure in figures if figure] == ["from the output", "from the cell"]


def test_a_display_without_a_picture_falls_back_to_its_text(page: Page, make: Any) -> None:
    cell = make.code_cell("x", make.display({"image/png": "no base64!", "text/plain": "<Figure>"}))
    assert [(o.kind, o.text) for o in read(page, make.notebook(cell))[0].outputs] == [("text", "<Figure>")]


def test_html_of_nothing_but_a_script_falls_back_to_text(page: Page, make: Any) -> None:
    cell = make.code_cell("x", make.display({"text/html": "<script>1</script>", "text/plain": "a widget"}))
    assert read(page, make.notebook(cell))[0].outputs[0].text == "a widget"


def test_a_table_loses_its_styles_and_keeps_its_numbers(page: Page, make: Any) -> None:
    table = make.TABLE.format(head="<th>a</th>", row="<td>1.5</td>")
    html = str(
        read(page, make.notebook(make.code_cell("x", make.display({"text/html": table}))))[0].outputs[0].html
    )
    assert "<td>1.5</td>" in html
    assert "color" not in html
    assert "onclick" not in html


def test_latex_output_becomes_mathml(page: Page, make: Any) -> None:
    cell = make.code_cell("x", make.display({"text/latex": "$e = mc^2$"}))
    assert str(read(page, make.notebook(cell))[0].outputs[0].html).startswith('<math display="block">')


def test_an_error_is_shown_without_colour_codes(page: Page, make: Any) -> None:
    error = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[0;31mE\x1b[0m: v"]}
    (output,) = read(page, make.notebook(make.code_cell("x", error)))[0].outputs
    assert (output.kind, output.text) == ("error", "E: v")


def test_a_pasted_picture_is_shown(page: Page, make: Any) -> None:
    cell = make.markdown_cell("![eight bars](attachment:a.png)")
    cell["attachments"] = {"a.png": {"image/png": base64.b64encode(make.picture(64, 48)).decode()}}
    assert 'src="../../figures/' in str(read(page, make.notebook(cell))[0].html)


def test_endless_output_is_cut(page: Page, make: Any) -> None:
    (cell,) = read(page, make.notebook(make.code_cell("x", make.stream("a" * 30_000))))
    assert cell.outputs[0].text.endswith("[… 10,000 characters]")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"nbformat": 4}', '{"nbformat": 3, "worksheets": []}', "\udcff"]
)
def test_what_is_no_notebook_says_what_to_do(page: Page, text: str) -> None:
    page.source.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SiteError, match=r"notebook\.ipynb") as caught:
        cells(page)
    assert "run this arm and seed again" in caught.value.fix
