"""Logins at raftlog's own door: SCRAM in the first requests of a session, and the gate that they open."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from raftlog import limits
from raftlog.clock import monotonic_s
from raftlog.errors import ErrorCode
from raftlog.node.audit import AuditLog
from raftlog.node.dispatch import Dispatch
from raftlog.node.doors.door import answer
from raftlog.node.doors.native import NativeDoor
from raftlog.node.gate import Gate
from raftlog.node.quota_gate import QuotaGate
from raftlog.protocol.audit import event_of
from raftlog.protocol.envelope import Request
from raftlog.protocol.security import ON_BEHALF, AuthenticateRequest, AuthenticateResponse, Behalf, decode_behalf
from raftlog.protocol.session import CERTIFICATE, Session
from raftlog.security.acls import USER
from raftlog.security.audit import DENIED
from raftlog.security.identity import NODE_PREFIX
from raftlog.security.passwords import ServerLogin
from raftlog.security.policy import NEVER_ENDS, NODE_USER, OPEN, Access, Policy, Security, principal_of
from raftlog.security.scram import BY_TEXT, FINAL_BEGINS, Credential, LoginError, Mechanism

_UNDER_WAY_MAX = 1_000  # logins between their two messages; the oldest is forgotten
_FAILED = "user and password do not belong together"


class NativeLogins:
    """Who the native clients of a process are.

    `secure` is told of users, rules and quotas; `authenticate` is the handler of the API.
    """

    def __init__(self, access: Access, node_id: int, door: NativeDoor, topic: str = "") -> None:
        """`topic`: of the worker whose door it is; "" of a supervisor."""
        self._door = door
        self._access = access
        self._audit = AuditLog(access.audit_log, node_id, "raftlog")
        self._topic = topic
        self._policy = OPEN
        self._under_way: OrderedDict[Session, ServerLogin] = OrderedDict()
        self._failed_s: dict[str, float] = {}  # by address: until when nobody may try again

    def secure(self, security: Security, dispatch: Dispatch) -> None:
        self._policy = Policy(security, self._access)
        gate = Gate(self._policy, self._topic, self._audit.write if self._audit.is_on else None)
        self._door.demand_login(demanded=self._policy.demands_login)
        is_needed = self._policy.authorizes or self._policy.demands_login or self._audit.is_on
        dispatch.admit = gate.admit if is_needed else None
        throttles = self._door.throttles
        throttles.learn(security.quotas)
        if throttles:
            dispatch.admit = QuotaGate(throttles, dispatch.admit).admit

    def authenticate(self, request: Request[AuthenticateRequest]) -> None:
        session, body = request.session, request.body
        if body.mechanism == ON_BEHALF:
            self._take_over(request)
            return
        mechanism = BY_TEXT.get(body.mechanism)
        if not self._policy.security.users and not self._policy.security.secret:
            text = "this cluster has no users: `raftlog user create` makes one"
            answer(request, request.api.refusal(ErrorCode.ILLEGAL_SASL_STATE, text))
        elif mechanism is None:
            text = f"log in with {' or '.join(BY_TEXT)}"
            answer(request, request.api.refusal(ErrorCode.UNSUPPORTED_SASL_MECHANISM, text))
        elif self._failed_s.get(session.host, 0.0) > monotonic_s():
            text = "a login of this address has just failed: try again in a moment"
            answer(request, request.api.refusal(ErrorCode.THROTTLING_QUOTA_EXCEEDED, text))
        else:
            self._step(request, mechanism)

    def _step(self, request: Request[AuthenticateRequest], mechanism: Mechanism) -> None:
        session = request.session
        login = self._under_way.pop(session, None)
        if login is None or not request.body.data.startswith(FINAL_BEGINS):
            # Also in the middle of another: a client that has waited for its answer for too long begins anew.
            login = ServerLogin(mechanism, lambda user: self._find(user, mechanism))
        try:
            data = login.step(request.body.data)
        except LoginError:
            self._fail(request, login.user)
            return
        if not login.done:
            self._under_way[session] = login
            if len(self._under_way) > _UNDER_WAY_MAX:
                self._under_way.popitem(last=False)
        elif login.user == NODE_USER:
            session.principal, session.mechanism = f"{NODE_PREFIX}{session.host}", mechanism.text
        else:
            epoch = self._policy.epoch_of(login.user)
            if epoch < 0:  # deleted since its first message
                self._fail(request, login.user)
                return
            session.principal, session.mechanism, session.epoch = principal_of(login.user), mechanism.text, epoch
        answer(request, AuthenticateResponse(data=data, done=login.done))

    def _take_over(self, request: Request[AuthenticateRequest]) -> None:
        """The session becomes that of the one for whom its node asks: it may do less from now on, never more."""
        session = request.session
        behalf = _read_behalf(request.body.data) if session.principal.startswith(NODE_PREFIX) else None
        epoch = None if behalf is None else self._epoch_of(behalf)
        if behalf is None or epoch is None:
            text = "only a node asks for somebody else, and for a user who is there"
            session.refused += 1
            answer(request, request.api.refusal(ErrorCode.SASL_AUTHENTICATION_FAILED, text))
            return
        session.principal, session.host = behalf.principal, behalf.host
        session.mechanism, session.epoch = behalf.mechanism, epoch
        answer(request, AuthenticateResponse(done=True))

    def _epoch_of(self, behalf: Behalf) -> int | None:
        """None: there is no such user, any more or yet."""
        if behalf.mechanism == CERTIFICATE:
            return NEVER_ENDS
        epoch = self._policy.epoch_of(behalf.principal.removeprefix(f"{USER}:"))
        return None if epoch == NEVER_ENDS else epoch

    def _find(self, user: str, mechanism: Mechanism) -> Credential:
        if user == NODE_USER:
            return self._policy.credential_of_nodes(mechanism)
        return self._policy.credential(user, mechanism)

    def _fail(self, request: Request[AuthenticateRequest], user: str) -> None:
        self._door.failed_logins += 1
        now_s = monotonic_s()
        if len(self._failed_s) >= _UNDER_WAY_MAX:
            self._failed_s = {host: until_s for host, until_s in self._failed_s.items() if until_s > now_s}
        self._failed_s[request.session.host] = now_s + limits.FAILED_LOGIN_S
        request.session.refused += 1
        self._audit.write(
            event_of(request.session, request.api.name, DENIED, names=[user] if user else [], why=_FAILED)
        )
        answer(request, request.api.refusal(ErrorCode.SASL_AUTHENTICATION_FAILED, _FAILED))


def _read_behalf(data: bytes) -> Behalf | None:
    """None: it names no user."""
    try:
        behalf = decode_behalf(data)
    except msgspec.DecodeError:
        return None
    return behalf if behalf.principal.startswith(f"{USER}:") and behalf.mechanism else None
