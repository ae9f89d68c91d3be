"""Three nodes with --security: clients of both doors with certificates, everybody else outside, renewal under load."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kafka
import pytest

from raftlog import Admin, Consumer, NewTopic, Producer
from raftlog.errors import ConfigError, NoBrokersAvailableError
from raftlog.limits import STRANGERS_MAX
from raftlog.network import SecureLink
from raftlog.node.local import LocalCluster
from raftlog.protocol import apis
from raftlog.protocol.envelope import decode_response, encode_request
from raftlog.protocol.nodes import ImageRequest
from raftlog.security.certificates import make_client, make_node
from raftlog.security.credentials import Credentials
from tests.cli.command import COMMAND
from tests.patience import WAIT_S
from tests.security.made import Made

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(directory=tmp_path_factory.mktemp("secure"), kafka=True, secure=True) as running:
        with Admin(running.bootstrap, security=running.security) as admin:
            admin.create_topics([NewTopic(name="orders", partitions=2)])
        yield running


def kafka_settings(cluster: LocalCluster, directory: str | None = None) -> dict[str, object]:
    files = Path(directory or cluster.security)
    return {
        "bootstrap_servers": cluster.kafka_bootstrap,
        "security_protocol": "SSL",
        "ssl_cafile": str(files / "ca.pem"),
        "ssl_certfile": str(files / "client.pem"),
        "ssl_keyfile": str(files / "client.key"),
    }


def until(found: Callable[[], object], text: str = "") -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline_s, f"waited in vain: {text}"
        time.sleep(0.05)


def test_what_one_door_takes_the_other_gives(cluster: LocalCluster) -> None:
    values = [b"%d" % number + bytes(number * 37 % 90_000) for number in range(200)]
    with Producer(cluster.bootstrap, security=cluster.security) as producer:
        for future in [producer.send("orders", value) for value in values]:
            future.result(WAIT_S)
    sender = kafka.KafkaProducer(**kafka_settings(cluster))
    for future in [sender.send("orders", value) for value in values]:
        future.get(WAIT_S)
    sender.close()
    reader = kafka.KafkaConsumer(
        "orders",
        group_id="readers",
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000,
        **kafka_settings(cluster),
    )
    found = [next(reader).value for _ in range(2 * len(values))]
    reader.close()
    assert sorted(found) == sorted(values * 2)
    with Consumer(
        "orders",
        bootstrap_servers=cluster.bootstrap,
        group_id="others",
        auto_offset_reset="earliest",
        security=cluster.security,
        consumer_timeout_ms=10_000,
    ) as consumer:
        records = iter(consumer)
        assert sorted(next(records).value for _ in range(2 * len(values))) == sorted(values * 2)


def test_a_command_takes_the_directory_as_an_option(cluster: LocalCluster) -> None:
    options = ["--bootstrap", cluster.bootstrap, "--security", cluster.security]
    done = subprocess.run([*COMMAND, "topic", "list", *options], capture_output=True, text=True, check=True)
    assert "orders" in done.stdout
    done = subprocess.run(
        [*COMMAND, "topic", "list", *options[:2], "--security", "nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr == (
        "raftlog: error: --security nowhere has no ca.pem: `raftlog security --help` says how to make it\n"
    )


def test_a_client_without_security_is_told_nothing(cluster: LocalCluster) -> None:
    with pytest.raises(NoBrokersAvailableError):
        Admin(cluster.bootstrap, security="", bootstrap_timeout_ms=1500)


def test_a_client_of_another_authority_is_refused_and_says_why(cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(NoBrokersAvailableError, match="its certificate is not good: self-signed certificate"):
        Admin(cluster.bootstrap, security=Made(tmp_path).client("local"), bootstrap_timeout_ms=3000)


def test_a_directory_that_cannot_be_used_is_an_error_at_once(cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no ca\.pem"):
        Admin(cluster.bootstrap, security=str(tmp_path))
    with pytest.raises(ConfigError, match=r"has no ca\.pem"):
        Producer(cluster.bootstrap, security=str(tmp_path))


def test_kafkas_clients_without_a_certificate_get_nowhere(cluster: LocalCluster) -> None:
    context = ssl.create_default_context(cafile=f"{cluster.security}/ca.pem")
    endpoint = next(iter(cluster.kafka_endpoints.values()))
    with socket.create_connection(endpoint) as raw:
        tls = context.wrap_socket(raw, server_hostname=endpoint.host)
        tls.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\xff\xff")
        assert tls.recv(100)  # which versions are spoken is told to everybody, and nothing else
        with pytest.raises(OSError, match=r"reset|closed|EOF"):
            tls.sendall(b"\0\0\0\x0e\0\3\0\0\0\0\0\1\xff\xff\0\0\0\0")
            while tls.recv(1000):
                pass
            raise OSError("closed")
    with socket.create_connection(endpoint) as raw:
        raw.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\xff\xff")
        assert raw.recv(100) == b""


def test_handshakes_that_are_never_finished_keep_nobody_out(cluster: LocalCluster) -> None:
    """More than a door keeps: the oldest of them go, and who has said who he is notices nothing."""
    sender = kafka.KafkaProducer(**kafka_settings(cluster))
    sender.send("orders", b"before").get(WAIT_S)
    endpoint = cluster.kafka_endpoints[1]
    opened = []
    for _ in range(STRANGERS_MAX + 100):
        opened.append(socket.create_connection(endpoint))
        opened[-1].sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a handshake
    for number in range(20):
        sender.send("orders", b"%d" % number).get(WAIT_S)
    another = kafka.KafkaProducer(**kafka_settings(cluster))
    another.send("orders", b"after").get(WAIT_S)
    opened[0].settimeout(WAIT_S)
    assert opened[0].recv(1) == b"", "the oldest was to make room"
    for each in opened:
        each.close()
    sender.close()
    another.close()


def test_what_nodes_say_to_each_other_no_client_may_ask(cluster: LocalCluster) -> None:
    link = SecureLink(cluster.endpoints[1], Credentials.read(cluster.security))
    until(lambda: link.watch() or link.connected)
    link.send([encode_request(apis.IMAGE, 1, ImageRequest(cluster_id="", image_offset=-1))])
    frames: list[list[bytes]] = []
    until(lambda: link.watch() or frames.extend(filter(None, [link.receive()])) or frames)
    _, _, answer = decode_response(frames[0][0])
    assert answer.error_text == "Image is asked by nodes of this cluster only, not by User:local"
    link.close()


def test_new_certificates_are_taken_while_records_flow(cluster: LocalCluster) -> None:
    """No request fails, and what is connected afterwards has met the new ones."""
    authority = cluster.directory / "security" / "ca"

    def serial() -> str:
        context = ssl.create_default_context(cafile=f"{cluster.security}/ca.pem")
        context.load_cert_chain(f"{cluster.security}/client.pem", f"{cluster.security}/client.key")
        with (
            socket.create_connection(cluster.kafka_endpoints[2]) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
        ):
            shown = tls.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])

    before = serial()
    with Producer(cluster.bootstrap, security=cluster.security, retries=0) as producer:
        futures = [producer.send("orders", b"before")]
        for node_id in cluster.endpoints:
            make_node(str(authority), node_id, [], cluster.node_security(node_id))
        make_client(str(authority), "local", cluster.security)
        deadline_s = time.monotonic() + WAIT_S
        while serial() == before:
            futures.append(producer.send("orders", b"meanwhile"))
            assert time.monotonic() < deadline_s, "the new certificate is not used"
        futures.append(producer.send("orders", b"after"))
        for future in futures:
            future.result(WAIT_S)
    with Admin(cluster.bootstrap, security=cluster.security) as admin:
        assert admin.list_topics()


def test_a_leader_that_is_killed_is_followed_by_another(cluster: LocalCluster) -> None:
    with Producer(cluster.bootstrap, security=cluster.security) as producer:
        producer.send("orders", b"before").result(WAIT_S)
        cluster.kill(1)
        for number in range(50):
            producer.send("orders", b"%d" % number).result(WAIT_S)
    cluster.start(1)


def test_a_node_of_another_authority_stays_outside(cluster: LocalCluster, tmp_path: Path) -> None:
    """It reaches the addresses and nothing else; those inside say who it was."""
    foreign = Made(tmp_path, "local").node(4)
    credentials = Credentials.of_node(foreign, 4)
    link = SecureLink(cluster.endpoints[2], credentials, node_id=2)
    until(lambda: link.watch() or link.why)
    assert "its certificate is not good" in link.why
    assert not link.connected
    link.close()
    until(lambda: "ended" in cluster.log_text(2) and "TLS" in cluster.log_text(2), cluster.log_text(2))


def test_a_key_that_others_can_read_is_a_weak_spot_and_no_problem(cluster: LocalCluster) -> None:
    options = ["--bootstrap", cluster.bootstrap, "--security", cluster.security, "--json"]
    key = Path(cluster.node_security(2)) / "node.key"

    def spots(*command: str) -> list[object]:
        # Not judged by its exit code: a replica may still be catching up after the test before.
        done = subprocess.run([*COMMAND, *command, *options], capture_output=True, text=True, check=False)
        return list(json.loads(done.stdout)["weak_spots"])

    def healthy() -> bool:
        return subprocess.run([*COMMAND, "doctor", *options], capture_output=True, check=False).returncode == 0

    key.chmod(0o644)
    until(lambda: spots("cluster", "status") == ["node 2: other users of its machine can read its key"])
    until(healthy)
    (found,) = spots("doctor")
    assert isinstance(found, dict)
    assert (found["place"], found["advice"][:9]) == ("node 2", "chmod 600")
    key.chmod(0o600)
    until(lambda: not spots("doctor"))


def test_a_certificate_that_ends_soon_is_a_problem(cluster: LocalCluster) -> None:
    authority = str(cluster.directory / "security" / "ca")
    make_node(authority, 3, [], cluster.node_security(3), days=5)
    options = ["--bootstrap", cluster.bootstrap, "--security", cluster.security, "--json"]

    def problems() -> list[str]:
        done = subprocess.run([*COMMAND, "cluster", "status", *options], capture_output=True, text=True, check=True)
        return list(json.loads(done.stdout)["problems"])

    until(lambda: any(text.startswith("node 3: its certificate ends on ") for text in problems()), str(problems()))
    done = subprocess.run([*COMMAND, "doctor", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (found,) = json.loads(done.stdout)["problems"]
    assert found["advice"].startswith("`raftlog security node --ca CA --id 3 --out DIR` renews it")
    assert "ends in 4 days" in cluster.log_text(3)
    make_node(authority, 3, [], cluster.node_security(3))
    until(lambda: not problems())
