"""`raftlog log`: the files of a log, without a cluster."""

from __future__ import annotations

import click

from .options import json_option


@click.group()
def log() -> None:
    """Look into the files of a log.

    \b
    Example:
        raftlog log dump raftlog-data/1/orders-0/log.1/00000000000000000000.00000000000000000002.log
    """
