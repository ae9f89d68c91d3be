"""The pages of docs/reference/, made from the code: what it says of itself stands there and nowhere else.

Errors are explained by the docstrings of their classes, limits and topic settings by the comments behind them, options
by their help.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from raftlog import config, errors, limits, types
from raftlog.client.consumer.options import ConsumerOptions
from raftlog.client.producer.options import ProducerOptions
from raftlog.http.catalog import METRICS
from raftlog.protocol import apis
from raftlog.security.acls import title
from raftlog_cli.node import start

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
_MADE = "Written by `scripts/docs` from {source}. Change it there.\n"
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_MILLISECONDS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


class _Explained(NamedTuple):
    """A name that is set in a source, and the comment behind it."""

    section: str
    name: str
    reason: str


def errors_page() -> str:
    found = sorted(_subclasses(errors.RaftlogError), key=lambda cls: (cls.code, len(cls.__mro__)))
    answers = [
        (f"`{cls.__name__}`", f"{cls.code.value} `{cls.code.name}`", _flags(cls), _meaning(cls))
        for cls in found
        if not issubclass(cls, errors.LocalError)
    ]
    local = [
        (f"`{cls.__name__}`", f"`{cls.__mro__[1].__name__}`", _flags(cls), _meaning(cls))
        for cls in found
        if issubclass(cls, errors.LocalError)
    ]
    lines = [
        "# Errors\n",
        _MADE.format(source="`raftlog/errors.py`"),
        "In Python every error is a subclass of `RaftlogError`. Names and numbers of the codes are Kafka's.\n",
        "* `retriable`: the same request may succeed later.",
        "* `invalid_metadata`: ask for fresh metadata before trying again.",
        "* `outcome_unknown`: a write that failed so may have happened all the same.\n",
        "## From an answer\n",
        *_table(("error", "code", "", "meaning, and what to do"), answers),
        "\nCode 0, `NONE`, is no error.\n",
        "## In this process\n",
        *_table(("error", "branch of", "", "meaning, and what to do"), local),
    ]
    return "\n".join(lines)


def metrics_page() -> str:
    rows = [
        (f"`{metric.full_name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.meaning)
        for metric in METRICS
    ]
    lines = [
        "# Metrics\n",
        _MADE.format(source="`raftlog/http/catalog.py`"),
        "What `/metrics` at a node's HTTP address exports, as text or OpenMetrics. Figures of workers are up to a",
        "second old. Counters go on when a worker starts again, and begin anew with their node; `_created` says",
        "when.\n",
        *_table(("metric", "kind", "labels", "meaning"), rows),
    ]
    return "\n".join(lines)


def settings_page() -> str:
    return "\n".join(
        [
            "# Settings\n",
            _MADE.format(source="`raftlog/types.py`, `raftlog/config.py`, `cli/node.py` and the options of clients"),
            "## Of a topic\n",
            "Given with `raftlog topic create NAME --config SETTING=VALUE`, changed with `raftlog topic alter`.",
            "Kafka's spelling (`retention.ms`) is understood too. A time is in milliseconds, or has a unit:",
            "`90s`, `10m`, `1h`, `7d`, `2w`. A size is in bytes, or has a unit: `512MiB` (2^20 bytes each) or",
            "`500MB` (10^6 each).\n",
            *_table(("setting", "default", "from", "to", "meaning"), topic_settings()),
            "\n## Of a node\n",
            "Options of `raftlog node start`, and keys of the section `[node]` of the file that `--config` names.\n",
            *_table(("option", "meaning"), _node_options()),
            "\n## Of a producer\n",
            "Arguments of `Producer` and `AsyncProducer`, by name.\n",
            *_table(("option", "default", "meaning"), client_options(ProducerOptions)),
            "\n## Of a consumer\n",
            "Arguments of `Consumer` and `AsyncConsumer`, by name. Of groups: [consumers.md](../consumers.md).\n",
            *_table(("option", "default", "meaning"), client_options(ConsumerOptions)),
        ]
    )


def limits_page() -> str:
    lines = [
        "# Limits\n",
        _MADE.format(source="`raftlog/limits.py`"),
        "Each bound with its reason. Topic settings have theirs in [settings.md](settings.md).",
    ]
    section = ""
    rows: list[tuple[str, ...]] = []
    for bound in _explained(ROOT / "raftlog" / "limits.py"):
        if bound.section != section:
            lines += _table(("limit", "value", "reason"), rows) if rows else []
            lines.append(f"\n## {bound.section.capitalize()}\n")
            section, rows = bound.section, []
        rows.append((f"`{bound.name}`", _shown(bound.name, getattr(limits, bound.name)), bound.reason))
    return "\n".join([*lines, *_table(("limit", "value", "reason"), rows)])


def modules_page() -> str:
    lines = [
        "# Modules\n",
        _MADE.format(source="the first sentence of each module"),
        "The packages, and which may import which: [architecture.md](../architecture.md#6-layout).",
    ]
    for folder in [*sorted({path.parent for path in (ROOT / "raftlog").rglob("*.py")}), ROOT / "cli"]:
        sources = [path for path in sorted(folder.glob("*.py")) if path.read_text().strip()]
        if sources:
            lines.append(f"\n## {folder.relative_to(ROOT)}/\n")
            lines += _table(("module", "its job"), ((f"`{path.name}`", _first_sentence(path)) for path in sources))
    return "\n".join(lines)


def apis_page() -> str:
    lines = [
        "# APIs\n",
        _MADE.format(source="`raftlog/protocol/apis.py` and the bodies beside it"),
        "One table for each kind of server. Before every request stands an envelope",
        "([protocol.md](../protocol.md#frames)), and every answer begins with `error_code` and `error_text`. Keys",
        "below 1000 are Kafka's. *May* is the operation that the sender has to be allowed to once there is a user or a",
        "rule ([operations.md](../operations.md#users-and-rules)).",
    ]
    for served in apis.Served:
        lines.append(f"\n## Served by {served.value}\n")
        rows = [
            (
                f"`{api.name}`",
                str(api.key),
                title(api.operation) if api.operation else "none",
                _fields(api.request),
                _fields(api.response),
                _meaning(api.request),
            )
            for api in apis.APIS
            if api.served is served
        ]
        lines += _table(("API", "key", "may", "request", "answer", "meaning"), rows)
    return "\n".join(lines)


def _fields(body: type[msgspec.Struct]) -> str:
    return ", ".join(f"`{name}`" for name in body.__struct_fields__ if name not in ("error_code", "error_text"))


PAGES: dict[str, Callable[[], str]] = {
    "metrics.md": metrics_page,
    "apis.md": apis_page,
    "errors.md": errors_page,
    "limits.md": limits_page,
    "modules.md": modules_page,
    "settings.md": settings_page,
}


def _subclasses(cls: type[errors.RaftlogError]) -> Iterator[type[errors.RaftlogError]]:
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:  # others are private to a package
            yield from _subclasses(below)


def _flags(cls: type[errors.RaftlogError]) -> str:
    return ", ".join(name for name in ("retriable", "invalid_metadata", "outcome_unknown") if getattr(cls, name))


def _meaning(cls: type) -> str:
    return " ".join((cls.__dict__["__doc__"] or "").split())


def _first_sentence(path: Path) -> str:
    paragraph = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
    text = " ".join(paragraph.split())
    sentence = re.match(r".*?\.(?= [A-Z]|$)", text)
    return sentence[0] if sentence else text


def topic_settings() -> Iterator[tuple[str, ...]]:
    reasons = {each.name: each.reason for each in _explained(ROOT / "raftlog" / "types.py", "TopicConfig")}
    defaults = config.config_for_people(msgspec.structs.asdict(types.TopicConfig()))
    for name, default in defaults.items():
        low, high = config.BOUNDS.get(name, (None, None))
        bounds = ["" if bound is None else _shown(name, bound) for bound in (low, high)]
        yield f"`{name}`", _shown(name, default), *bounds, reasons[name]


def _node_options() -> Iterator[tuple[str, str]]:
    for option in start.params:
        if isinstance(option, click.Option):
            yield f"`{' '.join(filter(None, (option.opts[0], option.metavar)))}`", option.help or ""


def client_options(cls: type) -> Iterator[tuple[str, str, str]]:
    """As the docstring of the class lists them: a name, two spaces or more, and what it means."""
    meanings: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(cls.__doc__ or "").splitlines():
        if match := re.match(r"([a-z_]+) {2,}(.*)", line):
            name = match[1]
            meanings[name] = match[2]
        elif line.startswith(" ") and name:
            meanings[name] += f" {line.strip()}"
        else:
            name = ""
    for parameter in list(inspect.signature(cls).parameters.values()):
        default = "" if parameter.default is parameter.empty else repr(parameter.default)
        if isinstance(parameter.default, int) and not isinstance(parameter.default, bool):
            default = f"{parameter.default:_}"
        yield f"`{parameter.name}`", f"`{default}`".replace("'", '"') * bool(default), meanings.get(parameter.name, "")


def _explained(path: Path, cls: str | None = None) -> Iterator[_Explained]:
    """The names that the module, or a class of it, sets. A comment `# --- name ---` opens a section."""
    lines = path.read_text().splitlines()
    nodes = ast.parse(path.read_text()).body
    if cls is not None:
        nodes = next(node.body for node in nodes if isinstance(node, ast.ClassDef) and node.name == cls)
    for node in nodes:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        assert isinstance(target, ast.Name)
        above = [match[1] for line in lines[: node.lineno] if (match := re.match(r"# --- (.*?) -+$", line))]
        reason = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")[2]
        reason = reason or lines[node.lineno - 2].partition("    # ")[2]  # a long one stands above
        yield _Explained(above[-1] if above else "all", target.id, reason)


def _shown(name: str, value: object) -> str:
    """A number with its unit, as people read it."""
    if not isinstance(value, int | float):
        return f"`{value}`"
    number = int(value) if value == int(value) else value
    for power in (31, 62, 63):
        if number in (2**power - 1, 2**power):
            return f"2^{power} - 1" if number < 2**power else f"2^{power}"
    if name.endswith("_bytes") or "BYTES" in name:
        return _in_units(number, _BYTES, "B")
    if name.endswith(("_ms", "_MS")) or "_MS_" in name:
        return _in_units(number, _MILLISECONDS, "ms")
    unit = " s" if name.endswith("_S") else ""
    return f"{number:,}{unit}"


def _in_units(number: float, units: Iterable[tuple[int, str]], least: str) -> str:
    if number < 0:
        return str(number)
    for size, unit in units:
        if number >= size and number % size == 0:
            return f"{int(number // size):,} {unit}"
    return f"{number:,} {least}"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        yield re.sub(r"\|  (?=\|)", "| ", f"| {' | '.join(cells)} |")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page() + "\n")


if __name__ == "__main__":
    main()
