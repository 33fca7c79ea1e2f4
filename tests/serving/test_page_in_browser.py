"""The page of `nordocr serve` in a real Chromium: drop, read, correct, save, download, keyboard."""

import base64
import json
import shutil

import pypdfium2
import pytest

from nordocr.serving import ServeSettings
from nordocr_cli.data.manifest import iterate_manifest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright_api = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="chromium is not installed (Debian: apt-get install chromium)",
    ),
]

DROP = """
([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  const event = { dataTransfer: transfer, bubbles: true, cancelable: true };
  document.body.dispatchEvent(new DragEvent("dragover", event));
  document.body.dispatchEvent(new DragEvent("drop", event));
}
"""


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def settings(tmp_path):
    return ServeSettings(corrections=tmp_path / "corrections")


@pytest.fixture
def address(serve, settings):
    return serve(settings)


@pytest.fixture
def tab(browser, address):
    """A tab that notes what it asks for and what goes wrong; nothing of either is left over."""
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    requested, problems = [], []
    opened.on("request", lambda request: requested.append(request.url))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    opened.goto(address)
    yield opened
    own = (address, "data:", "blob:")
    assert [url for url in requested if not url.startswith(own)] == []
    assert problems == []
    context.close()


def drop(tab, path, name="scan.png"):
    tab.evaluate(DROP, [name, base64.b64encode(path.read_bytes()).decode()])
    tab.wait_for_selector("#lines textarea")


def image_width(tab):
    """Width in pixels of the page's picture, once it is there."""
    return tab.eval_on_selector(
        "#image", "image => image.decode().then(() => image.naturalWidth)"
    )


def values(tab):
    return tab.eval_on_selector_all(
        "#lines textarea", "inputs => inputs.map((i) => i.value)"
    )


def test_a_dropped_document_is_read_and_shown_with_boxes(tab, page):
    drop(tab, page[0])
    assert values(tab) == ["Summa 123", "Moms 456"]
    assert tab.locator("#boxes polygon").count() == 2
    assert tab.inner_text("#status") == "scan.png: 1 page, 2 lines"
    assert image_width(tab) == 500
    assert tab.inner_text("#lines li:first-child .sure").isdigit()


def test_lines_are_corrected_and_saved_by_keyboard_alone(tab, page, settings):
    drop(tab, page[0])
    tab.focus("#lines li:nth-child(1) textarea")
    tab.keyboard.press("End")
    tab.keyboard.press("Backspace")
    tab.keyboard.type("8")
    tab.keyboard.press("Enter")  # confirms the line and goes on to the next
    focused = "document.activeElement.getAttribute('aria-label')"
    assert tab.evaluate(focused) == "Line 2"
    tab.keyboard.type("wrong")
    tab.keyboard.press("Escape")
    tab.keyboard.press("ArrowUp")
    assert tab.evaluate(focused) == "Line 1"
    assert values(tab) == ["Summa 128", "Moms 456"]
    tab.keyboard.press("Control+s")
    tab.wait_for_selector("#status:has-text('Saved')")
    entries = iterate_manifest(settings.corrections / "manifest.jsonl")
    rows = [entry.row for entry in entries]
    assert [row.text for row in rows] == ["Summa 128"]


def test_the_box_of_the_line_in_hand_is_marked_and_a_click_on_a_box_goes_to_its_line(
    tab, page
):
    drop(tab, page[0])
    assert image_width(tab) == 500
    tab.focus("#lines li:nth-child(2) textarea")
    assert tab.eval_on_selector_all(
        "#boxes polygon", "boxes => boxes.map((b) => b.classList.contains('current'))"
    ) == [False, True]
    tab.locator("#boxes polygon").first.click()
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == "Line 1"


@pytest.mark.parametrize(
    ("format", "suffix"), [("text", "txt"), ("pdf", "pdf"), ("alto", "alto.xml")]
)
def test_a_file_is_downloaded_with_the_corrections(tab, page, tmp_path, format, suffix):
    drop(tab, page[0])
    tab.fill("#lines li:nth-child(1) textarea", "Summa 128")
    with tab.expect_download() as started:
        tab.click(f".download[data-format={format}]")
    target = tmp_path / started.value.suggested_filename
    started.value.save_as(target)
    assert target.name == f"scan.{suffix}"
    if format == "pdf":
        document = pypdfium2.PdfDocument(target)
        text = document[0].get_textpage().get_text_range()
        document.close()
    else:
        text = target.read_text(encoding="utf-8")
    assert "128" in text
    assert "123" not in text


def test_a_document_that_cannot_be_read_is_named_and_the_page_goes_on(
    browser, address, page
):
    tab = browser.new_page()
    tab.goto(address)
    tab.evaluate(DROP, ["evil<img src=x>.png", base64.b64encode(b"no picture").decode()])
    tab.wait_for_selector("#status.error")
    assert tab.inner_text("#status").startswith(
        "evil<img src=x>.png: these bytes are no PDF"
    )
    drop(tab, page[0])
    assert len(values(tab)) == 2
    tab.close()


def test_pages_turn_with_keys_and_buttons(tab, page, tmp_path, reader, monkeypatch):
    pages = pypdfium2.PdfDocument.new()
    for _ in range(2):
        pages.new_page(200, 100)
    pages.save(tmp_path / "two.pdf")
    layout = tmp_path / "two.json"
    line = {"bbox": {"x": 10, "y": 10, "width": 100, "height": 30}, "text": ""}
    pages_of_layout = [{"page_index": n, "lines": [line] * (n + 1)} for n in (0, 1)]
    layout.write_text(json.dumps({"pages": pages_of_layout}), encoding="utf-8")
    monkeypatch.setattr(reader, "regions", layout)
    drop(tab, tmp_path / "two.pdf", "two.pdf")
    assert (tab.inner_text("#place"), tab.locator("#lines textarea").count()) == (
        "1 of 2",
        1,
    )
    tab.keyboard.press("PageDown")
    assert (tab.inner_text("#place"), tab.locator("#lines textarea").count()) == (
        "2 of 2",
        2,
    )
    assert tab.is_disabled("#next")
    tab.click("#previous")
    assert tab.inner_text("#place") == "1 of 2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 768, 1920])
def test_it_fits_every_screen_and_can_be_read_in_light_and_dark(
    browser, address, page, width, scheme
):
    context = browser.new_context(
        viewport={"width": width, "height": 700}, color_scheme=scheme
    )
    tab = context.new_page()
    tab.goto(address)
    drop(tab, page[0])
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = tab.evaluate(CONTRASTS)
    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
    context.close()


def test_on_a_telephone_the_line_in_hand_and_all_of_its_text_are_seen(
    browser, address, page
):
    context = browser.new_context(viewport={"width": 320, "height": 640})
    tab = context.new_page()
    tab.goto(address)
    drop(tab, page[0])
    assert image_width(tab) == 500
    one_row = tab.locator("#lines textarea").nth(0).bounding_box()["height"]
    last = tab.locator("#lines textarea").nth(1)
    last.fill(
        "a line of text that is far too long for one row of a telephone\nand a second one"
    )
    assert last.input_value().endswith("telephone and a second one")
    assert last.bounding_box()["height"] > 2 * one_row
    assert last.evaluate("e => e.scrollHeight <= e.clientHeight")

    tab.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    last.focus()
    seen = tab.evaluate(
        "() => [document.activeElement, document.getElementById('sheet'),"
        " document.querySelector('#boxes .current')].map((element) => {"
        "  const box = element.getBoundingClientRect();"
        "  return box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;"
        " })"
    )
    assert seen == [True, True, True]
    context.close()


# WCAG 2 contrast of text against the first opaque ground behind it.
CONTRASTS = """
() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const selector of ["#status", "button", ".button", ".hint", "#lines textarea", ".sure", "#place"]) {
    const element = document.querySelector(selector);
    const text = light(parse(getComputedStyle(element).color));
    const behind = light(ground(element));
    found[selector] = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
  }
  return found;
}
"""


def test_controls_have_names_and_the_status_is_announced(tab, page):
    drop(tab, page[0])
    unnamed = tab.evaluate(
        "[...document.querySelectorAll('button, input, textarea')].filter((e) =>"
        " !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).length"
    )
    assert unnamed == 0
    assert tab.get_attribute("#status", "aria-live") == "polite"
    assert tab.get_attribute("html", "lang") == "en"
