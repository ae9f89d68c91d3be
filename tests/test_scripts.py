"""scripts/make-venv on machines that lack something: one clear line, and no half-made .venv."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import ROOT

APT_LINE = "sudo apt-get update && sudo apt-get install -y python3-venv"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make-venv looks at, and a folder bin/ that comes first on its PATH."""
    copy = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "bin").mkdir()
    return copy


def _fake(checkout: Path, name: str, body: str) -> None:
    path = checkout / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _make_venv(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / 'bin'}:/usr/bin:/bin"
    return subprocess.run(
        [checkout / "scripts" / "make-venv"],
        env={"PATH": path, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_old_python_is_refused_by_its_version(checkout: Path) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        _fake(checkout, name, '[ "$1" = --version ] && echo Python 3.9.2; exit 1')
    done = _make_venv(checkout)
    assert done.returncode != 0
    assert "raftlog needs Python 3.11, 3.12, 3.13 or 3.14; python3 is Python 3.9.2" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_newer_name_is_found_where_python3_is_too_old(checkout: Path) -> None:
    _fake(checkout, "python3", "exit 1")
    _fake(checkout, "python3.14", "exit 1")
    _fake(checkout, "python3.13", "exit 1")
    # Stops at the next step, which shows that this one was picked.
    _fake(checkout, "python3.12", '[ "$2" = "import ensurepip, venv" ] && exit 1; exit 0')
    _fake(checkout, "id", "echo 1000")
    assert APT_LINE in _make_venv(checkout).stderr


def test_without_the_venv_module_the_one_apt_line_is_printed(checkout: Path) -> None:
    _fake(checkout, "python3", f'[ "$2" = "import ensurepip, venv" ] && exit 1; exec {sys.executable} "$@"')
    _fake(checkout, "id", "echo 1000")
    done = _make_venv(checkout)
    assert done.returncode != 0
    assert APT_LINE in done.stderr
    assert not (checkout / ".venv").exists()


def test_root_gets_the_venv_module_installed(checkout: Path) -> None:
    called = checkout / "apt-called"
    _fake(checkout, "python3", f'[ "$2" = "import ensurepip, venv" ] && exit 1; exec {sys.executable} "$@"')
    _fake(checkout, "id", "echo 0")
    _fake(checkout, "apt-get", f'echo "$*" >>"{called}"')
    assert _make_venv(checkout).returncode != 0  # this apt-get installs nothing
    assert "install -y -qq --no-install-recommends python3-venv" in called.read_text()


def test_nothing_is_installed_again_while_nothing_changed(checkout: Path) -> None:
    pip_calls = checkout / "pip-called"
    venv_python = checkout / ".venv" / "bin" / "python"
    venv_python.parent.mkdir(parents=True)
    venv_python.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-m pip" ] && {{ echo "$*" >>"{pip_calls}"; exit 0; }}\nexec {sys.executable} "$@"\n'
    )
    venv_python.chmod(0o755)
    for _ in range(3):
        assert _make_venv(checkout).returncode == 0
    assert len(pip_calls.read_text().splitlines()) == 1
    with (checkout / "setup.cfg").open("a") as setup:
        setup.write("\n")
    assert _make_venv(checkout).returncode == 0
    assert len(pip_calls.read_text().splitlines()) == 2


def test_a_python_that_was_asked_for_and_cannot_serve_is_an_error(checkout: Path) -> None:
    done = _make_venv(checkout, PYTHON="/bin/false")
    assert done.returncode != 0
    assert "PYTHON=/bin/false is not a Python 3.11, 3.12, 3.13 or 3.14" in done.stderr
