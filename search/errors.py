"""How a command ends: its exit codes, and what is raised for them."""

from dataclasses import dataclass

from search.text import printable
from search.tracebacks import told
from studies.errors import DatabaseUnreachableError
from trainers.errors import UserError

EXIT_FINISHED = 0
EXIT_NO_RESULT = 1
EXIT_USER_ERROR = 2
EXIT_GIVEN_BACK = 75  # EX_TEMPFAIL of sysexits.h; also for a database that does not answer
EXIT_INTERRUPTED = 130


class UsageError(UserError):
    """Flags that contradict each other, or what is stored."""


class NoResultError(Exception):
    """The study ended without a usable result; the message says why.

    `details` become a note of the exception, which Python prints below it: the first failure.
    """

    def __init__(self, message: str, *, details: str | None = None) -> None:
        super().__init__(message)
        if details is not None:
            self.add_note(details)


class GivenBackError(Exception):
    """This start ended early, its work was given back; start again to resume.

    `start_again`: whoever started it should do so at once, for nobody wanted the work to end.
    """

    def __init__(self, message: str, *, start_again: bool = False) -> None:
        super().__init__(message)
        self.start_again = start_again


@dataclass(frozen=True, slots=True)
class Ending:
    """An exit code, and what is said on stderr."""

    code: int
    text: str


def ending_of(error: Exception) -> Ending | None:
    """Return how a command ends that an exception ended; None for a bug of ours."""
    notes: list[str] = []
    if isinstance(error, DatabaseUnreachableError):
        code, text = EXIT_GIVEN_BACK, f"error: {error}; the same command resumes when it does"
    elif isinstance(error, UserError):
        code, text = EXIT_USER_ERROR, f"error: {error}"
    elif isinstance(error, NoResultError):
        code, text = EXIT_NO_RESULT, f"no result: {error}"
        notes = list(getattr(error, "__notes__", ()))
    elif isinstance(error, GivenBackError):
        code, text = EXIT_GIVEN_BACK, str(error)
    else:
        where = told(error)
        if where is None:
            return None
        code, text, notes = EXIT_USER_ERROR, f"error: {type(error).__name__}: {error}", [where]
    below = (printable(note, keep="\n") for note in notes)
    return Ending(code, "\n".join([printable(text), *below]))
