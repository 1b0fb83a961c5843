"""The demo's page in a real browser, by mouse and by keyboard, with what is refused; skipped without Chromium."""

from __future__ import annotations

import re
import shutil

import pytest
from demo_server import LIMITS, serve_demo
from playwright.sync_api import expect, sync_playwright
from tiny import noisy_image

import hf_mner

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
TEXT = "Steve Kerr coaches the Warriors in Oakland"


@pytest.fixture(scope="module")
def server(scanner_folder, tmp_path_factory):
    with serve_demo(scanner_folder, tmp_path_factory.mktemp("grounded")) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(server, browser):
    """The page; at the end it must have fetched nothing elsewhere and written no error to the console."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1400})
    opened.set_default_timeout(30_000)
    errors, elsewhere = [], []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    local = (server.url, "data:", "blob:")
    opened.on("request", lambda request: None if request.url.startswith(local) else elsewhere.append(request.url))
    opened.goto(server.url)
    field(opened, "Post").wait_for()
    opened.errors = errors
    yield opened
    opened.close()
    assert not elsewhere
    assert not errors


def field(page, label):
    return page.get_by_label(re.compile(rf"^\s*{label}"))


def found(page):
    return page.locator("#entities")


def picture(folder, size=(64, 48)):
    path = folder / "a.png"
    noisy_image(0, (64, 48)).resize(size).save(path)
    return str(path)


def upload(page, path):
    page.locator("input[type=file]").first.set_input_files(path)


def message(page, text):
    expect(page.get_by_test_id("toast-body").filter(has_text=text).first).to_be_visible()


def choose(page, name):
    field(page, "Model").click()
    page.get_by_role("option", name=re.compile(name)).click()


def test_entities_and_boxes_appear(server, page, tmp_path):
    path = picture(tmp_path)
    expected = hf_mner.pipeline(model=server.models["grounded"])({"text": TEXT, "image": path})
    field(page, "Post").fill(TEXT)
    upload(page, path)
    expect(page.get_by_label("Remove Image")).to_be_visible()
    choose(page, "grounded")
    page.get_by_role("button", name="Find entities").click()
    found(page).locator("mark").first.wait_for()
    marked = found(page).locator("mark").evaluate_all("all => all.map(one => one.dataset.entity)")
    assert set(marked) == {str(number) for number in range(1, len(expected) + 1)}
    boxes = found(page).locator(".hf-mner-box")
    assert boxes.count() == sum(len(entity["boxes"]) for entity in expected) > 0
    number = found(page).locator("svg g").first.get_attribute("data-entity")
    mark = found(page).locator(f'mark[data-entity="{number}"]').first
    stroke = boxes.first.evaluate("one => getComputedStyle(one).stroke")
    assert mark.evaluate("one => getComputedStyle(one).backgroundColor") == stroke
    expect(found(page).get_by_role("img", name=re.compile("Image of the post with"))).to_be_visible()


def test_the_knowledge_that_a_decision_saw(page):
    field(page, "Post").fill(TEXT)
    field(page, "Caption").fill("a man with a ball")
    page.get_by_role("button", name="Find entities").click()
    summary = found(page).locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    expect(found(page).get_by_text("a man with a ball").first).to_be_visible()


def test_it_can_be_used_by_keyboard_alone(page):
    page.keyboard.press("Tab")
    for _ in range(12):
        if page.evaluate("document.activeElement.tagName") == "TEXTAREA":
            break
        page.keyboard.press("Tab")
    page.keyboard.type(TEXT)
    reached = []
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel || ''"))
        if "Find entities" in reached[-1]:
            break
    assert "Find entities" in reached[-1], reached
    page.keyboard.press("Enter")
    expect(found(page).locator("mark").first).to_be_visible()


def test_shift_and_enter_ask_as_well(page):
    field(page, "Post").fill(TEXT)
    field(page, "Post").press("Shift+Enter")
    expect(found(page).locator("mark").first).to_be_visible()


def test_an_empty_text_is_a_message(page):
    page.get_by_role("button", name="Find entities").click()
    message(page, "expected a text with words")
    assert not found(page).locator("mark").count()


def test_a_text_that_is_too_long_is_a_message(page):
    field(page, "Post").fill("a" * 300)
    page.get_by_role("button", name="Find entities").click()
    message(page, "expected at most 200")


def test_a_system_without_checkpoint_says_so(page):
    field(page, "Post").fill(TEXT)
    choose(page, "mmavk .*no checkpoint given")
    page.get_by_role("button", name="Find entities").click()
    message(page, "a system that has no checkpoint here; choose one of scanner, grounded")


def test_an_image_with_too_many_pixels_is_a_message(page, tmp_path):
    field(page, "Post").fill(TEXT)
    upload(page, picture(tmp_path, (200, 60)))
    expect(page.get_by_label("Remove Image")).to_be_visible()
    page.get_by_role("button", name="Find entities").click()
    message(page, "has 200 x 60 = 12,000 pixels, more than the limit")


def test_a_file_that_is_too_large_is_a_message(page, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(LIMITS.file_bytes + 1))
    upload(page, str(tmp_path / "large.png"))
    message(page, "exceed the maximum allowed size")
    page.errors[:] = [text for text in page.errors if "413" not in text]  # Chromium's own note of the refusal
