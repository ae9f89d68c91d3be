// KafkaJS, driven by one JSON request a line. See serving.py for the forms.

const fs = require('fs')
const readline = require('readline')
const {
  Kafka, logLevel, CompressionTypes, CompressionCodecs, AssignerProtocol, ConfigResourceTypes, Partitioners,
} = require('kafkajs')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
// Its own codecs are gzip and none; the others are whatever one gives it.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: async (data) => lz4.decompressFrame(data),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (data) => Buffer.from(zstd.decompress(data)),
})
const CODECS = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}
const WAIT_MS = 30_000
const TOPIC = ConfigResourceTypes.TOPIC

class Lacking extends Error {}

let kafka, admin, member

const unpacked = (text) => (text === null ? null : Buffer.from(text, 'base64'))
const packed = (data) => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'))
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// A header's value is a buffer, or a list of them where its name comes more than once.
function headersOf(list) {
  const found = {}
  for (const [name, value] of list) {
    found[name] = name in found ? [found[name], unpacked(value)].flat() : unpacked(value)
  }
  return found
}

function recordOf(partition, message) {
  const headers = Object.entries(message.headers ?? {}).flatMap(
    ([name, value]) => [value].flat().map((each) => [name, packed(each)]))
  return {
    partition, offset: Number(message.offset), key: packed(message.key), value: packed(message.value), headers,
    timestamp: Number(message.timestamp),
  }
}

async function describeTopic({ topic }) {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  return {
    partitions: Object.fromEntries(topics[0].partitions.map(
      (each) => [each.partitionId, { leader: each.leader, replicas: each.replicas, isr: each.isr }])),
  }
}

async function describeCluster() {
  const told = await admin.describeCluster()
  const brokers = Object.fromEntries(told.brokers.map((each) => [each.nodeId, `${each.host}:${each.port}`]))
  return { brokers, controller: told.controller, cluster: told.clusterId }
}

// The offsets of all partitions as a map from their number.
const byPartition = (list, field) => Object.fromEntries(list.map((each) => [each.partition, Number(each[field])]))

class Member {
  constructor({ group, topic }) {
    this.topic = topic
    this.assigned = []
    this.revoked = []
    this.records = []
    this.failure = null
    this.consumer = kafka.consumer({ groupId: group, sessionTimeout: 10_000, heartbeatInterval: 500, maxWaitTimeInMs: 500 })
    const { GROUP_JOIN, REBALANCING, STOP, CRASH } = this.consumer.events
    this.consumer.on(GROUP_JOIN, ({ payload }) => {
      this.lose()
      this.assigned = payload.memberAssignment[topic] ?? []
    })
    this.consumer.on(REBALANCING, () => this.lose())
    this.consumer.on(STOP, () => this.lose())
    this.consumer.on(CRASH, ({ payload }) => { this.failure = String(payload.error) })
  }

  lose() {
    this.revoked.push(...this.assigned)
    this.assigned = []
  }

  async start() {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [this.topic], fromBeginning: true })
    await this.consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => { this.records.push(recordOf(partition, message)) },
    })
  }

  async commit() {
    const next = {}
    for (const { partition, offset } of this.records) next[partition] = Math.max(next[partition] ?? 0, offset + 1)
    await this.consumer.commitOffsets(Object.entries(next).map(
      ([partition, offset]) => ({ topic: this.topic, partition: Number(partition), offset: String(offset) })))
  }
}

// It asks for all topics that it was ever asked for, also when one of them has been deleted since, and fails with that one.
async function connectAdmin() {
  await admin?.disconnect()
  admin = kafka.admin()
  await admin.connect()
}

// Over TLS, as a user by SCRAM, or whom the certificate names.
function secured(security) {
  if (!security) return {}
  const read = (path) => fs.readFileSync(path, 'utf8')
  const { ca, certificate, key, user, password } = security
  if (user) return { ssl: { ca: [read(ca)] }, sasl: { mechanism: 'scram-sha-512', username: user, password } }
  return { ssl: { ca: [read(ca)], cert: read(certificate), key: read(key) } }
}

const operations = {
  async hello({ bootstrap, security }) {
    await zstd.init()
    kafka = new Kafka({ brokers: bootstrap.split(','), ...secured(security), logLevel: logLevel.ERROR, logCreator: () => ({ log }) => console.error(log.message) })
    await connectAdmin()
    return {
      client: `kafkajs ${require('kafkajs/package.json').version}`, codecs: Object.keys(CODECS), assignors: ['eager'],
      why: { 'range, as the other clients have it': 'its assigner is its own, RoundRobinAssigner' }, own_protocol: true,
      record_lacks: ['null-headers'],
    }
  },
  metadata: async (r) => ({ ...(await describeCluster()), ...(await describeTopic(r)) }),

  async produce({ topic, records, codec, acks, idempotent }) {
    const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...(idempotent === undefined ? {} : { idempotent }) })
    await producer.connect()
    const messages = records.map(({ partition, key, value, headers, timestamp }) => ({
      partition, key: unpacked(key), value: unpacked(value), headers: headersOf(headers), timestamp: String(timestamp),
    }))
    await producer.send({
      topic, messages, ...(codec ? { compression: CODECS[codec] } : {}), ...(acks ? { acks: { 0: 0, 1: 1, all: -1 }[acks] } : {}),
    })
    await producer.disconnect()
    return { offsets: null }
  },

  // It has no consumer without a group: this one seeks and never commits.
  async consume({ topic, partitions, start, count }) {
    const found = []
    const consumer = kafka.consumer({ groupId: `${topic}-reader-${process.pid}-${Date.now()}`, maxWaitTimeInMs: 500 })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await connectAdmin()
    const times = 'time' in start ? await admin.fetchTopicOffsetsByTimestamp(topic, start.time) : []
    const starts = 'time' in start ? byPartition(times, 'offset') : Object.fromEntries(partitions.map((p) => [p, start.offset]))
    consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        if (Number(message.offset) >= starts[partition]) found.push(recordOf(partition, message))
      },
    })
    for (const partition of partitions) consumer.seek({ topic, partition, offset: String(starts[partition]) })
    for (const end = Date.now() + WAIT_MS; found.length < count && Date.now() < end;) await sleep(50)
    await consumer.disconnect()
    return { records: found }
  },

  async join(r) {
    member = new Member(r)
    await member.start()
  },
  state: async () => ({ assigned: member.assigned, revoked: member.revoked, records: member.records, failure: member.failure }),
  commit: async () => member.commit(),
  leave: async () => member.consumer.disconnect(),

  async 'create-topic'({ topic, total, replicas, configs, validate }) {
    const configEntries = Object.entries(configs ?? {}).map(([name, value]) => ({ name, value }))
    const created = await admin.createTopics({
      validateOnly: validate ?? false, waitForLeaders: !validate,
      topics: [{ topic, numPartitions: total, replicationFactor: replicas, configEntries }],
    })
    if (!created) throw new Error('the topic exists: createTopics has said false')
  },
  'list-topics': async () => ({ topics: await admin.listTopics() }),
  'describe-topic': describeTopic,
  async 'describe-configs'({ topic }) {
    const { resources } = await admin.describeConfigs({ resources: [{ type: TOPIC, name: topic }], includeSynonyms: false })
    return { configs: Object.fromEntries(resources[0].configEntries.map((each) => [each.configName, each.configValue])) }
  },
  async 'replace-configs'({ topic, configs }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    await admin.alterConfigs({ resources: [{ type: TOPIC, name: topic, configEntries }] })
  },
  'create-partitions': async ({ topic, total }) => {
    await admin.createPartitions({ topicPartitions: [{ topic, count: total }] })
  },
  // Its admin client looks for leaders before it has asked for the topic's metadata: this asks first.
  async 'delete-records'({ topic, before }) {
    await connectAdmin()
    await admin.fetchTopicOffsets(topic)
    const partitions = Object.entries(before).map(([partition, offset]) => ({ partition: Number(partition), offset: String(offset) }))
    await admin.deleteTopicRecords({ topic, partitions })
  },
  async 'list-offsets'({ topic, at }) {
    if (at === 'max') throw new Lacking('it does not ask for the newest timestamp')
    await connectAdmin()
    if (typeof at === 'number') return { offsets: byPartition(await admin.fetchTopicOffsetsByTimestamp(topic, at), 'offset') }
    return { offsets: byPartition(await admin.fetchTopicOffsets(topic), at === 'earliest' ? 'low' : 'high') }
  },
  'list-groups': async () => ({ groups: (await admin.listGroups()).groups.map((each) => each.groupId) }),
  async 'describe-group'({ group }) {
    const { groups } = await admin.describeGroups([group])
    return {
      state: groups[0].state,
      members: groups[0].members.map((each) => ({
        partitions: Object.values(AssignerProtocol.MemberAssignment.decode(each.memberAssignment)?.assignment ?? {}).flat(),
      })),
    }
  },
  async 'group-offsets'({ group, topic }) {
    const told = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    return { offsets: byPartition(told[0].partitions, 'offset') }
  },
  async 'alter-group-offsets'({ group, topic, offsets }) {
    const partitions = Object.entries(offsets).map(([partition, offset]) => ({ partition: Number(partition), offset: String(offset) }))
    await connectAdmin()
    await admin.setOffsets({ groupId: group, topic, partitions })
  },
  'delete-group': async ({ group }) => { await admin.deleteGroups([group]) },
  'delete-topic': async ({ topic }) => { await admin.deleteTopics({ topics: [topic] }) },
  'describe-cluster': describeCluster,
}

async function answer(line) {
  const request = JSON.parse(line)
  try {
    if (!(request.do in operations)) throw new Lacking('no such operation in this client')
    return { ok: (await operations[request.do](request)) ?? {} }
  } catch (error) {
    return error instanceof Lacking ? { lacks: error.message } : { error: String(error) }
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(line)))
  }
  process.exit(0)
})()
