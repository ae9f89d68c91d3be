"""What an installed raftlog brings along, and that it works without the checkout."""

from __future__ import annotations

import configparser
import email.message
import email.parser
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import raftlog
from tests.patience import WAIT_S
from tests.source_tree import ROOT

LAB = ("raftlog/faultlab/", "raftlog/simulator/")


class Wheels(NamedTuple):
    raftlog: Path
    lab: Path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run([ROOT / "scripts" / "build-wheels", folder], check=True, timeout=120)
    return Wheels(*(next(folder.glob(f"{name}-*.whl")) for name in ("raftlog", "raftlog_lab")))


@pytest.fixture(scope="module")
def installed(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ of a fresh environment with the wheel in it. What it requires comes from this environment's folder."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    # A path in a .pth file: the folder's own .pth files, such as that of the editable raftlog, are not read.
    (packages / "required.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--ignore-installed", str(wheels.raftlog)], check=True, timeout=120)
    return home / "bin"


def _sources(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}


def _metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAFTLOG_BOOT"))}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_two_wheels_hold_every_source_and_share_none(wheels: Wheels) -> None:
    there = {str(p.relative_to(ROOT)) for p in (ROOT / "raftlog").rglob("*.py")}
    lab = {name for name in there if name.startswith(LAB)}
    command = {f"raftlog_cli/{p.relative_to(ROOT / 'cli')}" for p in (ROOT / "cli").rglob("*.py")}
    assert lab
    assert _sources(wheels.lab) == lab
    assert _sources(wheels.raftlog) == (there - lab) | command


def test_a_wheel_carries_the_licence_the_command_and_its_types(wheels: Wheels) -> None:
    with zipfile.ZipFile(wheels.raftlog) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "raftlog = raftlog_cli.main:main" in archive.read(entry_points).decode()
    assert "raftlog/py.typed" in names
    pages = {f"raftlog/http/pages/{page.name}" for page in (ROOT / "raftlog/http/pages").iterdir()}
    assert pages and pages <= set(names)
    assert any(name.endswith("/LICENSE") for name in names)
    assert any(name.endswith("/LICENSE") for name in zipfile.ZipFile(wheels.lab).namelist())


def test_both_wheels_have_the_version_of_the_package_and_want_each_other_in_it(wheels: Wheels) -> None:
    own, lab = _metadata(wheels.raftlog), _metadata(wheels.lab)
    assert own["Version"] == lab["Version"] == raftlog.__version__
    assert f"raftlog=={raftlog.__version__}" in lab.get_all("Requires-Dist", [])
    asked = [line for line in own.get_all("Requires-Dist", []) if line.startswith("raftlog-lab")]
    assert [re.sub(r"[ '\"]", "", line) for line in asked] == [f"raftlog-lab=={raftlog.__version__};extra==lab"]


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    (first, end) = re.findall(r"\(3, (\d+)\)", (ROOT / "scripts" / "make-venv").read_text())
    assert named == [f"3.{minor}" for minor in range(int(first), int(end))]
    assert setup["options"]["python_requires"] == f">={named[0]}"
    assert f"Python {named[0]} to {named[-1]}" in (ROOT / "README.md").read_text()


def test_the_command_and_the_demo_run_from_the_wheel_in_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    for command in ([installed / "raftlog"], [installed / "python", "-m", "raftlog"]):
        assert _run(*command, "--version", cwd=tmp_path) == f"raftlog, version {raftlog.__version__}\n"
    where = _run(installed / "python", "-c", "import raftlog; print(raftlog.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent))
    (tmp_path / "lines").write_text("".join(f"{n}\n" for n in range(30_000)))
    printed = _run(installed / "raftlog", "demo", "--file", "lines", cwd=tmp_path)
    assert "nothing that was acknowledged is lost, doubled or out of order" in printed


def test_an_installed_raftlog_has_no_cli_and_no_lab_and_a_client_that_loads_no_command(installed: Path) -> None:
    program = """
import importlib.util, sys
import raftlog
for name in raftlog.__all__:
    getattr(raftlog, name)
assert not {"click", "rich", "psutil", "lmdb", "pysyncobj", "raftlog.storage", "raftlog.node"} & set(sys.modules)
for name in ("cli", "raftlog.simulator", "raftlog.faultlab"):
    assert importlib.util.find_spec(name) is None, name
"""
    _run(installed / "python", "-c", program, cwd=installed)


def test_the_lab_works_once_its_wheel_is_there_too(installed: Path, wheels: Wheels, tmp_path: Path) -> None:
    """Side by side in one folder, as pip puts both."""
    folder = tmp_path / "both"
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(folder)
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); import raftlog.simulator.run, raftlog.faultlab.run"
    _run(installed / "python", "-P", "-c", program, cwd=tmp_path)


def test_an_editable_install_finds_the_command_and_no_cli() -> None:
    program = "import raftlog_cli.main, importlib.util; assert importlib.util.find_spec('cli') is None"
    subprocess.run([sys.executable, "-P", "-c", program], check=True, cwd="/", timeout=WAIT_S)
