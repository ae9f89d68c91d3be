#!/bin/sh
# Software: KafkaJS 2.2.4 with Apache Kafka 4.4.0
# Behaviour: when a broker takes some partitions of a produce request and refuses others with an error that passes, KafkaJS
#     sends all of them again: what was taken is written twice or more, send() succeeds, and nothing is logged above debug.
#     A topic that was just created is enough, since its partitions are ready one after the other.
# Why it matters: no connection breaks and no answer is lost, which is where one expects doubles of a producer that is not
#     idempotent (KafkaJS's default).
# Seen (the second number differs from run to run):
#     200 messages sent in one call, 593 in the topic
set -eu
work=$(mktemp -d)
. "$(dirname "$0")/kafka-broker"

cat >"$work/main.js" <<'EOF'
const { Kafka, logLevel } = require('kafkajs')

const PARTITIONS = 200

async function main() {
  const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.NOTHING })
  const admin = kafka.admin()
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await Promise.all([admin.connect(), producer.connect()])
  let doubled = false
  for (let round = 0; round < 5 && !doubled; round++) {
    const topic = `orders-${round}`
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 1 }] })
    const messages = Array.from({ length: PARTITIONS }, (_, partition) => ({ partition, value: 'one' }))
    await producer.send({ topic, messages })
    const ends = await admin.fetchTopicOffsets(topic)
    const found = ends.reduce((sum, each) => sum + Number(each.high), 0)
    console.log(`${PARTITIONS} messages sent in one call, ${found} in the topic`)
    doubled = found > PARTITIONS
  }
  await Promise.all([admin.disconnect(), producer.disconnect()])
  process.exit(doubled ? 0 : 1)
}

main()
EOF
cd "$work"
npm install --silent --no-audit --no-fund kafkajs@2.2.4 >/dev/null
KAFKAJS_NO_PARTITIONER_WARNING=1 node main.js "$bootstrap"
