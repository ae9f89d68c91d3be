"""One node as a process: `python -P -m raftlog.node --id 1 --data DIR`, with the options of `raftlog node start`.

Programs that start nodes start this: it loads no command line. With -P Python takes raftlog from where it is installed,
and never from the current directory.
"""

from __future__ import annotations

import argparse
import sys

from raftlog.errors import ConfigError, RaftlogError
from raftlog.node.main import run_node
from raftlog.node.settings import KEYS, parse_settings


def main() -> None:
    """Exit code 2: the options cannot be used; 1: the node could not start or go on, for a reason on stderr."""
    parser = argparse.ArgumentParser(prog="raftlog.node", allow_abbrev=False)
    for key in KEYS:
        parser.add_argument(f"--{key}", dest=key)
    try:
        settings = parse_settings(vars(parser.parse_args()))
    except ConfigError as error:
        parser.error(str(error))
    try:
        run_node(settings)
    except (RaftlogError, OSError) as error:
        sys.exit(f"raftlog: error: {error}")


if __name__ == "__main__":
    main()
