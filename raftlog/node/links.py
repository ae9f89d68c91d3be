"""The links of a supervisor to the other supervisors, one per known node, made again when one moves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from raftlog.clock import NEVER_S
from raftlog.errors import InvalidRequestError, UnsupportedVersionError
from raftlog.network import Context, Link, Poller, SecureLink
from raftlog.protocol import apis
from raftlog.protocol.apis import Api
from raftlog.protocol.body import Body, ResponseBody
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.nodes import NodeState
from raftlog.security.credentials import Credentials
from raftlog.types import Endpoint

log = logging.getLogger(__name__)

_PER_ROUND = 100  # one talkative node must not hold up the others


class NodeLinks:
    """With `credentials` under TLS, to the nodes that are meant; otherwise through `context`."""

    def __init__(self, context: Context | None, poller: Poller, credentials: Credentials | None = None) -> None:
        self._context = context
        self._credentials = credentials
        self._poller = poller
        self._links: dict[int, Link | SecureLink] = {}
        self._controller: Link | SecureLink | None = None
        self._losses: dict[int, int] = {}
        self._addresses: dict[int, Endpoint] = {}
        self._lacks_descriptors = False
        self._whys: dict[int, str] = {}

    def __contains__(self, node_id: int) -> bool:
        return node_id in self._links

    @property
    def node_ids(self) -> set[int]:
        return set(self._links)

    def set_addresses(self, addresses: Mapping[int, Endpoint]) -> None:
        """Exactly these nodes, at these addresses."""
        for node_id, link in list(self._links.items()):
            if addresses.get(node_id) != link.endpoint:
                self._poller.unregister(link)
                link.close()
                del self._links[node_id]
        self._addresses = dict(addresses)
        self._open()

    def _open(self) -> None:
        """Without descriptors for all it is tried again with the next `send_all`."""
        lacked, self._lacks_descriptors = self._lacks_descriptors, False
        for node_id, endpoint in self._addresses.items():
            if node_id in self._links:
                continue
            try:
                link = self._connect(node_id, endpoint)
            except OSError as error:
                self._lacks_descriptors = True
                if not lacked:
                    text = "no connection to node %d can be opened: %s; it is tried again"
                    log.warning(text, node_id, error.strerror)
                return
            self._links[node_id] = link
            self._losses[node_id] = 0
            self._poller.register(link)

    def _connect(self, node_id: int, endpoint: Endpoint) -> Link | SecureLink:
        """Raises OSError without descriptors, ConfigError for what is no address."""
        if self._credentials is not None:
            return SecureLink(endpoint, self._credentials, node_id=node_id)
        assert self._context is not None, "there are no credentials"
        return Link(self._context, endpoint, watched=True)

    @property
    def due_s(self) -> float:
        """When `lost` is to be called at the latest."""
        if self._credentials is None:
            return NEVER_S
        links = [*self._links.values(), *([self._controller] if self._controller else [])]
        return min((link.due_s for link in links if isinstance(link, SecureLink)), default=NEVER_S)

    def ask_controller(self, node_id: int, endpoint: Endpoint, api: Api[Any, Any], body: Body) -> None:
        """Over a link of its own, until `leave_controller`. The answer is not read."""
        if self._controller is None or self._controller.endpoint != endpoint:
            self.leave_controller()
            self._controller = self._connect(node_id, endpoint)
            self._poller.register(self._controller)
        self._controller.send([encode_request(api, 0, body)])

    def leave_controller(self) -> None:
        if self._controller is not None:
            self._poller.unregister(self._controller)
            self._controller.close()
            self._controller = None

    def send(self, node_id: int, api: Api[Any, Any], body: Body) -> bool:
        link = self._links.get(node_id)
        return link is not None and link.send([encode_request(api, 0, body)])

    def send_all(self, state: NodeState) -> None:
        if self._lacks_descriptors:
            self._open()
        header = encode_request(apis.NODE_STATE, 0, state)
        for link in self._links.values():
            link.send([header])

    def lost(self) -> list[int]:
        """Nodes whose established connection broke since the last call."""
        broken = []
        if self._controller is not None:
            self._controller.watch()
            while self._controller.receive() is not None:
                pass  # the image says it
        for node_id, link in self._links.items():
            link.watch()
            self._note_why(node_id, link)
            if link.losses != self._losses[node_id]:
                self._losses[node_id] = link.losses
                broken.append(node_id)
        return broken

    def _note_why(self, node_id: int, link: Link | SecureLink) -> None:
        """Once, until it changes."""
        if isinstance(link, SecureLink) and link.why != self._whys.get(node_id, ""):
            self._whys[node_id] = link.why
            if "certificate" in link.why or "TLS" in link.why:
                log.warning("no connection to node %d at %s: %s", node_id, link.endpoint, link.why)

    def receive(self) -> list[tuple[int, ResponseBody, list[bytes]]]:
        """(node id, answer, payload). What does not decode is dropped; another version of the protocol is a refusal.

        A list, not an iterator: what one answer says may move the link that the next would come from.
        """
        answers: list[tuple[int, ResponseBody, list[bytes]]] = []
        for node_id, link in self._links.items():
            for _ in range(_PER_ROUND):
                frames = link.receive()
                if frames is None:
                    break
                try:
                    answers.append((node_id, decode_response(frames[0])[2], frames[1:]))
                except UnsupportedVersionError as error:
                    answers.append((node_id, ResponseBody(error.code, f"it speaks {error}"), []))
                except InvalidRequestError:
                    continue
        return answers
