"""What a user can fix: one line on stderr, exit code 2.

The tree, over all three packages::

    UserError                       trainers.errors
    ├── DataError                   missing, corrupt or unsuitable data
    ├── DeviceError                 a device that is not there
    ├── TaskError                   a model, loop or loss that does not load or does not fit
    ├── ScheduleError               a plan of learning rates that torch would not follow
    ├── CheckpointError             a loop's state that cannot be stored
    ├── StudyError                  studies.errors
    │   ├── UnknownStudyError       no definition, or no stored study, of that name
    │   ├── StudyFileError          a study file that does not load (file, line)
    │   ├── StudyDeletedError       a stored study was deleted while it was worked on
    │   └── ProtocolError           a stored study was made under another protocol (field)
    ├── DatabaseError               studies.errors: wrong URL, refused, damaged, wrong schema
    │   └── DatabaseUnreachableError    it does not answer: exit code 75, trying again may help
    └── UsageError                  search.errors: flags that contradict each other or the study

Anything else that is raised is our bug, or the user's code failing inside a run.
"""


class UserError(Exception):
    """Something the user must fix; the message names the thing, the value and what is allowed."""


class DataError(UserError):
    """Data that is missing, corrupt or of another form than the task says."""


class DeviceError(UserError):
    """A device that this machine or this build of torch does not have."""


class TaskError(UserError):
    """A factory that does not load, or a model, optimizer and loss that do not fit together."""


class ScheduleError(UserError):
    """A schedule that torch would refuse, or would silently not follow."""


class CheckpointError(UserError):
    """A state given to run.save() that holds more than data."""
