"""The arithmetic of the comparison: medians, ranges, ratios, and bytes on the wire."""

from __future__ import annotations

import msgspec

from comparison.counters import Wire, wire_between, wire_sockets
from comparison.summary import markdown, summarise
from comparison.workloads import ALONE, BATCHES, BEHIND, CONNECTS, IDLE_CONNECTIONS, READ_SMALL, Row, Workload


def _row(system: str, rate: float, workload: Workload = BATCHES, **fields: object) -> Row:
    return Row(
        system=system,
        variant="plain",
        workload=workload.key,
        replicas=3,
        fsync=system == "raftlog",
        record_size=workload.record_size,
        in_flight=workload.in_flight,
        batch_records=workload.batch_records,
        records_per_s=rate,
        **fields,  # type: ignore[arg-type]
    )


def test_a_line_is_the_median_of_its_rounds_with_the_slowest_and_the_fastest() -> None:
    rows = [_row("nats", 300, client_cpu=0.3), _row("nats", 100, client_cpu=0.5), _row("nats", 120, client_cpu=0.1)]
    (line,) = summarise(rows)
    assert (line.row.records_per_s, line.low, line.high, line.rounds) == (120, 100, 300, 3)
    assert line.row.client_cpu == 0.3


def test_raftlog_is_set_against_the_best_other_system() -> None:
    rows = [_row("raftlog", 900), _row("nats", 300), _row("valkey", 600), _row("kafka", 5000, error="broke")]
    assert {line.row.system: line.against_best for line in summarise(rows)} == {
        "raftlog": 1.5,
        "nats": None,
        "valkey": None,
        "kafka": None,
    }


def test_one_record_at_a_time_is_set_against_the_shortest_median_latency() -> None:
    rows = [_row("raftlog", 400, ALONE, p50_ms=2.0), _row("nats", 900, ALONE, p50_ms=1.0)]
    assert summarise(rows)[0].against_best == 0.5


def test_what_is_under_tls_is_set_against_its_like_and_against_the_same_without_it() -> None:
    def named(row: Row, variant: str) -> Row:
        return msgspec.structs.replace(row, variant=variant)

    rows = [
        named(_row("raftlog", 1000), "always"),
        named(_row("raftlog", 800), "always, TLS"),
        named(_row("raftlog", 500), "Kafka's door, TLS"),
        named(_row("kafka", 400), "acks=all"),
        named(_row("kafka", 200), "acks=all, TLS"),
    ]
    found = [(line.against_best, line.against_plain) for line in summarise(rows)]
    assert found == [(2.5, None), (4.0, 0.8), (2.5, None), (None, None), (None, 0.5)]
    assert "0.80" in markdown(summarise(rows))


def test_connections_are_compared_by_what_a_core_of_the_servers_makes() -> None:
    rows = [
        _row("raftlog", 0, CONNECTS, connects_per_s=100.0, connects_per_core=900.0),
        _row("kafka", 0, CONNECTS, connects_per_s=300.0, connects_per_core=300.0),
    ]
    assert [line.against_best for line in summarise(rows)] == [3.0, None]


def test_rounds_without_figures_count_for_nothing_and_are_said() -> None:
    rows = [_row("nats", 0, error="it hung"), _row("nats", 70), _row("valkey", 0, error="no port")]
    lines = summarise(rows)
    assert [(line.row.records_per_s, line.rounds, line.failed) for line in lines] == [(70, 1, 1), (0, 0, 1)]
    text = markdown(lines)
    assert "valkey, plain: no figures in 1 of 1 rounds. no port" in text
    assert "nats, plain: no figures in 1 of 2 rounds. it hung" in text
    assert text.count("| nats, plain") == 1 and "| valkey" not in text


def test_tables_come_in_the_order_of_the_workloads_and_leave_empty_columns_out() -> None:
    rows = [_row("nats", 1_234_567, READ_SMALL), _row("nats", 45_678, client_wire_bytes=231.4, all_wire_bytes=800.0)]
    producing, _, consuming = markdown(summarise(rows)).partition("### Consuming")
    assert "45,700 (45,700 to 45,700)" in producing and "| 231" in producing and "in flight" in producing
    assert "1,230,000" in consuming and "wire" not in consuming and "in flight" not in consuming


def test_idle_clients_have_columns_of_their_own_and_no_rate() -> None:
    rows = [_row("kafka", 0, IDLE_CONNECTIONS, bytes_each=12_345.6, idle_percent=1.0, held_percent=1.5)]
    rows.append(_row("kafka", 900, BEHIND, cost_percent=8.25, read_per_s=70_000))
    behind, _, idle = markdown(summarise(rows)).partition("### 2,000 idle")
    assert "12,346" in idle and "| 1.00" in idle and "| 1.50" in idle
    assert "records" not in idle and "MB/s" not in idle and "in flight" not in idle
    assert "| 8.2" in behind and "70,000" in behind and "in flight" in behind


def test_wire_bytes_count_each_connection_once_each_way() -> None:
    def end(local: int, remote: int, pid: int, sent: int, received: int) -> str:
        return (
            f'ESTAB 0 0 127.0.0.1:{local} 127.0.0.1:{remote} users:(("x",pid={pid},fd=7)) cubic rto:201 '
            f"bytes_sent:{sent} bytes_acked:{sent} bytes_received:{received} segs_out:5"
        )

    client, leader, follower, stranger = 10, 11, 12, 99
    owners = [leader, follower, client]
    before = wire_sockets(end(40000, 7071, client, 300, 20) + "\n" + end(7071, 39000, leader, 9, 9), owners)
    listed = "\n".join(
        [
            end(40000, 7071, client, 1000, 50),
            end(7071, 40000, leader, 50, 1000),
            end(40001, 7072, leader, 900, 40),
            end(7072, 40001, follower, 40, 900),
            end(40002, 80, stranger, 5_000_000, 5_000_000),
            'LISTEN 0 100 127.0.0.1:7071 0.0.0.0:* users:(("x",pid=11,fd=3)) cubic',
        ]
    )
    after = wire_sockets(listed, owners)
    assert len(after) == 5
    assert wire_between({}, after, client) == Wire(client=1050, all=1990)
    assert wire_between(before, after, client) == Wire(client=1050 - 320, all=1990 - 300)
