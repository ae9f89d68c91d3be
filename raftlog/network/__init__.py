"""Sockets: frames in, frames out. The one package that imports zmq.

    Context   owns the I/O thread; one per process, which its clients lease (SHARED_CONTEXT)
    Server    a bound ROUTER: many peers, each known by an identity while it is connected
    Link      a DEALER to one endpoint; reconnects by itself
    StreamServer, StreamLink   plain TCP, one way, from the worker of one replica to that of another
    MessageStream   messages over a connection, both ways
    LocalServer, connect_local   between processes of one node
    MessageServer   what a Server is, over sockets of its own: of ZeroMQ's links, under TLS, or both
    SecureLink      what a Link is, under TLS
    Poller    waits for servers, links and file descriptors

Nothing here knows what a frame means, and nothing here blocks but `Poller.poll`. Loss is possible by
design: a full queue or an absent peer makes `send` say False, and what was queued for a peer that
went away is gone.
"""

from raftlog.network.context import Context, SharedContext
from raftlog.network.link import Link
from raftlog.network.local import LocalServer, connect_local
from raftlog.network.memory import allow_merged_pages, give_freed_memory_back, keep_freed_memory
from raftlog.network.message_server import MessageServer
from raftlog.network.message_stream import MessageStream
from raftlog.network.poller import Poller
from raftlog.network.secure_link import SecureLink
from raftlog.network.server import Server
from raftlog.network.stream import StreamConnection, StreamLink, StreamServer

__all__ = [
    "SHARED_CONTEXT",
    "Context",
    "Link",
    "LocalServer",
    "MessageServer",
    "MessageStream",
    "Poller",
    "SecureLink",
    "Server",
    "SharedContext",
    "StreamConnection",
    "StreamLink",
    "StreamServer",
    "allow_merged_pages",
    "connect_local",
    "give_freed_memory_back",
    "keep_freed_memory",
]

SHARED_CONTEXT = SharedContext()
