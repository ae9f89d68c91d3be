"""kcat, called for each operation, behind the same JSON requests as the clients."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from serving import WAIT_S, Lacking, librdkafka, record, serve, unpacked

# Lengths before contents, so that any byte may be in them. Headers have none.
_FORMAT = "%p %o %T %K %S\\n%k%s%h\\n\x01\\n"
_AFTER_KEY = b"~"
_FIELDS = re.compile(rb"(\d+) (\d+) (-?\d+) (-?\d+) (-?\d+)\n")


class Kcat:
    def hello(self, bootstrap: str, security: dict[str, str] | None = None) -> dict[str, Any]:
        settings = librdkafka(bootstrap, security)
        self._command = ["kcat", *(part for item in settings.items() for part in ("-X", "=".join(item)))]
        said = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
        version = re.search(r"Version (\S+) .*(librdkafka \S+)", said)
        assert version
        return {
            "client": f"kcat {version[1]}, {version[2]}",
            "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
            "assignors": ["eager", "cooperative", "static"],
            "record_lacks": ["timestamps", "binary"],
            "reading_lacks": ["headers-as-text"],
        }

    def metadata(self, topic: str) -> dict[str, Any]:
        told = json.loads(self._run(["-L", "-J", "-t", topic]))
        return {
            "brokers": {str(each["id"]): each["name"] for each in told["brokers"]},
            "partitions": {
                str(each["partition"]): {"leader": each["leader"], "replicas": [r["id"] for r in each["replicas"]]}
                for each in told["topics"][0]["partitions"]
            },
        }

    def describe_topic(self, topic: str) -> dict[str, Any]:
        return self.metadata(topic)

    def list_topics(self) -> dict[str, Any]:
        return {"topics": [each["topic"] for each in json.loads(self._run(["-L", "-J"]))["topics"]]}

    def produce(
        self,
        topic: str,
        records: list[dict[str, Any]],
        codec: str | None = None,
        acks: str | None = None,
        idempotent: bool | None = None,
    ) -> dict[str, Any]:
        """One call a record: headers are those of all records of a call."""
        settings = []
        settings += [] if codec is None else ["-z", codec]
        settings += [] if acks is None else ["-X", f"acks={acks}"]
        settings += [] if idempotent is None else ["-X", f"enable.idempotence={str(idempotent).lower()}"]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "value")
            for each in records:
                value, key = unpacked(each["value"]), unpacked(each["key"])
                call = ["-P", "-t", topic, "-p", str(each["partition"]), *settings]
                for name, content in each["headers"]:
                    data = unpacked(content)
                    call += ["-H", name if data is None else f"{name}={data.decode()}"]
                if value:
                    path.write_bytes(value)
                    self._run([*call, *([] if key is None else ["-k", key.decode()]), str(path)])
                else:  # a file without a byte would be no message
                    line = (key or b"") + _AFTER_KEY + b"\n"
                    self._run([*call, "-K", _AFTER_KEY.decode(), *(["-Z"] if value is None else [])], given=line)
        return {"offsets": None}

    def consume(self, topic: str, partitions: list[int], start: dict[str, int], count: int) -> dict[str, Any]:
        begin = f"s@{start['time']}" if "time" in start else str(start["offset"])
        found = []
        for partition in partitions:
            told = self._run(
                ["-C", "-t", topic, "-p", str(partition), "-o", begin, "-e", "-u", "-f", _FORMAT], text=False
            )
            found += _records(told)
        return {"records": found}

    # --- groups --------------------------------------------------------------------------------
    def join(self, topic: str, group: str, assignor: str = "eager", instance: str | None = None) -> None:
        settings = [f"partition.assignment.strategy={'range' if assignor == 'eager' else 'cooperative-sticky'}"]
        settings += ["session.timeout.ms=10000", "heartbeat.interval.ms=500", "auto.offset.reset=earliest"]
        settings += [f"group.instance.id={instance}"] if instance else []
        options = [option for setting in settings for option in ("-X", setting)]
        self._assigned: set[int] = set()
        self._revoked: list[int] = []
        self._output = b""
        self._member = subprocess.Popen(
            [*self._command, "-G", group, *options, "-u", "-f", _FORMAT, topic],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._follow_output, self._follow_said)
        ]
        for thread in self._threads:
            thread.start()

    def state(self) -> dict[str, Any]:
        return {"assigned": sorted(self._assigned), "revoked": list(self._revoked), "records": _records(self._output)}

    def commit(self) -> None:
        raise Lacking("it commits by itself, when it ends and every 5 s")

    def leave(self) -> None:
        self._member.terminate()
        self._member.wait(WAIT_S)
        for thread in self._threads:
            thread.join(WAIT_S)

    def _follow_output(self) -> None:
        assert self._member.stdout
        while part := self._member.stdout.read1():  # type: ignore[attr-defined]
            self._output += part

    def _follow_said(self) -> None:
        assert self._member.stderr
        for line in self._member.stderr:
            said = line.decode(errors="replace")
            if " rebalanced" in said:
                partitions = [int(number) for number in re.findall(r"\[(\d+)\]", said)]
                if "revoke" in said:
                    self._assigned -= set(partitions)
                    self._revoked += partitions
                else:
                    self._assigned |= set(partitions)

    # --- offsets -------------------------------------------------------------------------------
    def list_offsets(self, topic: str, partitions: list[int], at: str | int) -> dict[str, Any]:
        if at == "max":
            raise Lacking("it does not ask for the newest timestamp")
        asked = {"earliest": -2, "latest": -1}.get(str(at), at)
        queries = [option for partition in partitions for option in ("-t", f"{topic}:{partition}:{asked}")]
        told = self._run(["-Q", *queries])
        found = re.findall(r"\[(\d+)\] offset (-?\d+)", told)
        return {"offsets": {partition: int(offset) for partition, offset in found}}

    def _run(self, arguments: list[str], *, text: bool = True, given: bytes = b"") -> Any:
        command = [*self._command, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, timeout=WAIT_S, check=False)
        if done.returncode or b"%3|" in done.stderr or b"ERROR" in done.stderr:
            raise RuntimeError(done.stderr.decode(errors="replace").strip()[-500:])
        return done.stdout.decode() if text else done.stdout


def _records(data: bytes) -> list[dict[str, Any]]:
    """Those that are whole: the last may still be coming."""
    found = []
    at = 0
    while (head := _FIELDS.match(data, at)) is not None:
        partition, offset, timestamp, key_bytes, value_bytes = map(int, head.groups())
        at = head.end()
        key = data[at : at + key_bytes] if key_bytes >= 0 else None
        at += max(key_bytes, 0)
        value = data[at : at + value_bytes] if value_bytes >= 0 else None
        at += max(value_bytes, 0)
        end = data.find(b"\n\x01\n", at)
        if end < 0:
            break
        headers = [("", data[at:end])] if end > at else []
        at = end + 3
        found.append(record(partition, offset, key, value, headers, timestamp))
    return found


if __name__ == "__main__":
    serve(Kcat())
