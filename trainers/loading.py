"""For loops that use torch's DataLoader: its processes live through a request to stop."""

import os
import signal
import threading


def ignore_stop_signals(worker_id: int) -> None:
    """Leave SIGTERM, SIGINT and SIGUSR1 to the training process; for DataLoader(worker_init_fn=).

    Ctrl-C, systemd and cluster schedulers signal whole groups of processes, and a DataLoader whose
    processes are killed raises in the training loop before that loop can stop and save. SIGTERM
    of the training process itself still ends its loaders: torch and multiprocessing clear up with
    it, and wait forever where it is ignored. (Where there is no sigwaitinfo, any SIGTERM does.)
    """
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        # Blocked before the thread starts: it inherits the mask, and sigwaitinfo() takes only
        # signals that are blocked (man 2 sigwaitinfo).
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says_so, daemon=True).start()


def _end_when_the_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)  # torch takes any other end for a failure
