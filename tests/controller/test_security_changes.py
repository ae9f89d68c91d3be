"""Users and rules: what is decided, what the log then says, and what it adds up to."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from raftlog.controller.decisions import decide
from raftlog.controller.image import Image, apply, decode_image, encode_image
from raftlog.controller.records import ClusterRecord, SnapshotRecord, decode_record, encode_record
from raftlog.controller.security_changes import UNGUARDED, Guard
from raftlog.errors import ErrorCode
from raftlog.limits import SECURITY_CHANGES_MAX
from raftlog.protocol.security import (
    AlterUsersRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    DescribeAclsRequest,
    DescribeUsersRequest,
    SecurityResponse,
)
from raftlog.security.acls import Acl, AclFilter, Operation, Pattern, ResourceType
from raftlog.security.passwords import make_credential
from raftlog.security.scram import Credential, Mechanism

SHA_256, SHA_512 = Mechanism
ONE, OTHER = (make_credential(SHA_256, password, 4096) for password in ("one", "other"))
LONG = make_credential(SHA_512, "one", 4096)
READ_ORDERS = Acl(resource_type=ResourceType.TOPIC, name="orders", principal="User:alice", operation=Operation.READ)
EMPTY = apply(Image(), 0, ClusterRecord(cluster_id="c", voters=(1,)))


class Log:
    """The controller's decisions and the image that they make."""

    def __init__(self, guard: Guard = UNGUARDED) -> None:
        self.image = EMPTY
        self.guard = guard

    def ask(self, request: Any) -> Any:
        decision = decide(self.image, request, live=[1], mint_id=lambda: uuid.uuid4().bytes, guard=self.guard)
        for record in decision.records:
            self.image = apply(self.image, self.image.end_offset, decode_record(encode_record(record)))
        return decision.response

    def set(self, user: str, credential: Credential = ONE) -> list[ErrorCode]:
        return codes(self.ask(AlterUsersRequest(**mutation(), credentials=[(user, credential)])))

    def delete(self, user: str, mechanism: int) -> list[ErrorCode]:
        return codes(self.ask(AlterUsersRequest(**mutation(), deletions=[(user, mechanism)])))

    def add(self, *acls: Acl) -> list[ErrorCode]:
        return codes(self.ask(CreateAclsRequest(**mutation(), acls=list(acls))))

    def acls(self, **wanted: Any) -> list[Acl]:
        found: list[Acl] = self.ask(DescribeAclsRequest(AclFilter(**wanted))).acls
        return found


def mutation() -> dict[str, Any]:
    return {"mutation_id": uuid.uuid4().bytes, "since_offset": 0}


def codes(response: SecurityResponse) -> list[ErrorCode]:
    if response.error_code:
        return [ErrorCode(response.error_code)]
    return [result.error_code for result in response.results]


# --- users -----------------------------------------------------------------------------------------
def test_a_user_is_made_changed_and_gone_with_the_last_password() -> None:
    log = Log()
    assert log.set("alice") == log.set("alice", LONG) == [ErrorCode.NONE]
    assert {each.mechanism for each in log.image.security.users["alice"].credentials} == {SHA_256, SHA_512}
    log.set("alice", OTHER)
    assert set(log.image.security.users["alice"].credentials) == {LONG, OTHER}
    log.delete("alice", SHA_256)
    assert log.image.security.users["alice"].credentials == (LONG,)
    assert log.delete("alice", SHA_512) == [ErrorCode.NONE]
    assert log.image.security.users == {}


def test_each_change_of_a_user_is_another_epoch_and_what_is_so_already_is_none() -> None:
    log = Log()
    log.set("alice")
    first = log.image.security.users["alice"].epoch
    log.set("alice")
    assert log.image.security.users["alice"].epoch == first
    log.set("alice", OTHER)
    assert log.image.security.users["alice"].epoch > first


def test_all_passwords_of_a_user_go_at_once() -> None:
    log = Log()
    log.set("alice")
    log.set("alice", LONG)
    assert log.delete("alice", 0) == [ErrorCode.NONE]
    assert log.image.security.users == {}


def test_kafkas_errors() -> None:
    log = Log()
    assert log.delete("alice", SHA_256) == [ErrorCode.RESOURCE_NOT_FOUND]
    log.set("alice")
    assert log.delete("alice", SHA_512) == [ErrorCode.RESOURCE_NOT_FOUND]
    twice = AlterUsersRequest(**mutation(), credentials=[("bob", ONE), ("bob", OTHER), ("carol", ONE)])
    assert codes(log.ask(twice)) == [ErrorCode.DUPLICATE_RESOURCE, ErrorCode.DUPLICATE_RESOURCE, ErrorCode.NONE]
    assert log.delete("alice", 3) == [ErrorCode.UNSUPPORTED_SASL_MECHANISM]
    assert log.set("dan", msgspec.structs.replace(ONE, mechanism=3)) == [ErrorCode.UNSUPPORTED_SASL_MECHANISM]
    assert log.set("dan", msgspec.structs.replace(ONE, salt=b"8 bytes.")) == [ErrorCode.UNACCEPTABLE_CREDENTIAL]
    assert log.set("") == log.set("raftlog-node") == [ErrorCode.UNACCEPTABLE_CREDENTIAL]
    described = log.ask(DescribeUsersRequest(["alice", "dan"])).users
    assert [(each.name, each.error_code) for each in described] == [("alice", 0), ("dan", 91)]
    assert described[0].credentials == [(SHA_256, 4096)]
    assert [each.name for each in log.ask(DescribeUsersRequest()).users] == ["alice", "carol"]


def test_a_change_that_comes_again_is_carried_out_once() -> None:
    log = Log()
    log.set("alice")
    gone = AlterUsersRequest(**mutation(), deletions=[("alice", SHA_256)])
    assert codes(log.ask(gone)) == [ErrorCode.NONE]
    log.set("alice", OTHER)
    assert codes(log.ask(gone)) == [ErrorCode.NONE]
    assert log.image.security.users["alice"].credentials == (OTHER,)
    part = AlterUsersRequest(**mutation(), credentials=[("bob", ONE)], deletions=[("dan", SHA_256)])
    assert codes(log.ask(part)) == codes(log.ask(part)) == [ErrorCode.NONE, ErrorCode.RESOURCE_NOT_FOUND]


def test_the_first_change_brings_a_secret_that_stays() -> None:
    log = Log()
    log.set("alice")
    secret = log.image.security.secret
    log.add(READ_ORDERS)
    assert len(secret) == 32 and log.image.security.secret == secret


# --- rules -----------------------------------------------------------------------------------------
def test_adding_a_rule_twice_keeps_one() -> None:
    log = Log()
    assert log.add(READ_ORDERS, READ_ORDERS) == [ErrorCode.NONE] * 2
    assert log.add(READ_ORDERS) == [ErrorCode.NONE]
    assert log.acls() == [READ_ORDERS]


def test_rules_are_found_and_deleted_by_filters() -> None:
    log = Log()
    prefixed = msgspec.structs.replace(READ_ORDERS, name="ord", pattern=Pattern.PREFIXED)
    log.add(READ_ORDERS, prefixed)
    assert log.acls(name="orders") == [READ_ORDERS]
    assert log.acls(name="orders", pattern=Pattern.MATCH) == [READ_ORDERS, prefixed]
    filters = [AclFilter(name="orders"), AclFilter(name="nothing")]
    assert log.ask(DeleteAclsRequest(**mutation(), filters=filters)).deleted == [[READ_ORDERS], []]
    assert log.acls() == [prefixed]


@pytest.mark.parametrize(
    "change",
    [
        {"operation": Operation.IDEMPOTENT_WRITE},
        {"operation": Operation.ANY},
        {"resource_type": ResourceType.ANY},
        {"resource_type": ResourceType.CLUSTER, "operation": Operation.ALTER},
        {"pattern": Pattern.MATCH},
        {"permission": 1},
        {"principal": "alice"},
        {"host": "localhost"},
        {"name": ""},
    ],
    ids=str,
)
def test_a_rule_that_could_not_mean_anything_is_refused(change: dict[str, Any]) -> None:
    log = Log()
    assert log.add(msgspec.structs.replace(READ_ORDERS, **change), READ_ORDERS) == [
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NONE,
    ]
    assert log.acls() == [READ_ORDERS]


def test_a_request_is_bounded() -> None:
    log = Log()
    many = [msgspec.structs.replace(READ_ORDERS, name=f"t{n}") for n in range(SECURITY_CHANGES_MAX + 1)]
    assert log.add(*many) == [ErrorCode.INVALID_REQUEST]
    assert log.add(*many[1:]) == [ErrorCode.NONE] * SECURITY_CHANGES_MAX


# --- who is left -----------------------------------------------------------------------------------
def test_the_first_user_has_to_be_a_superuser() -> None:
    log = Log(Guard(frozenset(["User:root"])))
    assert log.set("alice") == log.add(READ_ORDERS) == [ErrorCode.POLICY_VIOLATION]
    assert log.set("root") == log.set("alice") == log.add(READ_ORDERS) == [ErrorCode.NONE]


def test_the_last_superuser_stays_while_there_are_others() -> None:
    log = Log(Guard(frozenset(["User:root"])))
    log.set("root")
    log.set("alice")
    assert log.delete("root", 0) == [ErrorCode.POLICY_VIOLATION]
    log.delete("alice", 0)
    assert log.delete("root", 0) == [ErrorCode.NONE]


def test_who_has_a_certificate_needs_no_password() -> None:
    assert Log(Guard(frozenset(["User:root"]), by_certificate=True)).add(READ_ORDERS) == [ErrorCode.NONE]
    assert Log(Guard(frozenset(), by_certificate=True)).add(READ_ORDERS) == [ErrorCode.POLICY_VIOLATION]


# --- the image -------------------------------------------------------------------------------------
def test_an_image_of_before_opens_as_one_without_users() -> None:
    fields = msgspec.msgpack.decode(encode_image(EMPTY))
    older = decode_image(msgspec.msgpack.encode(fields[:-1]))
    assert older == EMPTY and older.security.is_empty


def test_a_snapshot_is_the_image_with_its_users_and_rules() -> None:
    log = Log()
    log.set("alice")
    log.add(READ_ORDERS)
    again = decode_image(encode_image(log.image))
    assert again == log.image
    after = apply(log.image, log.image.end_offset, SnapshotRecord(image=encode_image(log.image)))
    assert after.security == log.image.security
