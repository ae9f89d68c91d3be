"""The matrix for people: client × operation, and below it each failure and each lack with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .matrix import Cell

_SIGNS = {"ok": "ok", "fails": "FAILS", "lacks": "–"}


def table(versions: Mapping[str, str], cells: Sequence[Cell], left_out: Mapping[str, str]) -> str:
    clients = list(dict.fromkeys(cell.client for cell in cells))
    checks = list(dict.fromkeys(cell.check for cell in cells))
    signs = {(cell.client, cell.check): _SIGNS[cell.verdict] for cell in cells}
    first = max(map(len, ["operation", *checks]))
    lines = ["  ".join(["operation".ljust(first), *clients]).rstrip()]
    for check in checks:
        row = [signs.get((client, check), "").ljust(len(client)) for client in clients]
        lines.append("  ".join([check.ljust(first), *row]).rstrip())
    lines.append("")
    lines += [f"{name}: {version}" for name, version in versions.items()]
    lines += [f"{name} is left out: {reason}" for name, reason in left_out.items()]
    for verdict, title in (("fails", "Fails:"), ("lacks", "The client has not:")):
        found = [cell for cell in cells if cell.verdict == verdict]
        if found:
            lines += ["", title, *(f"  {cell.client} {cell.check}: {cell.reason}" for cell in found)]
    counts = {verdict: sum(cell.verdict == verdict for cell in cells) for verdict in _SIGNS}
    lines += ["", f"{counts['ok']} ok, {counts['fails']} fail, {counts['lacks']} not in the client."]
    return "\n".join(lines) + "\n"
