"""Who may read the dashboard: a password, whose guessing is slow, and reading alone."""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

READING = ("GET", "HEAD")
FIRST_DELAY_S, GREATEST_DELAY_S = 0.1, 2.0
"""A wrong password is answered after so long, doubled with each more from its address."""
MOST_DELAYED = 8
"""So many wrong passwords are kept waiting at once; together with the delay that is the rate at
which all addresses together can guess."""
_FORGOTTEN_S = 600.0
_MOST_ADDRESSES = 1_000
_FOR_KNOWN = "any user name, and the password that ONECYCLE_DASHBOARD_PASSWORD holds"
_FOR_READING = "this dashboard is for reading; `onecycle dashboard --allow-writes` opens it"
_FOR_GUESSERS = "too many wrong passwords at once; try again in a moment"


class Brake:
    """Slows wrong passwords down; a right one is never made to wait.

    An address that gave the right password is listened to however many others guess. The answer
    to a wrong password is held back in its thread, so a guesser gains nothing by hanging up.
    """

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(MOST_DELAYED)
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def heard(self, address: str, *, right: bool) -> bool | None:
        """Return `right`, at once where it is and after a wait where not.

        None: nobody looked, for too many wait, and this address has not given the right one yet.
        """
        with self._lock:
            known = address in self._known
        if not known and not self._slots.acquire(blocking=False):
            return None
        if right:
            if not known:
                self._slots.release()
            self._remember(address)
            return True
        if known:
            self._slots.acquire()
        try:
            time.sleep(self._delay_s(address))
        finally:
            self._slots.release()
        return False

    def _remember(self, address: str) -> None:
        with self._lock:
            self._wrong.pop(address, None)
            self._known[address] = None
            self._known.move_to_end(address)
            _shorten(self._known)

    def _delay_s(self, address: str) -> float:
        with self._lock:
            now = time.monotonic()
            n, at = self._wrong.pop(address, (0, now))
            n = 1 if now - at > _FORGOTTEN_S else n + 1
            self._wrong[address] = n, now
            _shorten(self._wrong)
        if n == MOST_DELAYED:
            log.warning("%d wrong passwords from %s", n, address)
        return float(min(GREATEST_DELAY_S, FIRST_DELAY_S * 2 ** min(n - 1, 30)))


def guarded(app: "WSGIApplication", *, password: str, allow_writes: bool) -> "WSGIApplication":
    """Let in who knows the password (HTTP basic, any user name), and GET and HEAD alone."""
    brake, known = Brake(), _digest(password.encode())

    def guard(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = _password_of(environ.get("HTTP_AUTHORIZATION", ""))
        address = environ.get("REMOTE_ADDR", "")
        right = hmac.compare_digest(_digest(given), known)
        heard = brake.heard(address, right=right) if given else False  # browsers ask without first
        if heard is None:
            again = ("Retry-After", str(round(GREATEST_DELAY_S)))
            return _refuse(start_response, "429 Too Many Requests", _FOR_GUESSERS, again)
        if not heard:
            ask = ("WWW-Authenticate", 'Basic realm="onecycle", charset="UTF-8"')
            return _refuse(start_response, "401 Unauthorized", _FOR_KNOWN, ask)
        if not allow_writes and environ["REQUEST_METHOD"] not in READING:
            return _refuse(start_response, "403 Forbidden", _FOR_READING)
        return app(environ, start_response)

    return guard


def _shorten(addresses: OrderedDict[str, Any]) -> None:
    """Drop the address that was seen longest ago where there are too many."""
    if len(addresses) > _MOST_ADDRESSES:
        addresses.popitem(last=False)


def _digest(password: bytes) -> bytes:
    """Return what is compared, so that the time taken does not tell the length either."""
    return hashlib.sha256(password).digest()


def _password_of(header: str) -> bytes:
    """Return the password of a header, whose bytes servers give as Latin-1; empty without one."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        given = base64.b64decode(encoded.strip().encode("latin-1", "replace"), validate=True)
    except binascii.Error:
        return b""
    return given.partition(b":")[2]


def _refuse(
    start_response: "StartResponse", status: str, reason: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    """Answer as the dashboard's own errors do: its page shows the reason."""
    start_response(status, [("Content-Type", "application/json"), *headers])
    return [json.dumps({"reason": reason}).encode()]
