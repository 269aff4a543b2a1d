"""Chromium driven by tests: tabs that remember what went wrong in them.

ONECYCLE_SCREENSHOTS names a folder for the pictures of the pages that tests look at: with `docs`,
those of the documents are taken anew.
"""

import os
import shutil
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page, Request, Response

NAMES = ("chromium", "chromium-browser", "google-chrome")
# No name resolves, so that what a page asks of the network fails instead of being waited for.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def program() -> str | None:
    """Return where the system's Chromium is."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """A page of a fresh profile with what went wrong: errors, failed and outgoing requests."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.errors: list[str] = []
        self.failed: list[str] = []
        self.outside: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)
        page.on("requestfailed", self._unanswered)
        page.on("response", self._response)

    @property
    def complaints(self) -> list[str]:
        """All that went wrong so far."""
        return [*self.errors, *self.failed, *(f"outside: {url}" for url in self.outside)]

    def picture(self, name: str) -> None:
        """Save what the window shows as NAME.png, where pictures are asked for."""
        folder = os.environ.get("ONECYCLE_SCREENSHOTS")
        if folder:
            self.page.wait_for_timeout(1_000)  # for what moves
            self.page.screenshot(path=f"{folder}/{name}.png")

    def _console(self, message: "ConsoleMessage") -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _request(self, request: "Request") -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("file", "data", "blob") and url.hostname != "127.0.0.1":
            self.outside.append(request.url)

    def _unanswered(self, request: "Request") -> None:
        if request.failure != "net::ERR_ABORTED":  # by the page itself, when it is left
            self.failed.append(f"{request.method} {request.url}: {request.failure}")

    def _response(self, response: "Response") -> None:
        if response.status >= 400:
            self.failed.append(f"{response.request.method} {response.url}: {response.status}")
