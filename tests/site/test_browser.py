"""The pages in a real browser, opened from file://, narrow and wide, light and dark."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from claimbook.workspace import Workspace

PAGES = (
    "index",
    "papers/siglip",
    "papers/hostile",
    "experiments/judged",
    "experiments/broken",
    "runs/judged/treatment-0",
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra `dev`)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("site", ["full", "korean"])
def test_pages_are_whole_quiet_and_fit(
    browser: Any, site: str, width: int, scheme: str, request: pytest.FixtureRequest
) -> None:
    workspace: Workspace = request.getfixturevalue(site)
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda call: asked.append(call.url))
    for name in PAGES:
        page.goto((workspace.site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("document.body.scrollWidth") <= width, name
        pictures = "[...document.images].filter(image => image.getAttribute('src'))"
        assert page.evaluate(f"{pictures}.every(image => image.complete && image.naturalWidth > 0)"), name
        assert page.evaluate("document.styleSheets.length") == 1, name
        assert page.evaluate("getComputedStyle(document.body).margin") == "0px", name
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()


CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length) continue;
    const [a, b] = [parse(getComputedStyle(element).color), ground(element)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser: Any, full: Workspace, scheme: str) -> None:
    """Contrast of at least 4.5 to 1, the AA level of WCAG 2.2, criterion 1.4.3."""
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    for name in PAGES:
        page.goto((full.site / f"{name}.html").as_uri())
        assert page.evaluate(CONTRAST) == [], name
    context.close()


def test_keyboard_focus_is_visible_and_begins_with_the_way_past_the_bar(
    browser: Any, full: Workspace
) -> None:
    page = browser.new_page()
    page.goto((full.site / "experiments/judged.html").as_uri())
    page.keyboard.press("Tab")
    focused = "document.activeElement"
    assert page.evaluate(f"{focused}.getAttribute('href')") == "#content"
    assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    assert page.evaluate(f"{focused}.getBoundingClientRect().left") >= 0
    page.close()
