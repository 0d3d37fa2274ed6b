"""The files in docs/deploy: what can be checked of them without a cluster to deploy them on."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from typer.main import get_command

from hub.cli import commands as hub_commands
from member_client.cli.main import app

DEPLOY = Path("docs/deploy")
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
COMMANDS = {"stillwatch": app, "stillwatch-hub": hub_commands}
ANALYZE = shutil.which("systemd-analyze")
EXPOSURE = 2.0  # of 10, as systemd counts


def read_unit(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment] # its documented switch for case
    parser.read_string(unit.read_text())
    return parser


def name_of(path: Path) -> str:
    return path.name


def pins(lock: Path) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;\\]+)", lock.read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("unit", SERVICES, ids=name_of)
def test_a_unit_runs_a_command_that_there_is(unit: Path) -> None:
    program, name, *arguments = read_unit(unit)["Service"]["ExecStart"].split()
    group: Any = get_command(COMMANDS[Path(program).name])
    command = group.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known
    assert unit.name in Path("docs/quick-start-sync.md").read_text() + Path("docs/operations.md").read_text()


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
def test_systemd_takes_the_units_and_finds_them_hardened(tmp_path: Path) -> None:
    for unit in UNITS:
        # On a machine without Stillwatch neither its programs nor its users are there.
        text = re.sub(r"/opt/stillwatch/bin/[a-z-]+", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(re.sub(r"^User=.*", "User=daemon", text, flags=re.MULTILINE))
    copies = [str(tmp_path / unit.name) for unit in UNITS]
    checked = subprocess.run([str(ANALYZE), "verify", *copies], capture_output=True, text=True, check=False, timeout=60)
    about_ours = [line for line in checked.stderr.splitlines() if str(tmp_path) in line or "stillwatch" in line]
    assert (checked.returncode, about_ours) == (0, [])
    for unit in SERVICES:
        report = subprocess.run(
            [str(ANALYZE), "security", "--offline=true", str(tmp_path / unit.name)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        level = re.search(r"exposure level for .*: ([0-9.]+)", report.stdout)
        assert level, report.stderr
        assert float(level[1]) <= EXPOSURE, report.stdout


def test_compose_has_no_password_and_runs_two_hubs_of_one_log() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert services["hub-1"]["secrets"] == services["hub-2"]["secrets"]
    assert services["hub-1"]["volumes"] != services["hub-2"]["volumes"]
    assert set(compose["secrets"]) == {
        secret if isinstance(secret, str) else secret["source"]
        for service in services.values()
        for secret in service["secrets"]
    }
    for service in services.values():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or variable.endswith("_FILE"), variable
            assert not re.search(r"://[^/@]*:[^/@]*@", value), "a password in a URL"
    for mounted in (*services["nginx"]["volumes"], services["database"]["volumes"][1]):
        assert (DEPLOY / mounted.split(":")[0]).is_file()
    upstreams = set(re.findall(r"server (hub-\d):8470", (DEPLOY / "nginx.conf").read_text()))
    assert upstreams == {name for name in services if name.startswith("hub-")}


def test_the_image_is_built_from_what_there_is_and_by_hash_alone() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    allowed = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for source in line.split():
            assert Path(source).exists(), source
            assert f"!{source.rstrip('/')}" in allowed, source
    for line in re.findall(r"pip install [^\n&]*", text):
        assert "--require-hashes" in line or "--no-index" in line, line
    assert "USER 10001" in text.rpartition("FROM")[2]


def test_the_hub_is_locked_to_what_is_tested() -> None:
    tested, deployed = pins(Path("requirements.lock")), pins(DEPLOY / "requirements-hub.lock")
    assert deployed.items() <= tested.items()
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"] + project["optional-dependencies"]["hub"]):
        assert requirement.name in deployed, "run `make lock`"
    assert "pytest" not in deployed
