"""The process of Kafka's door: its entry and its end. It alone imports raftlog/kafka, and so kio."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING

from raftlog.kafka.calls import DoorSettings
from raftlog.network import keep_freed_memory
from raftlog.node import channel as ch
from raftlog.node.kafka_door import KafkaDoor, Room
from raftlog.node.log_lines import configure_log_lines, set_log_level
from raftlog.security.policy import Access

if TYPE_CHECKING:
    from raftlog.node.jwks import Tokens

log = logging.getLogger(__name__)


def run_door(config_bytes: bytes, end: socket.socket, listener: socket.socket) -> None:
    config = ch.decode_door_config(config_bytes)
    configure_log_lines(f"node {config.node_id} kafka", config.log_style)
    # Ctrl-C reaches every process of the terminal; the supervisor says when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = DoorSettings(config.node_id, config.auto_create_topics, config.data, config.max_reauth_ms)
    credentials = config.secured.credentials(config.node_id) if config.secured else None
    channel: ch.Channel[ch.ToDoor] = ch.Channel(end, ch.ToDoor)
    door = KafkaDoor(
        listener,
        settings,
        config.node,
        Room(config.connections_max, config.connections_per_address),
        config.access,
        credentials,
        _tokens(config.access),
        lambda figures: channel.send(ch.Counted(figures=figures)),
    )
    signal.signal(signal.SIGTERM, lambda *_: door.stop())

    def hear(_events: int) -> None:
        for message in channel.receive():
            match message:
                case ch.ClusterNews():
                    door.learn(message.cluster, message.workers)
                case ch.SecurityNews():
                    door.secure(message.security)
                case ch.SetLogLevel():
                    set_log_level(message.level)
                case ch.Stop():
                    door.stop()
        if channel.closed:
            door.stop()

    door.watch_news(channel.fileno(), hear)
    keep_freed_memory()
    gc.collect()
    gc.freeze()  # what was imported stays
    log.info("started, process %d", os.getpid())
    door.run()
    log.info("stopped; served: %s", door.served() or "nothing")


def _tokens(access: Access) -> Tokens | None:
    if access.tokens is None:
        return None
    from raftlog.node.jwks import Tokens  # 12 MB, which doors without tokens do without

    return Tokens(access.tokens)
