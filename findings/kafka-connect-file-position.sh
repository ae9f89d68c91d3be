#!/bin/sh
# Software: Kafka Connect 4.3.1 (connect-runtime, connect-file), Apache Kafka 4.4.0
# Behaviour: the file source counts letters and goes on at that many bytes. After a restart a file with letters of more than
#     one byte in UTF-8 is read from too far in front: what lies between is written to the topic a second time, and begins in
#     the middle of a line, or of a letter.
# Why it matters: the configuration is right, no line of the log speaks of it, and files in English show nothing. It is the
#     connector with which people try a cluster and its restarts: the doubled records look like the cluster's.
# Seen:
#     größer 1 / größer 2 / größer 3 / �er 3 / größer 4
set -eu
work=$(mktemp -d)
. "$(dirname "$0")/kafka-broker"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1
mkdir "$work/connect"
cat >"$work/connect/pom.xml" <<'EOP'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>findings</groupId><artifactId>connect</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId><version>4.3.1</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>connect-file</artifactId><version>4.3.1</version></dependency>
  </dependencies>
</project>
EOP
mvn -q -B -f "$work/connect/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/connect/jars" \
    >"$work/mvn.log" 2>&1 || { cat "$work/mvn.log"; exit 1; }

cat >"$work/worker.properties" <<EOP
bootstrap.servers=$bootstrap
listeners=http://127.0.0.1:0
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename=$work/offsets
plugin.discovery=service_load
EOP
cat >"$work/source.properties" <<EOP
name=source
connector.class=org.apache.kafka.connect.file.FileStreamSourceConnector
file=$work/lines
topic=lines
EOP

"$work/venv/bin/python" - "$work" "$bootstrap" <<'EOF'
import subprocess
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

work, bootstrap = sys.argv[1:]


def values(last):
    """What is in the topic, up to a record with this value."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition("lines", 0, OFFSET_BEGINNING)])
    found = []
    end_s = time.monotonic() + 60
    while found[-1:] != [last]:
        if time.monotonic() > end_s:
            sys.exit(f"after 60 s: {found}")
        message = consumer.poll(0.5)
        if message is not None and not message.error():
            found.append(message.value().decode())
    consumer.close()
    return found


def source(lines, last):
    with open(f"{work}/lines", "a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    command = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{work}/connect/jars/*"]
    command += ["org.apache.kafka.connect.cli.ConnectStandalone", f"{work}/worker.properties", f"{work}/source.properties"]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return values(last)
    finally:
        worker.terminate()  # it notes its position
        worker.wait(60)


source(["größer 1", "größer 2", "größer 3"], "größer 3")
found = source(["größer 4"], "größer 4")
print(" / ".join(found))
sys.exit(found != ["größer 1", "größer 2", "größer 3", "\ufffder 3", "größer 4"])
