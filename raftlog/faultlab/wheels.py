"""Gathers what a VM needs to install raftlog without a download: wheels of what it needs, of pip and of setuptools."""

from __future__ import annotations

import configparser
import platform
import subprocess
import sys
from pathlib import Path

from raftlog.errors import ConfigError

_FOUND_AS_SOURCE_ONLY = ("pysyncobj",)  # the index has no wheel: built here, it is the same for every machine
_GLIBC_MINORS = range(17, 37)  # of manylinux wheels: up to Debian 12's 2.36


def gather(root: Path, directory: Path, python_version: str) -> None:
    """`root`: the checkout. `python_version`: of the VMs' python3, such as 3.11."""
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    requirements = setup["options"]["install_requires"].split()
    project = (root / "pyproject.toml").read_text()
    backend = project.partition('requires = ["')[2].partition('"]')[0]
    directory.mkdir(parents=True, exist_ok=True)
    for requirement in requirements:
        if requirement.startswith(_FOUND_AS_SOURCE_ONLY):
            _pip("wheel", "--no-deps", "--wheel-dir", str(directory), requirement)
    machine = platform.machine()
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in reversed(_GLIBC_MINORS)]
    platforms.append(f"--platform=manylinux2014_{machine}")
    _pip(
        "download",
        "--only-binary=:all:",
        f"--python-version={python_version}",
        *platforms,
        f"--find-links={directory}",
        f"--dest={directory}",
        *requirements,
        backend,
        "pip",
    )


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"pip {arguments[0]}: {' '.join(done.stderr.split())}")
