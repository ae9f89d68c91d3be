"""What an installed raftlog brings along: its two packages, its command, and no top-level `cli`."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.source_tree import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build/ is left in the checkout, and without asking an index."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("raftlog", "cli"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--no-index", "-w", str(folder), str(source)], check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_raftlog_and_raftlog_cli_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"raftlog", "raftlog_cli"}
    shipped = {name for name in names if name.endswith(".py")}
    there = {str(p.relative_to(ROOT)) for p in (ROOT / "raftlog").rglob("*.py")}
    there |= {f"raftlog_cli/{p.relative_to(ROOT / 'cli')}" for p in (ROOT / "cli").rglob("*.py")}
    assert shipped == there


def test_a_wheel_carries_the_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "raftlog = raftlog_cli.main:main" in archive.read(entry_points).decode()
    assert any(name.endswith("/LICENSE") for name in names)


def test_cli_is_no_top_level_module_of_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = f"""
import importlib.util, sys
sys.path.insert(0, {str(tmp_path)!r})
import raftlog_cli.main
assert raftlog_cli.main.__file__.startswith({str(tmp_path)!r}), raftlog_cli.main.__file__
assert importlib.util.find_spec("cli") is None, importlib.util.find_spec("cli")
"""
    # -P and another folder: neither the checkout nor the current directory is on the path.
    subprocess.run([sys.executable, "-P", "-c", program], check=True, cwd=tmp_path, timeout=60)


def test_an_editable_install_finds_the_command_and_no_cli() -> None:
    program = "import raftlog_cli.main, importlib.util; assert importlib.util.find_spec('cli') is None"
    subprocess.run([sys.executable, "-P", "-c", program], check=True, cwd="/", timeout=60)
    assert importlib.metadata.version("raftlog")
