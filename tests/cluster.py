"""A Slurm cluster of one machine, in a temporary folder: real daemons, four cores, two invented cards."""

import os
import secrets
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
CONF = Path("/etc/slurm/slurm.conf")  # where a step of a job looks, whatever SLURM_CONF says
OURS = "# of the tests of amae: removed at their end"
CORES, CARDS = 4, 2


def missing() -> str | None:
    """Reason for which no cluster can be started here; None where one can."""
    if absent := [name for name in PROGRAMS if not shutil.which(name)]:
        packages = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
        return f"{', '.join(absent)} not found ({packages})"
    if os.getuid() != 0:
        return "Slurm's daemons start as root only"
    if CONF.exists() and OURS not in CONF.read_text():
        return f"{CONF} is there already: this machine belongs to a cluster"
    return None


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Start the daemons, wait until the machine is idle, and end them with all their jobs."""
    folder.mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    CONF.parent.mkdir(parents=True, exist_ok=True)
    for card in range(CARDS):  # devices like /dev/null; of plain files Slurm sets no CUDA_VISIBLE_DEVICES
        os.mknod(folder / f"card{card}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    gres = f"{OURS}\nName=gpu File={folder}/card[0-{CARDS - 1}]\n"
    written = {CONF: _slurm_conf(folder), CONF.with_name("gres.conf"): gres}
    for path, text in written.items():
        path.write_text(text)
    munge = {name: folder / f"munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")}
    options = [f"--{name}={path}" for name, path in munge.items()]
    daemons = []
    try:
        for words in (
            ["munged", "--foreground", "--force", f"--key-file={key}", *options],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            with (folder / f"{words[0]}.out").open("w") as file:
                daemons.append(subprocess.Popen(words, stdout=file, stderr=file))
            time.sleep(0.3)
        _wait_for_idle(folder)
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=20, check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for path in written:
            path.unlink()


def _wait_for_idle(folder: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
        if set(done.stdout.split()) == {"idle"}:
            return
        if time.monotonic() > end:
            logs = "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in folder.glob("*.out"))
            raise RuntimeError(f"the cluster does not start: {done.stdout}{done.stderr}\n{logs}")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _slurm_conf(folder: Path) -> str:
    host, (controller, daemon) = socket.gethostname().partition(".")[0], _free_ports(2)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    return f"""{OURS}
ClusterName=amae
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
KillWait=1
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={CORES} RealMemory=64000 Gres=gpu:{CARDS}
PartitionName=cpu Nodes={host} Default=YES MaxTime=7-0
PartitionName=gpu Nodes={host} MaxTime=7-0
"""
