"""The table of APIs holds together: what each row says is true of its bodies, and somebody serves it."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.errors import ErrorCode
from raftlog.partition.replica import Replica
from raftlog.protocol import apis
from raftlog.protocol.apis import Served
from raftlog.protocol.body import ResponseBody
from raftlog.protocol.envelope import decode_response, encode_response
from tests.partition.harness import Cluster


def test_no_key_no_name_and_no_request_belongs_to_two_rows() -> None:
    assert len(apis.BY_KEY) == len(apis.BY_REQUEST) == len({api.name for api in apis.APIS}) == len(apis.APIS)


@pytest.mark.parametrize("api", apis.APIS, ids=repr)
def test_an_error_alone_is_an_answer_to_every_request(api: apis.Api[Any, Any]) -> None:
    refusal = api.refusal(ErrorCode.NOT_CONTROLLER, "no", leader_id=3, leader_epoch=4)
    body = [refusal] if api is apis.PRODUCE else refusal
    assert decode_response(encode_response(api, 7, body)) == (api, 7, body)
    # What a server of a later version leaves out, and what one that could not read the request says.
    decoded = api.decode_response(b"\x91" * (api is apis.PRODUCE) + b"\x92\x29\xa2no")
    found: ResponseBody = decoded[0] if api is apis.PRODUCE else decoded
    assert (found.error_code, found.error_text) == (ErrorCode.NOT_CONTROLLER, "no")
    assert getattr(refusal, "leader_id", 3) == 3


def test_a_replica_has_a_handler_for_all_that_is_asked_of_a_leader() -> None:
    replica: Replica = Cluster().nodes[1].replica
    assert set(replica._handlers) == {api for api in apis.APIS if api.served is Served.LEADER}
