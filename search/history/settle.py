"""Optuna told of what our tables hold, and told again after a crash between the two."""

from search.history.optuna_study import Histories
from search.queue.work import Queue
from studies.tables import WorkRow


def repair(queue: Queue, histories: Histories) -> None:
    """Put right what killed owners left behind: runs that they held, trials half told.

    A run of a dead process of this host waits again at once, so that the next claim, which takes
    slots in their order, goes on with it before anything new is asked for.
    """
    queue.release_dead()
    settle(queue, histories)
    for length in histories.lengths:
        histories.of(length).drop_unbound(queue.bound(length))


def settle(queue: Queue, histories: Histories) -> None:
    """Tell Optuna of every ended run that it was not told of, whoever did the run."""
    for row in queue.untold():
        tell(queue, histories, row)


def tell(queue: Queue, histories: Histories, row: WorkRow) -> None:
    """Tell Optuna how one run of the search ended."""
    assert row.trial_number is not None
    attributes = {
        "outcome": row.outcome or row.failure,
        "seconds": None if row.seconds is None else round(row.seconds, 3),
        "images_per_s": round(row.n_images / row.seconds)
        if row.n_images and row.seconds
        else None,
        "diverged_step": row.diverged_step,
        "diverged_lr": row.diverged_lr,
    }
    if row.token > 1:  # the trial names the worker that asked for it
        attributes |= {"worker": row.owner, "device": row.device}
    histories.of(row.length).tell(
        row.trial_number,
        row.score if row.state == "done" else None,
        {name: value for name, value in attributes.items() if value is not None},
    )
    queue.told(row.id)
