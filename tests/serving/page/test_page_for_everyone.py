"""By keyboard, on small screens, in both colour schemes, and always in the same place."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.serving.conftest import encoded
from tests.serving.page.conftest import Site
from tests.serving.page.test_page import UNDER_WAY, choose, deblurred, file_of, zoom

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page

pytestmark = pytest.mark.slow

CONTROLS = """() => [...document.querySelectorAll("a, button, input, select, summary, [tabindex]")]
  .filter((item) => item.checkVisibility())"""

#: WCAG 2.2, success criterion 1.4.3: text against the first opaque ground below it.
LOW_CONTRAST = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((value) => value / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (item) => {
    const colour = getComputedStyle(item).backgroundColor;
    return colour.startsWith("rgba") && item.parentElement ? ground(item.parentElement) : colour;
  };
  const texts = [...document.querySelectorAll("body *")].filter((item) =>
    item.checkVisibility() && !item.closest("#viewer, .unseen")
    && [...item.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.map((item) => {
    const [a, b] = [light(getComputedStyle(item).color), light(ground(item))];
    return [item.textContent.trim(), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
}"""


@pytest.fixture
def phone(browser: "Browser", site: Site) -> Iterator["Page"]:
    """A small phone's screen, with touch."""
    context = browser.new_context(viewport={"width": 320, "height": 640}, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto(site.url)
    yield page
    context.close()


def in_states(page: "Page", site: Site, photograph: np.ndarray) -> Iterator[str]:
    """The page in each of its states, one after the other."""
    page.get_by_text("Options").click()
    yield "empty"
    site.engine.gate.clear()
    choose(page, file_of(encoded(photograph)))
    page.get_by_text(UNDER_WAY).wait_for()
    yield "working"
    site.engine.gate.set()
    page.get_by_role("link", name="Download").wait_for()
    yield "done"
    page.get_by_role("button", name="Another photograph").click()
    choose(page, file_of(b"hello, world", "notes.txt", "text/plain"))
    page.get_by_role("alert").wait_for()
    yield "trouble"


def test_every_control_has_a_name_and_is_reached_by_tab(
    page: "Page", site: Site, photograph: np.ndarray
) -> None:
    for state in in_states(page, site, photograph):
        tree = page.locator("body").aria_snapshot()
        for role in ("button", "link", "slider", "combobox", "checkbox", "progressbar", "img"):
            assert f"- {role}\n" not in tree, (state, tree)
        expected = page.evaluate(f"() => ({CONTROLS})().length")
        page.evaluate("() => document.activeElement.blur()")
        reached = set()
        for _ in range(2 * expected):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(f"() => ({CONTROLS})().indexOf(document.activeElement)"))
        assert reached - {-1} == set(range(expected)), state


def test_a_photograph_is_deblurred_by_keyboard_alone(page: "Page") -> None:
    for _ in range(4):  # mark, API, choose, the first sample
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Download").wait_for()
    slider = page.get_by_role("slider")
    assert slider.evaluate("slider => slider === document.activeElement")
    page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuenow") == "49"
    assert slider.get_attribute("aria-valuetext") == "49 % before, 51 % after"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    page: "Page", site: Site, photograph: np.ndarray, scheme: str
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for state in in_states(page, site, photograph):
        assert page.evaluate(LOW_CONTRAST) == [], state


def test_a_small_phone_shows_all_of_it_with_room_for_fingers(
    phone: "Page", site: Site, photograph: np.ndarray
) -> None:
    for state in in_states(phone, site, photograph):
        assert phone.evaluate("() => document.documentElement.scrollWidth") == 320, state
        small = phone.evaluate(
            f"""() => ({CONTROLS})().map((item) => (item.closest("label") ?? item))
              .map((item) => [item.outerHTML.slice(0, 80), item.getBoundingClientRect()])
              .filter(([, box]) => box.width < 44 || box.height < 44)"""
        )
        assert small == [], state


def test_two_fingers_zoom(phone: "Page", photograph: np.ndarray) -> None:
    deblurred(phone, file_of(encoded(photograph)))
    least = zoom(phone)
    fingers = phone.context.new_cdp_session(phone)

    def touch(kind: str, *across: int) -> None:
        points = [{"x": x, "y": 250, "id": number} for number, x in enumerate(across)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 120, 200)
    for apart in range(10, 81, 10):
        touch("touchMove", 120 - apart // 2, 200 + apart // 2)
    touch("touchEnd")
    assert zoom(phone) == pytest.approx(2 * least, rel=0.1)


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_stage_stays_where_it_is_in_all_states(
    page: "Page", site: Site, photograph: np.ndarray, tmp_path: Path,
    size: tuple[int, int], scheme: str,
) -> None:  # fmt: skip
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.get_by_text("up to 1 MiB").wait_for()
    seen: dict[str, FloatRect | None] = {}
    for state in in_states(page, site, photograph):
        page.screenshot(path=tmp_path / f"{size[0]}-{scheme}-{state}.png", full_page=True)
        seen[state] = page.locator("#stage").bounding_box()
    assert len(seen) == 4
    assert all(box == seen["empty"] for box in seen.values()), seen
