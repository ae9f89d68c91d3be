"""Wrong input by hand, against running nodes: one line says what is wrong and what would be right."""

from __future__ import annotations

import pytest

from raftlog.node.local import LocalCluster
from tests.cli.command import run

_LONG = "x" * 300
_HUGE = "9" * 30


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["topic", "delete-records", "wrong", "--partition", "0", "--before", _HUGE],
            2,
            "neither an offset nor end",
        ),
        (["topic", "delete-records", "wrong", "--partition", "0", "--before", "5"], 1, "are deleted up to 0 at most"),
        (["topic", "delete-records", "wrong", "--partition", "0", "--before", "-1"], 2, "neither an offset nor end"),
        (["topic", "delete-records", "wrong", "--partition", "7", "--before", "0"], 1, "numbered from 0"),
        (["topic", "create", ""], 1, "letters, digits, '.', '_' and '-'"),
        (["topic", "create", "many", "--partitions", _HUGE], 2, "1<=x<=2147483647"),
        (["topic", "create", "strict", "--config", "min.insync.replicas=4"], 1, "above the replication factor 3"),
        (["topic", "alter", "wrong", "--config", "min.insync.replicas=4"], 1, "above the replication factor 3"),
        (["topic", "create", "soon", "--config", "retention.ms=1fortnight"], 2, "such as 3600000 (milliseconds), 90s"),
        (["topic", "create", "big", "--config", "retention.bytes=1h"], 2, "such as 1048576, 512MiB or 1GB"),
        (["group", "reset-offsets", "nobody", "--topic", "wrong", "--to-offset", _HUGE], 2, "0<=x<="),
        (["doctor", "--timeout", "inf"], 2, "inf is not in the range 0.1<=x<=86400.0"),
        (["doctor", "--timeout", "nan"], 2, "nan is no number of seconds"),
        (["top", "--every", "1e300", "--count", "2"], 2, "is not in the range 0.2<=x<=86400.0"),
        (["tpoic", "list"], 2, "Did you mean 'topic'?"),
        (["topic", "create", ".."], 1, "not only dots"),
        (["topic", "create", "a b"], 1, "only letters, digits"),
        (["topic", "create", _LONG], 1, "at most 249 characters, this one 300"),
        (["topic", "create", "\udcff"], 1, "cannot be encoded"),
        (["consume", "\udcff"], 1, "cannot be encoded"),
        (["consume", "a b"], 1, "'a b' is not a legal topic name"),
        (["consume", "wrong", "--group", ""], 2, "a group's name has 1 to 256 bytes"),
        (["consume", "wrong", "--group", _LONG], 2, "a group's name has 1 to 256 bytes"),
        (["consume", "wrong", "--from", "2099-01-01"], 2, "'2099-01-01' is still to come"),
        (["consume", "wrong", "--from", "-5"], 2, "how long ago (-1h)"),
        (["consume", "wrong", "--from", _HUGE], 1, "has offsets 0 to 0"),
        (["group", "describe", ""], 2, "a group's name has 1 to 256 bytes"),
        (["group", "delete", _LONG], 2, "a group's name has 1 to 256 bytes"),
        (
            ["group", "reset-offsets", "nobody", "--topic", "wrong", "--shift-by", "1", "--create"],
            1,
            "say where with --to-beginning",
        ),
        (["group", "reset-offsets", "nobody", "--topic", "wrong", "--to-time", "2099-01-01"], 2, "is still to come"),
    ],
)
def test_it_is_refused_with_what_would_be_right(
    cluster: LocalCluster, arguments: list[str], code: int, said: str
) -> None:
    run(cluster, "topic", "create", "wrong", "--if-not-exists")
    refused = run(cluster, *arguments, code=code)
    assert refused.stdout == b""
    lines = refused.stderr.decode().splitlines()
    assert said in lines[-1], refused.stderr.decode()
    assert sum("rror: " in line for line in lines) == 1
