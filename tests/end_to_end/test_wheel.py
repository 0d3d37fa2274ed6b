"""The wheel, installed as labs and operators install it: away from this checkout, with what it asks for and no more."""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, distribution, version
from pathlib import Path

import httpx
import psycopg
import pytest
from packaging.requirements import Requirement
from sqlalchemy.engine import make_url

from hub.database.connections import plain_url
from tests.hub.hub_process import environment

PROJECT = Path("pyproject.toml").resolve().parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel, used from a folder that holds no code of ours.

    Attributes:
        extras: a folder with what an extra requires in addition.
    """

    folder: Path
    away: Path
    extras: Path | None = None

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def environment(self, **settings: str) -> dict[str, str]:
        variables = environment(**settings)
        variables.pop("PYTHONPATH", None)
        return variables if self.extras is None else {**variables, "PYTHONPATH": str(self.extras)}

    def run(self, program: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program(program), *arguments],
            cwd=self.away,
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=120,
        )


def required_by(wheel: Distribution, *extras: str) -> Iterator[Distribution]:
    """What pip would install with the wheel and these extras, as it is installed here."""
    wanted = [(wheel, frozenset(extras))]
    seen = set()
    while wanted:
        by, of = wanted.pop()
        for requirement in map(Requirement, by.requires or []):
            marker, need = requirement.marker, (requirement.name.lower(), frozenset(requirement.extras))
            if need not in seen and (not marker or any(marker.evaluate({"extra": extra}) for extra in of or {""})):
                seen.add(need)
                found = distribution(requirement.name)
                wanted.append((found, need[1]))
                yield found


def link(required: Iterable[Distribution], folder: Path) -> None:
    """Have distributions in a folder too, since there may be no network to install them from."""
    for found in required:
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(found.locate_file(top))))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [*PIP, "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation", "-w", str(folder), str(PROJECT)],
        check=True,
        timeout=120,
    )
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def client(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """`pip install stillwatch`."""
    away = tmp_path_factory.mktemp("away")
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    install = [*PIP, "--python", str(folder / "bin" / "python"), "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*install, str(wheel)], check=True, timeout=120)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (ours,) = Distribution.discover(name="stillwatch", path=[str(site)])
    link(required_by(ours), site)
    return Installation(folder, away)


@pytest.fixture(scope="module")
def hub_installation(client: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """`pip install stillwatch[hub]`."""
    extras = tmp_path_factory.mktemp("extras")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(client.folder)}))
    (ours,) = Distribution.discover(name="stillwatch", path=[str(site)])
    link(required_by(ours, "hub"), extras)
    return replace(client, extras=extras)


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    with psycopg.connect(plain_url(postgres), autocommit=True) as connection:
        connection.execute("CREATE DATABASE for_the_wheel")
        yield make_url(postgres).set(database="for_the_wheel").render_as_string(hide_password=False)
        connection.execute("DROP DATABASE for_the_wheel WITH (FORCE)")


def test_it_holds_everything_of_ours_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = ("hub", "member_client", "migrations", "sharing_protocol")
    ours = {
        str(path.relative_to(PROJECT))
        for package in packages
        for path in (PROJECT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == ours
    assert {"member_client/py.typed", "migrations/script.py.mako"} < packed


def test_the_client_alone(client: Installation) -> None:
    told = client.run("stillwatch", "--version")
    assert (told.returncode, told.stdout) == (0, f"stillwatch {version('stillwatch')}\n"), told.stderr
    starters = client.run("stillwatch", "pattern", "starters")
    assert starters.returncode == 0, starters.stderr
    assert "self-instruct-bootstrapping" in starters.stdout
    absent = "import importlib.util as u; print([n for n in ('fastapi', 'sqlalchemy', 'psycopg') if u.find_spec(n)])"
    assert client.run("python", "-c", absent).stdout == "[]\n", "this installation would prove nothing"


def test_the_hub_command_says_what_to_install(client: Installation) -> None:
    told = client.run("stillwatch-hub", "--help")
    assert (told.returncode, told.stdout) == (3, "")
    assert told.stderr.count("\n") == 1
    assert "pip install 'stillwatch[hub]'" in told.stderr


def test_every_requirement_of_the_hub_is_one_that_is_asked_for(hub_installation: Installation) -> None:
    told = hub_installation.run("stillwatch-hub", "--help")
    assert told.returncode == 0, told.stderr
    assert "serve" in told.stdout
    where = hub_installation.run("python", "-c", "import hub, migrations; print(hub.__file__, migrations.__file__)")
    assert all(path.startswith(str(hub_installation.folder)) for path in where.stdout.split()), where.stdout


def test_an_installed_hub_makes_its_database_and_serves(
    hub_installation: Installation, empty_database: str, tmp_path: Path
) -> None:
    url, home, port_file = empty_database, tmp_path / "home", tmp_path / "port"
    serve = ["serve", "--home", str(home), "--port", "0", "--port-file", str(port_file)]
    process = subprocess.Popen(
        [hub_installation.program("stillwatch-hub"), *serve],
        cwd=hub_installation.away,
        env=hub_installation.environment(STILLWATCH_DATABASE_URL=url),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port_file.exists, process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port_file.read_text().strip()}", timeout=30) as http:
            assert http.get("/readyz").json() == {"status": "ready", "version": version("stillwatch")}
    finally:
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM, "it ends in order, and says by what"
    after = hub_installation.run("stillwatch-hub", "check", STILLWATCH_DATABASE_URL=url)
    assert (after.returncode, after.stderr) == (0, "")
    assert "no differences" in after.stdout


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the hub ended"
        assert time.monotonic() < deadline, "the hub does not get ready"
        time.sleep(0.02)
