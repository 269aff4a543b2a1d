"""Commands about a stored study, as text to paste into a shell."""

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import URL

from studies.database import default_url, masked_text

_PYTHON = ("python", "-m")


@dataclass(frozen=True, slots=True)
class Shell:
    """Where a study is kept, as flags of a command.

    `spec` is the bundled name or the path that it was made from; a new study of it is called
    `new_name`. `storage` is empty where no flag is needed, or none can be printed.
    """

    spec: str
    name: str
    new_name: str
    storage: tuple[str, ...]

    def run(self, *flags: str, name: str | None = None) -> str:
        """Return the search of this study, or of another `name` from the same definition."""
        called = name or self.name
        named = () if called == self.spec else ("--name", called)
        return self._text("search.run", "--study", self.spec, *named, *flags)

    def new_range_test(self, *flags: str) -> str:
        """Return a range test under the new name."""
        named = ("--study", self.spec, "--name", self.new_name)
        return self._text("search", "range-test", *named, *flags)

    def _text(self, *words: str) -> str:
        return shlex.join((*_PYTHON, *words, *self.storage))


def storage_flag(url: URL) -> tuple[str, ...]:
    """Return the flag for a database; none for the default one, and where it holds a password."""
    text = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
    if url == default_url() or text != masked_text(url):
        return ()
    return ("--storage", text)


def free_name(name: str, taken: Collection[str]) -> str:
    """Return the name of a next study: digits, digits-2, digits-3."""
    found = re.fullmatch(r"(.+)-(\d{1,6})", name)
    base, number = (found[1], int(found[2])) if found else (name, 1)
    while (called := f"{base}-{number + 1}") in taken:
        number += 1
    return called
