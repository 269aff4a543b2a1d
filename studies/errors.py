"""What a user can fix about studies and databases; the whole tree stands in trainers/errors.py."""

from trainers.errors import UserError


class StudyError(UserError):
    """A study that cannot be used as asked."""


class UnknownStudyError(StudyError):
    """No definition, or no stored study, of that name."""


class StudyFileError(StudyError):
    """A study file that does not load."""


class StudyDeletedError(StudyError):
    """A stored study that was deleted while somebody worked on it."""


class ProtocolError(StudyError):
    """A stored study that was made under another protocol."""


class DatabaseError(UserError):
    """A database that cannot be used: wrong URL, refused, damaged, or of another schema."""


class DatabaseUnreachableError(DatabaseError):
    """The database does not answer, or is locked; trying again may help."""


def cause_line(error: BaseException) -> str:
    """Return the cause of an error in one line: a driver's own words, without SQLAlchemy's.

    SQLAlchemy adds the statement, its parameters and a link; the driver's error is its `orig`.
    """
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
