"""How a command ends: its exit codes, and what is raised for them."""

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
