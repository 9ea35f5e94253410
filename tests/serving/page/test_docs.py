"""The description of the interface, in a browser that is let out nowhere."""

from typing import TYPE_CHECKING

from tests.serving.page.conftest import Site

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_the_interface_is_described_without_asking_elsewhere(page: "Page", site: Site) -> None:
    page.goto(site.url + "docs")
    page.get_by_text("Deblur a picture").wait_for()
    page.get_by_text("/v1/jobs/{id}/events").wait_for()
