"""What a node says of its own weak spots, to the others and to `raftlog doctor`."""

from __future__ import annotations

from raftlog.node.settings import NodeSettings, is_loopback
from raftlog.security.credentials import Credentials
from raftlog.security.policy import Security
from raftlog.security.weakness import Weakness


def weak_spots(
    settings: NodeSettings, credentials: Credentials | None, security: Security, *, superusers_plain: bool
) -> list[int]:
    """`superusers_plain`: one of them has logged in with PLAIN since the node began."""
    listens = (settings.listen, settings.kafka_listen)
    reached = any(endpoint is not None and not is_loopback(endpoint.host) for endpoint in listens)
    http = settings.http_listen
    found = {
        Weakness.OPEN_PORT: credentials is None and reached,
        Weakness.OPEN_HTTP: (credentials is None or credentials.permissive)
        and http is not None
        and not is_loopback(http.host),
        Weakness.READABLE_KEY: credentials is not None and not credentials.key_is_private,
        Weakness.RULES_OFF: not settings.access.enforced and not security.is_empty,
        Weakness.SUPERUSER_PLAIN: superusers_plain,
        Weakness.PERMISSIVE: credentials is not None and credentials.permissive,
    }
    return [int(weakness) for weakness, there in found.items() if there]
