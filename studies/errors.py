"""What a user can fix about studies and databases; the whole tree stands in trainers/errors.py."""

from trainers.errors import UserError


class StudyError(UserError):
    """A study that cannot be used as asked."""


class UnknownStudyError(StudyError):
    """No definition, or no stored study, of that name."""


class StudyFileError(StudyError):
    """A study file that does not load."""


class ProtocolError(StudyError):
    """A stored study that was made under another protocol."""


class DatabaseError(UserError):
    """A database that cannot be reached, or holds another schema."""
