"""Records on a node's disk that no consumer can read: what was before them is shown, then where to go on."""

from __future__ import annotations

from raftlog import Admin, NewTopic, Producer, TopicPartition
from raftlog.record.batch import HEADER_BYTES, check_batch, encode
from tests.cli.command import run
from tests.conftest import ClusterFactory
from tests.fuzz.garbage import with_true_crc
from tests.node import asking
from tests.node.on_disk import log_on_disk
from tests.patience import WAIT_S

PLACE = TopicPartition("t", 0)


def test_consume_names_them_and_goes_on_behind_them(fresh_cluster: ClusterFactory) -> None:
    cluster = fresh_cluster(nodes=1)
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
        admin.create_topics([NewTopic(name=PLACE.topic, partitions=1)])
        producer.send(PLACE.topic, b"before").result(WAIT_S)
    (status,) = asking.statuses(cluster.endpoints[1], PLACE.topic)
    cluster.stop(1)
    whole = encode([(1, None, bytes(100)), (2, None, bytes(100))])
    garbage = with_true_crc(whole[:HEADER_BYTES] + b"\xff" * (len(whole) - HEADER_BYTES))
    with log_on_disk(cluster, 1, PLACE, status.topic_id) as log:  # as a worker before these were refused wrote it
        log.append_as_leader([garbage], [check_batch(garbage)], log.last_term)
        log.persist()
        log.state.note_commit(log.last_index)
    cluster.start(1)
    with Producer(cluster.bootstrap) as producer:
        producer.send(PLACE.topic, b"behind").result(WAIT_S)
    for how in (["--from", "beginning"], ["--from", "beginning", "--group", "g"]):
        done = run(cluster, "consume", PLACE.topic, *how, "--exit-at-end", code=1)
        assert done.stdout == b"before\n"
        assert done.stderr.count(b"\n") == 1
        assert b"offsets 1 to 2 cannot be read" in done.stderr
        assert b"t-0; to go on behind them, seek to 3" in done.stderr
        assert b"--from" in done.stderr and b"group reset-offsets" in done.stderr
    done = run(cluster, "consume", PLACE.topic, "--partition", "0", "--from", "3", "--exit-at-end")
    assert done.stdout == b"behind\n"
    # The group has committed what was shown, and is moved behind the rest.
    moved = ["--topic", PLACE.topic, "--to-offset", "3"]
    run(cluster, "group", "reset-offsets", "g", *moved, "--execute")
    assert run(cluster, "consume", PLACE.topic, "--group", "g", "--exit-at-end").stdout == b"behind\n"
