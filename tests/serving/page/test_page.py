"""The page, used as a person uses it."""

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fastapi.responses import JSONResponse, Response
from PIL import Image

from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.scenes import masonry
from deblur.images import to_float, to_uint8
from tests.serving.conftest import decoded, encoded
from tests.serving.page.conftest import Site

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page

pytestmark = pytest.mark.slow

UNDER_WAY = re.compile(r"Waiting for its turn|^0 of \d+ tiles")

TO_DOCUMENT = """([kind, content, name, type]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true })
    : new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


def file_of(content: bytes, name: str = "holiday.png", media: str = "image/png") -> "FilePayload":
    return {"name": name, "mimeType": media, "buffer": content}


def choose(page: "Page", *files: "FilePayload") -> None:
    page.locator("#file").set_input_files(list(files))


def deblurred(page: "Page", *files: "FilePayload") -> None:
    choose(page, *files)
    page.get_by_role("link", name="Download").wait_for()


def downloaded(page: "Page", folder: Path) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    path = folder / "answer"
    download.value.save_as(path)
    return download.value.suggested_filename, path.read_bytes()


def border(page: "Page") -> int:
    return int(page.get_by_role("slider").get_attribute("aria-valuenow") or -1)


def zoom(page: "Page") -> int:
    return int(page.locator("#zoom output").inner_text().removesuffix(" %"))


def place(page: "Page") -> tuple[float, float]:
    box = page.locator(".layer img").first.bounding_box()
    assert box is not None
    return box["x"], box["y"]


def test_a_chosen_photograph_comes_back_as_the_server_computed_it(
    page: "Page", site: Site, photograph: np.ndarray, tmp_path: Path
) -> None:
    deblurred(page, file_of(encoded(photograph)))
    name, content = downloaded(page, tmp_path)
    assert name == "holiday-sharp.png"
    expected = to_uint8(site.engine.predict(to_float(photograph)))
    assert np.array_equal(decoded(content), expected)
    facts = page.locator("#facts").inner_text()
    for fact in ("301 \N{MULTIPLICATION SIGN} 203", "24 tiles", site.engine.sha256[:12]):
        assert fact in facts
    # It is not kept on the server when the page has it.
    assert site.saw("DELETE", "/v1/jobs/")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_photograph_is_dropped_or_pasted(page: "Page", photograph: np.ndarray, kind: str) -> None:
    content = base64.b64encode(encoded(photograph)).decode()
    page.evaluate(TO_DOCUMENT, [kind, content, "holiday.png", "image/png"])
    page.get_by_role("link", name="Download").wait_for()


@pytest.mark.parametrize("name", ["Coffee", "Portrait", "Cat"])
def test_a_sample_is_a_click_away(page: "Page", name: str) -> None:
    page.get_by_role("button", name=name).click()
    page.get_by_role("link", name="Download JPG").wait_for()


def test_the_answer_has_the_format_and_the_metadata_asked_for(
    page: "Page", photograph: np.ndarray, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    page.get_by_text("Options").click()
    page.get_by_label("Format of the answer").select_option("WebP")
    page.get_by_label("Keep EXIF").uncheck()
    photo = file_of(encoded(photograph, "JPEG", exif=exif), "a.b.jpg", "image/jpeg")
    deblurred(page, photo)
    name, content = downloaded(page, tmp_path)
    assert name == "a.b-sharp.webp"
    answer = Image.open(io.BytesIO(content))
    assert answer.format == "WEBP"
    assert not answer.getexif()


def test_keys_move_the_border(page: "Page", photograph: np.ndarray) -> None:
    deblurred(page, file_of(encoded(photograph)))
    slider = page.get_by_role("slider")
    assert border(page) == 50
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    assert border(page) == 52
    slider.press("PageDown")
    assert border(page) == 42
    before = page.locator(".layer.before")
    clip = before.evaluate("layer => layer.style.clipPath")
    slider.press("Home")
    assert border(page) == 0
    assert before.evaluate("layer => layer.style.clipPath") != clip
    slider.press("End")
    assert border(page) == 100


def test_the_border_follows_the_pointer(page: "Page", photograph: np.ndarray) -> None:
    deblurred(page, file_of(encoded(photograph)))
    box = page.get_by_role("slider").bounding_box()
    picture = page.locator(".layer img").first.bounding_box()
    assert box and picture
    page.mouse.move(box["x"] + 22, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(picture["x"] + picture["width"] * 0.8, box["y"] + 60, steps=4)
    page.mouse.up()
    assert border(page) == pytest.approx(80, abs=1)


def test_zoom_by_keys_buttons_wheel_and_double_click(page: "Page", photograph: np.ndarray) -> None:
    deblurred(page, file_of(encoded(photograph)))
    least = zoom(page)
    page.keyboard.press("+")
    assert zoom(page) == pytest.approx(least * 2**0.5, abs=1)
    assert page.locator(".layer img.pixelated").count() == 2
    page.keyboard.press("0")
    assert zoom(page) == least
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    assert zoom(page) == pytest.approx(least * 2, abs=1)
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="Fit").click()
    assert zoom(page) == least
    page.mouse.move(700, 300)
    page.mouse.wheel(0, -100)
    page.wait_for_timeout(100)
    nearer = zoom(page)
    assert nearer > least
    page.mouse.dblclick(700, 300)
    assert zoom(page) == least
    page.mouse.dblclick(700, 300)
    assert zoom(page) == pytest.approx(least * 2, abs=1)


def test_100_percent_is_a_pixel_on_a_pixel(page: "Page") -> None:
    large = np.asarray(masonry(generator(3, Stream.SCENE, 0)).resize((420, 1100)))
    deblurred(page, file_of(encoded(large, "JPEG"), "tall.jpg", "image/jpeg"))
    assert zoom(page) < 100
    page.get_by_role("button", name="100 %").click()
    box = page.locator(".layer img").first.bounding_box()
    assert box and (box["width"], box["height"]) == (420, 1100)
    assert page.locator(".layer img.pixelated").count() == 0


def test_a_zoomed_picture_is_moved_by_drag_and_by_shift_and_arrows(
    page: "Page", photograph: np.ndarray
) -> None:
    deblurred(page, file_of(encoded(photograph)))
    for _ in range(4):
        page.keyboard.press("+")
    x, y = place(page)
    page.keyboard.press("Shift+ArrowRight")
    assert place(page) == (x - 60, y)
    page.mouse.move(400, 300)
    page.mouse.down()
    page.mouse.move(430, 340, steps=3)
    page.mouse.up()
    assert place(page) == (x - 30, y + 40)
    # Never past its edge.
    for _ in range(40):
        page.keyboard.press("Shift+ArrowUp")
    stage = page.locator("#stage").bounding_box()
    assert stage and place(page)[1] == stage["y"]
    before, after = (page.locator(".layer img").nth(n).bounding_box() for n in (0, 1))
    assert before == after


def test_progress_is_told_and_cancelling_deletes_the_job(
    page: "Page", site: Site, photograph: np.ndarray
) -> None:
    site.engine.gate.clear()
    choose(page, file_of(encoded(photograph)))
    page.get_by_role("progressbar").wait_for()
    page.get_by_text(UNDER_WAY).wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Choose a photograph").wait_for()
    assert site.saw("DELETE", "/v1/jobs/")
    site.engine.gate.set()
    # The page is as new.
    deblurred(page, file_of(encoded(photograph)))


def test_tiles_are_counted(page: "Page", site: Site) -> None:
    large = np.asarray(masonry(generator(3, Stream.SCENE, 0)).resize((800, 600)))
    seen: list[str] = []
    page.expose_function("seen", lambda text: seen.append(text))
    page.evaluate(
        """() => new MutationObserver(() => seen(document.querySelector("#doing").textContent))
          .observe(document.querySelector("#doing"), {childList: true})"""
    )
    deblurred(page, file_of(encoded(large, "JPEG"), "large.jpg", "image/jpeg"))
    assert any("of 221 tiles, about" in text for text in seen), seen


def test_leaving_the_page_cancels_the_job(page: "Page", site: Site, photograph: np.ndarray) -> None:
    site.engine.gate.clear()
    choose(page, file_of(encoded(photograph)))
    page.get_by_text(UNDER_WAY).wait_for()
    page.goto("about:blank")
    assert site.saw("DELETE", "/v1/jobs/")


def test_what_is_no_picture_is_answered_with_the_servers_sentence(page: "Page") -> None:
    choose(page, file_of(b"hello, world", "notes.txt", "text/plain"))
    page.get_by_text("not a picture that can be read").wait_for()
    assert page.get_by_role("button", name="Choose a photograph").is_visible()
    assert not page.get_by_role("button", name="Try again").is_visible()


def test_a_file_above_the_limit_is_not_sent(page: "Page", site: Site) -> None:
    page.get_by_text("up to 1 MiB and 0.5 megapixels").wait_for()
    choose(page, file_of(bytes(3 * 2**20), "film.jpg", "image/jpeg"))
    page.get_by_text("film.jpg has 3.0 MiB, the limit is 1 MiB").wait_for()
    assert not any(method == "PUT" for method, _ in site.seen)


def test_a_busy_server_is_asked_again_on_request(
    page: "Page", site: Site, photograph: np.ndarray
) -> None:
    busy = JSONResponse({"detail": "too much is waiting"}, 429, {"Retry-After": "7"})
    site.answers["PUT", "/v1/jobs/"] = busy
    choose(page, file_of(encoded(photograph)))
    page.get_by_text("Too much is waiting. Try again in 7 s.").wait_for()
    site.answers.clear()
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("link", name="Download").wait_for()


def test_a_key_is_asked_for_and_sent_with_every_request(
    page: "Page", site: Site, photograph: np.ndarray
) -> None:
    site.answers["PUT", "/v1/jobs/"] = JSONResponse({"detail": "a key is missing"}, 401)
    choose(page, file_of(encoded(photograph)))
    page.get_by_text("A key is missing.").wait_for()
    site.answers.clear()
    page.get_by_label("Key", exact=True).fill("secret")
    page.get_by_role("button", name="Use this key").click()
    page.get_by_role("link", name="Download").wait_for()
    assert site.saw("DELETE", "/v1/jobs/")
    keys = [key for (_, path), key in zip(site.seen, site.keys, strict=True) if "/v1/jobs" in path]
    assert keys == [None] + 4 * ["Bearer secret"]


def test_a_server_without_jobs_answers_in_one_request(
    page: "Page", site: Site, photograph: np.ndarray, tmp_path: Path
) -> None:
    site.answers["PUT", "/v1/jobs/"] = JSONResponse({"detail": "Not Found"}, 404)
    deblurred(page, file_of(encoded(photograph)))
    assert site.saw("POST", "/v1/deblur")
    assert decoded(downloaded(page, tmp_path)[1]).shape == photograph.shape


def test_a_lost_connection_is_taken_up_again(
    page: "Page", site: Site, photograph: np.ndarray
) -> None:
    site.answers["GET", "/v1/jobs/"] = Response(": nothing more\n\n")
    choose(page, file_of(encoded(photograph)))
    page.get_by_text("The connection was lost: trying again").wait_for()
    site.answers["GET", "/v1/jobs/"] = Response(status_code=502)
    page.wait_for_timeout(1500)
    site.answers.clear()
    page.get_by_role("link", name="Download").wait_for()


def test_a_job_that_fails_says_why(page: "Page", photograph: np.ndarray) -> None:
    content = encoded(photograph, "PNG")
    choose(page, file_of(content[: len(content) // 2]))
    page.get_by_text("damaged or truncated").wait_for()


def test_a_photograph_that_lay_on_its_side_is_upright_before_and_after(
    page: "Page", photograph: np.ndarray
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(photograph, "JPEG", exif=exif, quality=95)
    deblurred(page, file_of(content, "phone.jpg", "image/jpeg"))
    assert page.get_by_role("slider").is_visible()
    after, before = page.evaluate(
        """() => [...document.querySelectorAll(".layer img")].map((image) => {
          const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
        })"""
    )
    height, width = photograph.shape[1], photograph.shape[0]
    pictures = [np.array(p).reshape(height, width, 4)[..., :3] for p in (before, after)]
    assert np.abs(pictures[0] - np.rot90(decoded(content), -1)).mean() < 2
    assert np.abs(pictures[0] - pictures[1]).mean() < np.abs(pictures[0] - pictures[1][::-1]).mean()


def test_what_the_browser_cannot_show_is_answered_in_png_and_shown_alone(
    page: "Page", photograph: np.ndarray, tmp_path: Path
) -> None:
    deblurred(page, file_of(encoded(photograph, "TIFF"), "scan.tif", "image/tiff"))
    page.locator("#note", has_text="This browser cannot show the original").wait_for()
    assert not page.get_by_role("slider").is_visible()
    assert downloaded(page, tmp_path)[0] == "scan-sharp.png"


def test_an_answer_that_the_browser_cannot_show_can_be_downloaded(
    page: "Page", photograph: np.ndarray, tmp_path: Path
) -> None:
    page.get_by_text("Options").click()
    page.get_by_label("Format of the answer").select_option("TIFF")
    deblurred(page, file_of(encoded(photograph)))
    page.locator("#note", has_text="This browser cannot show the answer").wait_for()
    name, content = downloaded(page, tmp_path)
    assert name == "holiday-sharp.tif"
    assert decoded(content).shape == photograph.shape


def test_several_photographs_are_taken_one_after_the_other(
    page: "Page", photograph: np.ndarray, tmp_path: Path
) -> None:
    one, two = file_of(encoded(photograph)), file_of(encoded(photograph[:90]), "second.png")
    deblurred(page, one, two)
    page.get_by_role("button", name="Next photograph (1 waiting)").click()
    page.get_by_text("301 \N{MULTIPLICATION SIGN} 90").wait_for()
    assert downloaded(page, tmp_path)[0] == "second-sharp.png"
    page.get_by_role("button", name="Another photograph").click()
    assert page.get_by_role("button", name="Choose a photograph").is_visible()
