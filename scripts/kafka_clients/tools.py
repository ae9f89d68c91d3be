"""Which clients there are, what each needs on this machine, and how its program is built and started."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

_HERE = Path(__file__).resolve().parent
_PROGRAMS = _HERE / "programs"
_BUILD = _HERE.parent.parent / "build" / "kafka-clients"  # ignored by version control
_VERSIONS = _HERE / "versions.toml"
_PREPARE_S = 900  # fetching a hundred jars, compiling three Go clients, on a busy machine


class MissingError(Exception):
    """What has to be installed, or what went wrong in building: in one line."""


class Client(NamedTuple):
    """One of Kafka's clients. `prepare` returns the command of its program. Raises MissingError."""

    name: str
    prepare: Callable[[], list[str]]


def _versions(kind: str) -> dict[str, str]:
    found: dict[str, str] = tomllib.loads(_VERSIONS.read_text())[kind]
    return found


def _need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        raise MissingError(f"{program} is not installed: Debian package {package}")


def _run(command: Sequence[str | Path], directory: Path) -> None:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_PREPARE_S, check=False)
    except subprocess.TimeoutExpired:
        raise MissingError(f"{command[0]} took more than {_PREPARE_S} s") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise MissingError(f"{' '.join(map(str, command))[:120]} failed: {' / '.join(lines[-3:])[:500]}")


def _built(name: str, sources: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """A folder in which `build` has been done for these sources and versions, now or in an earlier run."""
    directory = _BUILD / name
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in (_VERSIONS, *sources))).hexdigest()
    stamp = directory / "stamp"
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        build(directory)
        stamp.write_text(wanted)
    return directory


def interpreter(kind: str = "pip") -> Path:
    """The Python of an environment with a list of versions.toml: that of the clients, if no other is named."""

    def build(directory: Path) -> None:
        _run([sys.executable, "-m", "venv", directory / "venv"], directory)
        wanted = [name + versions for name, versions in _versions(kind).items()]
        _run([directory / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", *wanted], directory)

    return _built(kind.replace("pip", "python"), [], build) / "venv/bin/python"


def _python(program: str) -> list[str]:
    return [str(interpreter()), str(_PROGRAMS / f"{program}.py")]


def jars(kind: str = "maven") -> Path:
    """A folder with a list of versions.toml: Apache Kafka's clients, tools and server, if no other is named."""
    _need("java", "default-jdk-headless")
    _need("mvn", "maven")

    def build(directory: Path) -> None:
        dependencies = "".join(
            f"<dependency><groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId>"
            f"<version>{escape(versions)}</version></dependency>"
            for name, versions in _versions(kind).items()
            for group, _, artifact in [name.partition(":")]
        )
        (directory / "pom.xml").write_text(
            "<project><modelVersion>4.0.0</modelVersion><groupId>raftlog</groupId><artifactId>clients</artifactId>"
            f"<version>1</version><dependencies>{dependencies}</dependencies></project>"
        )
        copy = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"]
        _run(copy, directory)

    return _built(kind, [], build) / "jars"


def compiled(name: str, source: Path, found: Path) -> Path:
    """A folder with the classes of a Java program that uses these jars."""
    _need("javac", "default-jdk-headless")

    def build(directory: Path) -> None:
        _run(["javac", "-nowarn", "-cp", f"{found}/*", "-d", directory, source], directory)

    return _built(name, [source], build)


def _java() -> list[str]:
    found = jars()
    classes = compiled("java", _PROGRAMS / "JavaClient.java", found)
    return ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{classes}:{found}/*", "JavaClient"]


def _kafka_tools() -> list[str]:
    return [sys.executable, str(_PROGRAMS / "kafka_tools.py"), str(jars())]


def _go(client: str) -> list[str]:
    _need("go", "golang-go, or a newer one")
    sources = sorted((_PROGRAMS / "go").glob("*.go"))

    def build(directory: Path) -> None:
        for source in sources:
            shutil.copy(source, directory)
        _run(["go", "mod", "init", "kafkaclients"], directory)
        _run(["go", "get", *(f"{name}@{versions}" for name, versions in _versions("go").items())], directory)
        _run(["go", "mod", "tidy"], directory)
        _run(["go", "build", "-o", "clients", "."], directory)

    return [str(_built("go", sources, build) / "clients"), client]


def _kafkajs() -> list[str]:
    _need("node", "nodejs")
    _need("npm", "npm")
    source = _PROGRAMS / "kafkajs.js"

    def build(directory: Path) -> None:
        (directory / "package.json").write_text("{}")
        wanted = [f"{name}@{versions}" for name, versions in _versions("npm").items()]
        _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *wanted], directory)
        shutil.copy(source, directory)  # node looks for modules beside the program

    return ["node", str(_built("npm", [source], build) / source.name)]


def _kcat() -> list[str]:
    _need("kcat", "kcat")
    return [sys.executable, str(_PROGRAMS / "kcat.py")]


def _raftlog() -> list[str]:
    return [sys.executable, str(_PROGRAMS / "raftlog_client.py")]


OWN = "raftlog"
CLIENTS = {
    client.name: client
    for client in (
        Client("confluent", lambda: _python("confluent")),
        Client("kafka-python", lambda: _python("kafka_python")),
        Client("aiokafka", lambda: _python("aio_kafka")),
        Client("java", _java),
        Client("kafka-tools", _kafka_tools),
        Client("franz-go", lambda: _go("franz-go")),
        Client("sarama", lambda: _go("sarama")),
        Client("kafka-go", lambda: _go("kafka-go")),
        Client("kafkajs", _kafkajs),
        Client("kcat", _kcat),
        Client(OWN, _raftlog),
    )
}
WITHOUT_SECURITY = ("kafka-tools", OWN)
"""Whose programs know nothing of it."""
SCRIBE = CLIENTS["confluent"]
