"""A real Slurm for tests: munged, MariaDB, slurmdbd, slurmctld and two slurmd with eight fake H100 each.

Everything runs as the current user, in one temporary folder, on free ports of the loopback, and ends with the test
module: daemons are children that die with us, and what jobs leave behind is found by this cluster's own folder in its
environment. What a killed session leaves, the next one removes. The GPUs are empty files: Slurm hands them out and accounts for them like real ones.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

CLUSTER = "lab"
NODES = ("gpu1", "gpu2")
GPUS = 8
CPUS = 8
MEMORY_MIB = 4000
PACKAGES = "slurmctld slurmd slurmdbd slurm-client slurm-wlm-basic-plugins slurm-wlm-mysql-plugin mariadb-server munge"
TOOLS = (
    *("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd"),
    *("sacct", "sacctmgr", "scontrol", "sinfo", "squeue", "sbatch", "scancel", "setpriv"),
)
_PREFIX = "gl-slurm-"
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))

_SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=1
CredType=cred/munge
StateSaveLocation={root}/ctld
SlurmdSpoolDir={root}/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
ReturnToService=2
KillWait=1
MessageTimeout=20
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={root}/munge.socket
AccountingStorageTRES=gres/gpu,gres/gpu:h100
AccountingStoreFlags=job_comment
TrackWCKey=yes
GresTypes=gpu
NodeName=gpu[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{slurmd_ports}] CPUs={cpus} Boards=1 \
SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={memory} Gres=gpu:h100:{gpus} State=UNKNOWN
PartitionName=train Nodes=gpu[1-2] Default=YES MaxTime=INFINITE State=UP
"""

_SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser={user}
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
TrackWCKey=yes
"""

_MY_CNF = """\
[mariadbd]
user={user}
datadir={root}/sql
socket={root}/sql.socket
pid-file={root}/sql.pid
port={sql_port}
bind-address=127.0.0.1
skip-name-resolve
skip-log-bin
innodb_flush_log_at_trx_commit=0
innodb_buffer_pool_size=32M
innodb_log_file_size=8M
performance_schema=OFF
"""


def missing_tools() -> list[str]:
    """Programs of Slurm, MariaDB and munge that this machine lacks."""
    return [tool for tool in TOOLS if shutil.which(tool, path=_PATH) is None]


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, consecutive, since slurm.conf takes the nodes' as a range."""
    for start in range(20_000 + os.getpid() % 10_000, 60_000, count):
        with suppress(OSError):
            for port in range(start, start + count):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
            return list(range(start, start + count))
    pytest.fail("no free ports for a Slurm cluster")


class SlurmCluster:
    """The cluster while it runs. Commands take `env`; `command("sacct", …)` runs one and returns what it printed."""

    def __init__(self) -> None:
        # Sockets' paths are limited to about 100 characters: pytest's own folders are too deep.
        self.root = Path(tempfile.mkdtemp(prefix=_PREFIX))
        (self.root / "owner").write_text(str(os.getpid()))
        self.env = os.environ | {"PATH": _PATH, "SLURM_CONF": str(self.root / "slurm.conf"), "LC_ALL": "C"}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = _free_ports(5)

    def command(self, *words: str, timeout: float = 30) -> str:
        """Run a command of Slurm; fails the test with what it said when it fails."""
        done = subprocess.run(
            words, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            pytest.fail(f"{' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def submit(self, script: str, *options: str) -> int:
        """Submit a batch script of one line and return the job's id."""
        words = ("sbatch", "--parsable", f"--output={self.root}/job-%j.out", *options, f"--wrap={script}")
        return int(self.command(*words).strip().split(";")[0])

    def states(self, job: int | str) -> list[str]:
        """States of all attempts, tasks and components of a job, as accounting has them."""
        words = ("sacct", "-D", "-X", "-n", "-P", "-o", "State", "-j", str(job))
        return [line.split()[0] for line in self.command(*words).splitlines() if line]

    def wait_for(self, job: int | str, *states: str, seconds: float = 30) -> None:
        """Wait until accounting says that every attempt, task and component of the job is in one of the states."""

        def reached() -> bool:
            found = self.states(job)
            return bool(found) and set(found) <= set(states)

        self.until(reached, seconds, f"job {job} {'/'.join(states)}")

    def until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until `done`, or fail with the daemons' last words."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if done():
                return
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    pytest.fail(f"{name} ended while waiting for {what}\n{self._logs()}")
            time.sleep(0.1)
        pytest.fail(f"waited {seconds} s for {what}\n{self._logs()}")

    def start(self) -> None:
        """Start all daemons and wait until both nodes are idle."""
        self._configure()
        self._spawn("munged", "-F", "-f", f"--key-file={self.root}/munge.key", *self._munge_files())
        self._start_sql()
        self.start_slurmdbd()
        self.command("sacctmgr", "-i", "add", "cluster", CLUSTER)
        self.command("sacctmgr", "-i", "add", "account", "research", "Organization=lab")
        # Where root runs the tests, Slurm has made that user already, with an account of its own.
        self.command("sacctmgr", "-i", "add", "user", _user(), "account=research", "wckey=exp42")
        self.command("sacctmgr", "-i", "modify", "user", _user(), "set", "DefaultAccount=research")
        for node in NODES:
            self._spawn("slurmd", "-D", "-N", node, name=node)
        self.start_slurmctld()

    def start_slurmctld(self) -> None:
        """Start the controller and wait until both nodes are idle."""
        self._spawn("slurmctld", "-D")
        self.until(self._idle, 30, "idle nodes")

    def start_slurmdbd(self) -> None:
        """Start the accounting daemon and wait until it answers."""
        self._spawn("slurmdbd", "-D")
        self.until(lambda: self._succeeds("sacctmgr", "-n", "show", "cluster"), 30, "slurmdbd")

    def stop_daemon(self, name: str) -> None:
        """Stop one daemon."""
        daemon = self.daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(10)

    def stop(self) -> None:
        """End jobs, daemons and leftovers, and remove the folder."""
        if "slurmctld" in self.daemons:
            with suppress(subprocess.SubprocessError):
                self._succeeds("scancel", "--user", _user())
        for daemon in reversed(self.daemons.values()):
            daemon.kill()  # nothing of theirs is kept
            daemon.wait(10)
        _remove(self.root)

    def _configure(self) -> None:
        sql, dbd, ctld, first, second = self.ports
        values = {
            "root": self.root,
            "cluster": CLUSTER,
            "host": socket.gethostname().split(".")[0],
            "user": _user(),
            "sql_port": sql,
            "dbd_port": dbd,
            "ctld_port": ctld,
            "slurmd_ports": f"{first}-{second}",
            "cpus": CPUS,
            "gpus": GPUS,
            "memory": MEMORY_MIB,
        }
        for folder in ("ctld", "sql", "cards", *NODES):
            (self.root / folder).mkdir()
        for card in range(GPUS):
            (self.root / "cards" / f"nvidia{card}").touch()
        cards = f"Name=gpu Type=h100 File={self.root}/cards/nvidia[0-{GPUS - 1}]\n"
        for name, text in (
            ("slurm.conf", _SLURM_CONF.format(**values)),
            ("slurmdbd.conf", _SLURMDBD_CONF.format(**values)),
            ("my.cnf", _MY_CNF.format(**values)),
            ("gres.conf", "".join(f"NodeName={node} {cards}" for node in NODES)),
        ):
            (self.root / name).write_text(text)
            (self.root / name).chmod(0o600)
        (self.root / "munge.key").write_bytes(os.urandom(128))
        (self.root / "munge.key").chmod(0o600)

    def _munge_files(self) -> list[str]:
        names = {
            "socket": "munge.socket",
            "pid-file": "munge.pid",
            "log-file": "munge.log",
            "seed-file": "munge.seed",
        }
        return [f"--{option}={self.root}/{name}" for option, name in names.items()]

    def _start_sql(self) -> None:
        defaults = f"--defaults-file={self.root}/my.cnf"
        install = ("mariadb-install-db", defaults, "--auth-root-authentication-method=normal")
        self.command(*install, "--skip-test-db", f"--user={_user()}", timeout=60)
        self._spawn("mariadbd", defaults)
        grant = (
            "CREATE DATABASE slurm_acct_db; GRANT ALL ON slurm_acct_db.* TO 'slurm'@'%' IDENTIFIED BY 'slurm'"
        )
        client = ("mariadb", "--no-defaults", f"--socket={self.root}/sql.socket", "-uroot", "-e")
        self.until(lambda: self._succeeds(*client, "SELECT 1"), 30, "MariaDB")
        self.command(*client, grant)

    def _spawn(self, *words: str, name: str = "") -> None:
        # A daemon must not outlive us, however we end.
        guarded = ("setpriv", "--pdeathsig", "KILL", "--", *words)
        name = name or words[0]
        with (self.root / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                guarded, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root
            )

    def _succeeds(self, *words: str) -> bool:
        done = subprocess.run(words, env=self.env, capture_output=True, timeout=30, check=False)
        return done.returncode == 0

    def _idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%T"],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout.split() == ["idle"] * len(NODES)

    def _logs(self) -> str:
        tails = (
            f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}"
            for log in sorted(self.root.glob("*.log"))
        )
        return "\n".join(tails)


def _leftovers(root: Path) -> Iterator[int]:
    """Processes whose environment names a cluster's folder: its job steps and their children."""
    mark = f"SLURM_CONF={root}/slurm.conf".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def _remove(root: Path) -> None:
    for pid in list(_leftovers(root)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(root, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove clusters of sessions that were killed before they could do it, as far as they were ours."""
    for root in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = root / "owner"
        if root.stat().st_uid == os.geteuid() and owner.is_file() and not _lives(owner.read_text()):
            _remove(root)


def _lives(pid: str) -> bool:
    """Whether a process is there and not only its name (a zombie has no command line)."""
    with suppress(OSError):
        return bool(Path(f"/proc/{int(pid)}/cmdline").read_bytes())
    return False


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """Give a Slurm of the test module's own: job ids and accounts begin anew in each module that imports this fixture."""
    if absent := missing_tools():
        pytest.skip(
            f"no {', '.join(absent)}: apt-get update && apt-get install -y --no-install-recommends {PACKAGES}"
        )
    remove_abandoned()
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
