"""A tracker brought up to date with a stored study, once or again and again.

All that a tracker is told is in the study database: what a run reports is written there under the
fencing token of whoever holds it. So one function reads the database, compares with what the
tracker has, and writes what is missing. `onecycle export --to` calls it once. While a study is
worked on, a process of its own calls it again and again (search.starting.following), and not the
worker:

- training waits for no tracker, shares no interpreter lock with one, and survives its crashes;
- two owners of one run cannot both write about it, for no owner writes to a tracker at all;
- killed at any moment, the next process compares again. Nothing is kept in between that could be
  lost, and nothing is sent twice, for what is there is not sent;
- a tracker that is away costs nothing but the time until the next look.

On several machines the processes take turns (search.tracking.turn): one writes, and when it is
gone the next one does.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from sqlalchemy import Engine

from search.errors import GivenBackError, UsageError
from search.queue.rows import stored_study
from search.starting.trackers import Tracker
from search.text import printable
from search.tracking.curves import with_points
from search.tracking.records import STUDY
from search.tracking.sink import Sink, opened_sink
from search.tracking.tracked import look
from search.tracking.turn import Turn
from search.workers.stop import Stop
from studies.database import reading
from studies.errors import DatabaseUnreachableError, StudyDeletedError
from studies.tables import StudyRow
from trainers.errors import UserError

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How soon an epoch is seen at best."""
_SHARE = 150
"""A look is taken so seldom that all costs at most 1 % of a core: it waits 150 times as long as
this process computed since the last one, in all its threads, for libraries send from threads of
their own. What is left of the 1 % is for W&B's second process, which took a third of it."""
_LONGEST_S = 300.0  # what is left then comes at the end, when nothing trains
_END_LOOK_S = 2.0
"""How soon the end of a study is seen by who waits for it: a statement, a thousandth of a look."""
_CAUSE_LENGTH = 200


class Sync:
    """Brings one tracker up to date with one study, each time that it is called."""

    def __init__(
        self,
        engine: Engine,
        row: StudyRow,
        tracker: Tracker,
        *,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._row, self._tracker, self._moved = engine, row, tracker, moved
        self._sink: Sink | None = None
        self._versions: dict[str, str] = {}
        self._sent: set[str] = set()

    def __call__(self) -> bool:
        """Write what is missing; return whether the study has ended. Raises what a library does.

        After an error the tracker is opened, and compared, anew.
        """
        study = look(self._engine, self._row)
        try:
            if self._sink is None:
                self._sink = opened_sink(self._tracker, study)
                self._moved()
            for record in (study.whole, *study.runs):
                if self._versions.get(record.key) == record.version:
                    continue
                if not self._sink.has(record):
                    if record is not study.whole:
                        with reading(self._engine) as session:
                            record = with_points(session, study, record)
                    self._sink.write(record)
                    self._sent.add(record.key)
                    self._moved()
                self._versions[record.key] = record.version
        except BaseException:
            self.close()
            raise
        return study.stage.is_end

    @property
    def is_open(self) -> bool:
        """Whether the tracker has been reached."""
        return self._sink is not None

    @property
    def n_runs(self) -> int:
        """How many runs the tracker has."""
        return max(0, len(self._versions) - 1)

    @property
    def n_sent(self) -> int:
        """How many runs had to be sent, a part at least."""
        return len(self._sent - {STUDY})

    def close(self) -> None:
        """Let go of the tracker, and of what is known of it."""
        sink, self._sink, self._versions = self._sink, None, {}
        if sink is not None:
            sink.close()


def has_line(tracker: Tracker, row: StudyRow, sync: Sync) -> str:
    """Return the line that says what a tracker has."""
    runs = f"{sync.n_runs} runs, of which {sync.n_sent} had to be sent"
    return f"{tracker.shown} has study {row.name!r}: {runs}"


def bring_up_to_date(engine: Engine, row: StudyRow, tracker: Tracker) -> str:
    """Bring a tracker up to date with a study, once; return a line that says so.

    Raises GivenBackError where the tracker is away, UsageError where it refuses the study.
    """
    turn, sync = Turn(engine, row.id, tracker.text), Sync(engine, row, tracker)
    try:
        if not turn.is_ours():
            return f"{tracker.shown}: another process keeps study {row.name!r} up to date there"
        sync()
        return has_line(tracker, row, sync)
    except (UserError, DatabaseUnreachableError):
        raise
    except Exception as error:
        text = f"{tracker.shown}: {cause_of(error, tracker)}"
        if _refuses(error):
            raise UsageError(text) from None
        raise GivenBackError(f"{text}; the same command sends what is missing") from None
    finally:
        sync.close()
        turn.end()


def follow_study(
    engine: Engine,
    row: StudyRow,
    trackers: Sequence[Tracker],
    *,
    stop: Stop,
    say: Callable[[str], None],
    until_ended: bool,
    moved: Callable[[], None] = lambda: None,
) -> None:
    """Keep trackers up to date until a stop is asked for, with one more look then.

    `until_ended`: at most until the study has ended. `moved` is called whenever a tracker has
    taken something. Raises GivenBackError where something is
    missing in the end.
    """
    followers = [_Follower(engine, row, tracker, say=say, moved=moved) for tracker in trackers]
    missing = list[Tracker]()

    def follow(each: _Follower) -> None:
        if not each.follow(stop, until_ended=until_ended):
            missing.append(each.tracker)

    threads = [threading.Thread(target=follow, args=(each,), daemon=True) for each in followers]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # short naps: a signal's handler runs in between
            thread.join(0.2)
    if missing:
        commands = "; ".join(each.missing_line(row.name) for each in missing)
        raise GivenBackError(f"not all is sent; this sends what is missing: {commands}")


class _Follower:
    """Keeps one tracker up to date, and says once when it is away."""

    def __init__(
        self,
        engine: Engine,
        row: StudyRow,
        tracker: Tracker,
        *,
        say: Callable[[str], None],
        moved: Callable[[], None],
    ) -> None:
        self.tracker, self._say = tracker, say
        self._engine, self._row = engine, row
        self._turn = Turn(engine, row.id, tracker.text)
        self._sync = Sync(engine, row, tracker, moved=moved)
        self._away = False
        self._ended = False

    def follow(self, stop: Stop, *, until_ended: bool) -> bool:
        """Follow until a stop is asked for; return whether all is there."""
        try:
            computed_s = time.process_time()
            while True:
                last = stop.asked()
                loads = not self._sync.is_open  # its library, once: seconds that say nothing
                self._look()
                over = until_ended and self._ended and not self._away
                if over:
                    self._say(has_line(self.tracker, self._row, self._sync))
                if over or last:
                    return not self._away
                before, computed_s = computed_s, time.process_time()
                took = 0.0 if loads else computed_s - before
                rest_s = min(_LONGEST_S, max(LOOK_S, _SHARE * took))
                self._rest(stop, rest_s, until_ended=until_ended and not self._away)
        except StudyDeletedError:
            return True
        finally:
            with suppress(Exception):
                self._sync.close()
            self._turn.end()

    def _rest(self, stop: Stop, seconds: float, *, until_ended: bool) -> None:
        """Wait; not past a request to stop, nor past the end of the study where that ends it."""
        until = time.monotonic() + seconds
        while not stop.asked() and (left := until - time.monotonic()) > 0:
            stop.sleep(min(left, _END_LOOK_S))
            if until_ended and self._has_ended():
                return

    def _has_ended(self) -> bool:
        try:
            with reading(self._engine) as session:
                return stored_study(session, self._row).stage.is_end
        except DatabaseUnreachableError:
            return False  # the next look says it

    def _look(self) -> None:
        """Bring the tracker up to date where it is our turn."""
        try:
            if not self._turn.is_ours():
                return
            self._ended = self._sync()
        except StudyDeletedError:
            raise
        except DatabaseUnreachableError as error:
            log.info("%s", error)  # the worker says it
            self._ended = False
            return
        except Exception as error:
            if not self._away:
                self._say(
                    f"{self.tracker.shown} is away: {cause_of(error, self.tracker)}; the study "
                    "goes on, and what is missing is sent when it answers"
                )
            self._away = True
            return
        if self._away:
            self._say(f"{self.tracker.shown} is back, and has all of the study so far")
        self._away = False


def cause_of(error: BaseException, tracker: Tracker) -> str:
    """Return the cause of a library's error in one line that shows no secret.

    That is the system's own, such as a refused connection, where there is one below it.
    """
    below = error
    while (inner := below.__cause__ or below.__context__) is not None:
        below = inner
    cause = below if isinstance(below, OSError) and str(below) else error
    text = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    line = f"{type(cause).__name__}: {tracker.scrubbed(text)}" if text else type(cause).__name__
    return printable(line)[:_CAUSE_LENGTH]


def _refuses(error: Exception) -> bool:
    """Whether an error is one that waiting does not mend: a wrong password, a missing right."""
    if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
        return True
    if type(error).__name__ in (
        "AuthenticationError",
        "UsageError",
    ):  # of W&B: no key, a wrong one
        return True
    status = getattr(error, "get_http_status_code", None)  # of MLflow's exceptions
    code = status() if callable(status) else 500
    return isinstance(code, int) and 400 <= code < 500 and code not in (408, 429)
