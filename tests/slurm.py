"""A Slurm cluster of our own: munge, a controller and one node of two cores, in a folder."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.waits import wait_for

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")

# cred_expire is also how long a requeued job waits before it starts again; 120 s by default.
CONFIGURATION = """\
ClusterName=onecycle
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=1,bf_interval=1
SlurmdParameters=config_overrides
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=local Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """Daemons that run until remove(); `environment` lets Slurm's commands find them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="onecycle-slurm-"))
        self.folder.chmod(0o755)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs."""
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        controller_port, node_port = _free_ports(2)
        text = CONFIGURATION.format(
            host=host, folder=self.folder, controller_port=controller_port, node_port=node_port
        )
        (self.folder / "slurm.conf").write_text(text)
        self._start_munge()
        self._daemon("slurmctld", "-D", "-i")
        self._daemon("slurmd", "-D", "-N", host)
        wait_for(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"))

    def _start_munge(self) -> None:
        """Start munged as the user that Debian's package made for it."""
        folder = self.folder / "munge"
        shutil.chown(folder, "munge", "munge")
        as_munge = ["runuser", "-u", "munge", "--"]
        key = f"--keyfile={folder}/key"
        subprocess.run([*as_munge, "mungekey", "--create", key], check=True)
        files = [f"--{name}-file={folder}/{name}" for name in ("key", "log", "pid", "seed")]
        self._daemon(*as_munge, "munged", "--foreground", f"--socket={folder}/socket", *files)
        wait_for((folder / "socket").exists)

    def _daemon(self, *command: str) -> None:
        with (self.folder / "daemons.log").open("ab") as output:
            self._daemons.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )

    def ask(self, *command: str) -> str:
        """Return what one of Slurm's commands prints."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def queue(self) -> dict[str, str]:
        """Return the state of every job, array tasks apart, that has not ended."""
        lines = self.ask("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def job(self, job: str) -> dict[str, str]:
        """Return what Slurm knows of a job, also when it has ended."""
        shown = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(field.partition("=")[::2] for field in shown)

    def remove(self) -> None:
        """Cancel what is queued, end the daemons and delete the folder."""
        self.ask("scancel", "--user=root")
        wait_for(lambda: not self.queue())
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


def missing_programs() -> list[str]:
    """Return which programs of Slurm are not installed; Debian keeps the daemons in /usr/sbin."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def _free_ports(n: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
