"""Where nodes are open though they work: what each weak spot means, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raftlog.security.weakness import Weakness
from raftlog.view.diagnosis import Diagnosis

_WORDS = {
    Weakness.OPEN_PORT: (
        "other machines reach it, and nothing is encrypted",
        "whoever reaches it may speak as a node, and read and change what comes and goes",
        "`raftlog security --help` says how to make certificates; start it with --security DIR, without --insecure",
    ),
    Weakness.OPEN_HTTP: (
        "other machines reach its HTTP address",
        "it asks nobody who he is: metrics, topics and groups are shown to all",
        "start it with --security DIR, or leave --http-listen on 127.0.0.1",
    ),
    Weakness.READABLE_KEY: (
        "other users of its machine can read its key",
        "who has read it can speak as this node, until the authority is replaced",
        "chmod 600 node.key; where others have an account there, `raftlog security node` makes another key",
    ),
    Weakness.RULES_OFF: (
        "it runs with --authorization off, though there are users or rules",
        "at this node everybody may do everything",
        "start it without --authorization off",
    ),
    Weakness.SUPERUSER_PLAIN: (
        "a superuser has logged in with PLAIN",
        "the password itself was sent: whoever ends that TLS, a proxy or a false node, can do everything",
        "let it log in with SCRAM-SHA-512, and give it another password: `raftlog user password`",
    ),
    Weakness.PERMISSIVE: (
        "it is --permissive: it takes plain connections beside those under TLS",
        "whoever reaches it may speak as a node; who alters traffic can keep others from using TLS",
        "once all nodes have --security and all clients use it, start it without --permissive",
    ),
}


def name_weak_spots(spots: Mapping[int, Sequence[int]]) -> list[Diagnosis]:
    """`spots`: of each node. Numbers of newer nodes are passed over."""
    found = []
    for node_id, numbers in sorted(spots.items()):
        for weakness in [each for each in Weakness if each in numbers]:
            what, meaning, advice = _WORDS[weakness]
            found.append(Diagnosis(place=f"node {node_id}", what=what, meaning=meaning, advice=advice))
    return found
