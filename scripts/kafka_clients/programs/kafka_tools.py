"""Apache Kafka's own shell tools, called for each operation, behind the same JSON requests as the clients.

kafka_tools.py FOLDER_OF_JARS
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving import Lacking, record, serve, unpacked

_TOOLS = "org.apache.kafka.tools"
_CALL_S = 60.0  # a virtual machine for each call, on a busy machine
# What no sample contains. The console producer takes the separator of headers for a regular expression.
_FIELD, _END, _NULL, _HEADER = "~field~", "~end~", "~null~", "~header~"


class KafkaTools:
    def __init__(self, jars: str) -> None:
        self._jars = Path(jars)

    def hello(self, bootstrap: str) -> dict[str, Any]:
        self._bootstrap = bootstrap
        (tools,) = self._jars.glob("kafka-tools-[0-9]*.jar")
        return {
            "client": f"Kafka's shell tools {tools.stem.rpartition('-')[2]}",
            "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
            "assignors": [],
            "record_lacks": ["timestamps", "binary", "partitions"],
        }

    # --- records -------------------------------------------------------------------------------
    def produce(
        self,
        topic: str,
        records: list[dict[str, Any]],
        codec: str | None = None,
        acks: str | None = None,
        idempotent: bool | None = None,
    ) -> dict[str, Any]:
        settings = [] if codec is None else ["--compression-codec", codec]
        settings += [] if acks is None else ["--command-property", f"acks={acks}"]
        settings += (
            [] if idempotent is None else ["--command-property", f"enable.idempotence={str(idempotent).lower()}"]
        )
        reading = {
            "parse.key": "true",
            "parse.headers": "true",
            "key.separator": _FIELD,
            "headers.delimiter": _FIELD,
            "headers.separator": _HEADER,
            "null.marker": _NULL,
        }
        for name, value in reading.items():
            settings += ["--reader-property", f"{name}={value}"]
        lines = b"".join(_line(each) for each in records)
        said = self._run(f"{_TOOLS}.ConsoleProducer", "--topic", topic, *settings, given=lines)
        if b"rror" in said:
            raise RuntimeError(said.decode(errors="replace")[-500:])
        return {"offsets": None}

    def consume(self, topic: str, partitions: list[int], start: dict[str, int], count: int) -> dict[str, Any]:
        offsets = dict.fromkeys(map(str, partitions), start.get("offset", 0))
        if "time" in start:
            offsets = self.list_offsets(topic, partitions, start["time"])["offsets"]
        found = []
        for partition in partitions:
            place = ["--partition", str(partition), "--offset", str(offsets[str(partition)])]
            found += self._consume(topic, count // len(partitions), *place)
        return {"records": found}

    def console_group(self, topic: str, group: str, count: int) -> dict[str, Any]:
        read = self._consume(topic, count, "--group", group, "--from-beginning")
        return {"records": read}

    def _consume(self, topic: str, count: int, *where: str) -> list[dict[str, Any]]:
        writing = {
            **dict.fromkeys(
                (f"print.{name}" for name in ("timestamp", "partition", "offset", "headers", "key")), "true"
            ),
            "key.separator": _FIELD,
            "line.separator": _END,
            "headers.separator": _HEADER,
            "null.literal": _NULL,
        }
        settings = [option for name, value in writing.items() for option in ("--formatter-property", f"{name}={value}")]
        said = self._run(
            f"{_TOOLS}.consumer.ConsoleConsumer",
            *("--topic", topic, *where, "--max-messages", str(count), "--timeout-ms", "15000", *settings),
        )
        return [_record(part) for part in said.split(_END.encode())[:-1]]

    def producer_performance(self, topic: str, total: int) -> dict[str, Any]:
        said = self._run(
            f"{_TOOLS}.ProducerPerformance",
            *("--topic", topic, "--num-records", str(total), "--record-size", "200", "--throughput", "-1"),
        )
        return {"records": int(re.findall(rb"(\d+) records sent", said)[-1])}

    def consumer_performance(self, topic: str, total: int, group: str) -> dict[str, Any]:
        said = self._run(
            f"{_TOOLS}.ConsumerPerformance",
            *("--topic", topic, "--num-records", str(total), "--group", group, "--timeout", "20000"),
        ).decode()
        names, values = [line.split(", ") for line in said.splitlines() if line.count(", ") >= 5][-2:]
        found = dict(zip((name.strip() for name in names), values, strict=True))
        return {"records": int(next(value for name, value in found.items() if name.startswith("data.consumed.in.n")))}

    def dump_log(self, topic: str, directories: list[str]) -> dict[str, Any]:
        counts = []
        for directory in directories:
            segments = sorted(Path(directory).rglob(f"{topic}-*/**/*.log"))
            if segments:
                said = self._run(
                    f"{_TOOLS}.DumpLogSegments",
                    *("--print-data-log", "--files", ",".join(map(str, segments))),
                    bootstrap=False,
                )
                if b"isvalid: false" in said:
                    raise RuntimeError("a batch is not valid: " + said.decode(errors="replace")[-400:])
                counts.append(len(re.findall(rb"^\| offset: ", said, re.MULTILINE)))
        if not counts or len(set(counts)) > 1:
            raise RuntimeError(f"records in the replicas' segments: {counts}")
        return {"records": counts[0]}

    # --- administration ------------------------------------------------------------------------
    def metadata(self, topic: str) -> dict[str, Any]:
        return {"brokers": self.describe_cluster()["brokers"], "partitions": self.describe_topic(topic)["partitions"]}

    def create_topic(
        self, topic: str, total: int, replicas: int, configs: dict[str, str] | None = None, validate: bool = False
    ) -> None:
        if validate:
            raise Lacking("kafka-topics has no dry run")
        settings = [option for pair in (configs or {}).items() for option in ("--config", "=".join(pair))]
        size = ["--partitions", str(total), "--replication-factor", str(replicas)]
        self._topics("--create", "--topic", topic, *size, *settings)

    def list_topics(self) -> dict[str, Any]:
        return {"topics": self._topics("--list").split()}

    def describe_topic(self, topic: str) -> dict[str, Any]:
        said = self._topics("--describe", "--topic", topic)
        found = re.findall(r"Partition: (\d+)\s+Leader: (\d+)\s+Replicas: ([\d,]+)", said)
        return {
            "partitions": {
                partition: {"leader": int(leader), "replicas": [int(each) for each in replicas.split(",")]}
                for partition, leader, replicas in found
            }
        }

    def create_partitions(self, topic: str, total: int) -> None:
        self._topics("--alter", "--topic", topic, "--partitions", str(total))

    def delete_topic(self, topic: str) -> None:
        self._topics("--delete", "--topic", topic)

    def describe_configs(self, topic: str) -> dict[str, Any]:
        said = self._configs(topic, "--describe", "--all")
        return {"configs": dict(re.findall(r"^\s+([\w.]+)=(.*?) sensitive=", said, re.MULTILINE))}

    def alter_configs(self, topic: str, configs: dict[str, str]) -> None:
        self._configs(topic, "--alter", "--add-config", ",".join("=".join(pair) for pair in configs.items()))

    def delete_records(self, topic: str, before: dict[str, int]) -> dict[str, Any]:
        wanted = [{"topic": topic, "partition": int(p), "offset": offset} for p, offset in before.items()]
        with _file({"partitions": wanted, "version": 1}) as name:
            said = self._run(f"{_TOOLS}.DeleteRecordsCommand", "--offset-json-file", name).decode()
        return {"low": {p: int(low) for p, low in re.findall(r"-(\d+)\s+low_watermark: (\d+)", said)}}

    def list_offsets(self, topic: str, partitions: list[int], at: str | int) -> dict[str, Any]:
        asked = {"earliest": "-2", "latest": "-1", "max": "-3"}.get(str(at), str(at))
        said = self._run(f"{_TOOLS}.GetOffsetShell", "--topic", topic, "--time", asked).decode()
        return {
            "offsets": {p: int(offset) for p, offset in re.findall(rf"^{re.escape(topic)}:(\d+):(\d+)", said, re.M)}
        }

    def list_groups(self) -> dict[str, Any]:
        return {"groups": self._groups("--list").split()}

    def describe_group(self, group: str) -> dict[str, Any]:
        state = self._groups("--describe", "--group", group, "--state").split("\n")
        (row,) = [line.split() for line in state if line.startswith(group)]
        name = next(word for word in row if word in ("Stable", "Empty", "Dead", "PreparingRebalance"))
        rows = [line.split() for line in self._groups("--describe", "--group", group).splitlines()]
        shares: dict[str, list[int]] = {}
        for each in rows:
            if each[:1] == [group] and each[-1] != "-":
                shares.setdefault(each[-3], []).append(int(each[2]))
        return {"state": name, "members": [{"partitions": share} for share in shares.values()]}

    def group_offsets(self, group: str, topic: str) -> dict[str, Any]:
        rows = [line.split() for line in self._groups("--describe", "--group", group, "--offsets").splitlines()]
        return {"offsets": {each[2]: int(each[3]) for each in rows if each[:2] == [group, topic]}}

    def alter_group_offsets(self, group: str, topic: str, offsets: dict[str, int]) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            file.writelines(f"{topic},{partition},{offset}\n" for partition, offset in offsets.items())
            file.flush()
            self._groups("--reset-offsets", "--group", group, "--from-file", file.name, "--execute")

    def delete_group_offsets(self, group: str, topic: str, partitions: list[int]) -> None:
        places = f"{topic}:{','.join(map(str, partitions))}"
        self._groups("--delete-offsets", "--group", group, "--topic", places)

    def delete_group(self, group: str) -> None:
        said = self._groups("--delete", "--group", group)
        if "successful" not in said:
            raise RuntimeError(said)

    def describe_cluster(self) -> dict[str, Any]:
        said = self._run(f"{_TOOLS}.BrokerApiVersionsCommand").decode()
        return {"brokers": {broker: address for address, broker in re.findall(r"^(\S+) \(id: (\d+) ", said, re.M)}}

    def describe_log_dirs(self, topic: str) -> dict[str, Any]:
        said = self._run(f"{_TOOLS}.LogDirsCommand", "--describe", "--topic-list", topic).decode()
        told = next(json.loads(line) for line in said.splitlines() if line.startswith("{"))
        return {
            "bytes": {
                each["partition"].rpartition("-")[2]: each["size"]
                for broker in told["brokers"]
                for folder in broker["logDirs"]
                for each in folder["partitions"]
            }
        }

    def describe_producers(self, topic: str, partition: int) -> dict[str, Any]:
        said = self._run(
            f"{_TOOLS}.TransactionsCommand", "describe-producers", "--topic", topic, "--partition", str(partition)
        ).decode()
        return {"producers": [int(line.split()[0]) for line in said.splitlines() if line[:1].isdigit()]}

    def elect_leaders(self, topic: str, partition: int) -> None:
        kind = ["--election-type", "preferred", "--topic", topic, "--partition", str(partition)]
        said = self._run(f"{_TOOLS}.LeaderElectionCommand", *kind).decode()
        if "uccessfully" not in said and "Valid replica already elected" not in said:
            raise RuntimeError(said)

    def propose_moves(self, topic: str, brokers: list[int]) -> dict[str, Any]:
        with _file({"topics": [{"topic": topic}], "version": 1}) as name:
            asked = ["--topics-to-move-json-file", name, "--broker-list", ",".join(map(str, brokers)), "--generate"]
            said = self._run(f"{_TOOLS}.reassign.ReassignPartitionsCommand", *asked).decode()
        proposed = json.loads(said.partition("Proposed partition reassignment configuration")[2])
        return {"replicas": {str(each["partition"]): each["replicas"] for each in proposed["partitions"]}}

    def begin_moves(self, topic: str, replicas: dict[str, list[int]]) -> None:
        said = self._reassign(topic, replicas, "--execute")
        if "Successfully started" not in said:
            raise RuntimeError(said)

    def verify_moves(self, topic: str, replicas: dict[str, list[int]]) -> dict[str, Any]:
        said = self._reassign(topic, replicas, "--verify")
        return {"done": said.count("is completed") == len(replicas), "said": said}

    def cancel_moves(self, topic: str, replicas: dict[str, list[int]]) -> dict[str, Any]:
        return {"said": self._reassign(topic, replicas, "--cancel")}

    def _reassign(self, topic: str, replicas: dict[str, list[int]], what: str) -> str:
        wanted = [{"topic": topic, "partition": int(p), "replicas": nodes} for p, nodes in replicas.items()]
        with _file({"version": 1, "partitions": wanted}) as name:
            tool = f"{_TOOLS}.reassign.ReassignPartitionsCommand"
            return self._run(tool, "--reassignment-json-file", name, what).decode()

    # --- calls ---------------------------------------------------------------------------------
    def _topics(self, *arguments: str) -> str:
        return self._run(f"{_TOOLS}.TopicCommand", *arguments).decode()

    def _configs(self, topic: str, *arguments: str) -> str:
        where = ["--entity-type", "topics", "--entity-name", topic]
        return self._run(f"{_TOOLS}.ConfigCommand", *where, *arguments).decode()

    def _groups(self, *arguments: str) -> str:
        said = self._run(f"{_TOOLS}.consumer.group.ConsumerGroupCommand", *arguments).decode()
        if "Error:" in said:
            raise RuntimeError(said)
        return said

    def _run(self, tool: str, *arguments: str, given: bytes = b"", bootstrap: bool = True) -> bytes:
        """What it printed. The JVM's heap is small, since several run at a time."""
        command = ["java", "-Xmx192m", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*", tool]
        command += ["--bootstrap-server", self._bootstrap] if bootstrap else []
        done = subprocess.run([*command, *arguments], input=given, capture_output=True, timeout=_CALL_S, check=False)
        if done.returncode:
            said = (done.stdout[-400:] + done.stderr[-600:]).decode(errors="replace")
            raise RuntimeError(f"{tool.rpartition('.')[2]}: {said}")
        return done.stdout


@contextlib.contextmanager
def _file(content: Any) -> Iterator[str]:
    """Its name."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(content, file)
        file.flush()
        yield file.name


def _text(data: bytes | None) -> bytes:
    return _NULL.encode() if data is None else data


def _line(each: dict[str, Any]) -> bytes:
    headers = [name.encode() + b":" + _text(unpacked(content)) for name, content in each["headers"]]
    fields = [
        _HEADER.encode().join(headers) or _text(None),
        _text(unpacked(each["key"])),
        _text(unpacked(each["value"])),
    ]
    return _FIELD.encode().join(fields) + b"\n"


def _record(part: bytes) -> dict[str, Any]:
    """As the console consumer prints one: CreateTime:1, Partition:0, Offset:2, headers, key and value."""
    time, partition, offset, said, key, value = part.split(_FIELD.encode(), 5)
    headers: list[tuple[str, bytes | None]] = []
    for pair in said.split(_HEADER.encode()) if said != b"NO_HEADERS" else []:
        name, _, content = pair.partition(b":")
        headers.append((name.decode(), _none(content)))
    numbers = [int(field.rpartition(b":")[2]) for field in (partition, offset, time)]
    return record(numbers[0], numbers[1], _none(key), _none(value), headers, numbers[2])


def _none(data: bytes) -> bytes | None:
    return None if data == _NULL.encode() else data


if __name__ == "__main__":
    serve(KafkaTools(sys.argv[1]))
