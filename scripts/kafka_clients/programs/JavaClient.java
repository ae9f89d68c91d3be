// Kafka's own Java client (kafka-clients), driven by one JSON request a line. See serving.py for the forms.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

public class JavaClient {
    static final ObjectMapper JSON = new ObjectMapper();
    static final long WAIT_S = 30;

    interface Operation {
        Object run(JsonNode request) throws Exception;
    }

    static class Lacking extends Exception {
        Lacking(String reason) {
            super(reason);
        }
    }

    final Map<String, Operation> operations = new HashMap<>();
    final Map<String, Object> common = new HashMap<>();
    Admin admin;
    Member member;

    public static void main(String[] arguments) throws Exception {
        JavaClient client = new JavaClient();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            System.out.println(JSON.writeValueAsString(client.answer(JSON.readTree(line))));
        }
        System.exit(0);
    }

    Map<String, Object> answer(JsonNode request) {
        Operation operation = operations.get(request.get("do").asText());
        try {
            if (operation == null) throw new Lacking("no such operation in this client");
            Object told = operation.run(request);
            return Map.of("ok", told == null ? Map.of() : told);
        } catch (Lacking lacking) {
            return Map.of("lacks", lacking.getMessage());
        } catch (Throwable thrown) { // whatever it is, it is the answer
            Throwable cause = thrown instanceof ExecutionException ? thrown.getCause() : thrown;
            return Map.of("error", cause.toString());
        }
    }

    JavaClient() {
        operations.put("hello", this::hello);
        operations.put("metadata", r -> described(topic(r)));
        operations.put("produce", this::produce);
        operations.put("consume", this::consume);
        operations.put("join", r -> {
            member = new Member(r);
            return null;
        });
        operations.put("state", r -> member.state());
        operations.put("commit", r -> member.order(member.consumer::commitSync));
        operations.put("leave", r -> member.end());
        administration();
    }

    Object hello(JsonNode request) throws Exception {
        Properties version = new Properties();
        version.load(Admin.class.getResourceAsStream("/kafka/kafka-version.properties"));
        common.put("bootstrap.servers", request.get("bootstrap").asText());
        if (request.has("security")) secure(request.get("security"));
        admin = Admin.create(common);
        return Map.of(
            "client", "kafka-clients " + version.getProperty("version"),
            "codecs", List.of("none", "gzip", "snappy", "lz4", "zstd"),
            "assignors", List.of("eager", "cooperative", "static"));
    }

    /** Over TLS, as a user by SCRAM, or whom the certificate names. */
    void secure(JsonNode security) {
        common.put("ssl.truststore.type", "PEM");
        common.put("ssl.truststore.location", security.get("ca").asText());
        if (security.has("user")) {
            common.put("security.protocol", "SASL_SSL");
            common.put("sasl.mechanism", "SCRAM-SHA-512");
            common.put("sasl.jaas.config", String.format(
                "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"%s\" password=\"%s\";",
                security.get("user").asText(), security.get("password").asText()));
        } else {
            common.put("security.protocol", "SSL");
            common.put("ssl.keystore.type", "PEM");
            common.put("ssl.keystore.location", security.get("both").asText());
        }
    }

    // --- records ---

    Object produce(JsonNode request) throws Exception {
        Map<String, Object> settings = new HashMap<>(common);
        settings.put("linger.ms", 50);
        if (request.has("codec")) settings.put("compression.type", request.get("codec").asText());
        if (request.has("acks")) settings.put("acks", request.get("acks").asText());
        if (request.has("idempotent")) settings.put("enable.idempotence", request.get("idempotent").asBoolean());
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        List<Long> offsets = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (JsonNode each : request.get("records")) {
                List<Header> headers = new ArrayList<>();
                for (JsonNode header : each.get("headers")) {
                    headers.add(new RecordHeader(header.get(0).asText(), unpacked(header.get(1))));
                }
                sent.add(producer.send(new ProducerRecord<>(topic(request), each.get("partition").asInt(),
                    each.get("timestamp").asLong(), unpacked(each.get("key")), unpacked(each.get("value")), headers)));
            }
            for (Future<RecordMetadata> each : sent) offsets.add(each.get(WAIT_S, TimeUnit.SECONDS).offset());
        }
        Map<String, Object> told = new HashMap<>();
        told.put("offsets", "0".equals(settings.get("acks")) ? null : offsets);
        return told;
    }

    Object consume(JsonNode request) {
        List<TopicPartition> places = places(request);
        List<Object> found = new ArrayList<>();
        try (var consumer = consumer(Map.of())) {
            consumer.assign(places);
            JsonNode start = request.get("start");
            if (start.has("time")) {
                Map<TopicPartition, Long> asked = new HashMap<>();
                places.forEach(place -> asked.put(place, start.get("time").asLong()));
                consumer.offsetsForTimes(asked).forEach((place, at) -> consumer.seek(place, at.offset()));
            } else {
                places.forEach(place -> consumer.seek(place, start.get("offset").asLong()));
            }
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(WAIT_S);
            while (found.size() < request.get("count").asInt() && System.nanoTime() < end) {
                consumer.poll(Duration.ofMillis(200)).forEach(record -> found.add(packed(record)));
            }
        }
        return Map.of("records", found);
    }

    KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(Map.of(
            "auto.offset.reset", "earliest", "enable.auto.commit", false,
            "heartbeat.interval.ms", 500, "session.timeout.ms", 10_000));
        settings.putAll(common);
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    // --- groups ---

    /** A member of a group, polled by a thread of its own, which also commits and closes. */
    class Member implements ConsumerRebalanceListener {
        final KafkaConsumer<byte[], byte[]> consumer;
        final Set<Integer> assigned = new TreeSet<>();
        final List<Integer> revoked = new ArrayList<>();
        final List<Object> records = new ArrayList<>();
        final BlockingQueue<FutureTask<Object>> orders = new LinkedBlockingQueue<>();
        volatile String failure;
        volatile boolean ended;

        Member(JsonNode request) {
            Map<String, Object> more = new HashMap<>(Map.of("group.id", request.get("group").asText(),
                "partition.assignment.strategy", request.path("assignor").asText("eager").equals("eager")
                    ? RangeAssignor.class.getName() : CooperativeStickyAssignor.class.getName()));
            if (request.hasNonNull("instance")) more.put("group.instance.id", request.get("instance").asText());
            consumer = consumer(more);
            consumer.subscribe(List.of(topic(request)), this);
            Thread thread = new Thread(this::poll);
            thread.setDaemon(true);
            thread.start();
        }

        void poll() {
            while (!ended) {
                FutureTask<Object> order = orders.poll();
                if (order != null) {
                    order.run();
                    continue;
                }
                try {
                    ConsumerRecords<byte[], byte[]> polled = consumer.poll(Duration.ofMillis(200));
                    synchronized (this) {
                        polled.forEach(record -> records.add(packed(record)));
                    }
                } catch (Exception thrown) {
                    failure = thrown.toString();
                    ended = true;
                }
            }
        }

        Object order(Runnable work) throws Exception {
            FutureTask<Object> order = new FutureTask<>(work, null);
            orders.add(order);
            return order.get(WAIT_S, TimeUnit.SECONDS);
        }

        Object end() throws Exception {
            return order(() -> {
                consumer.close();
                ended = true;
            });
        }

        synchronized Object state() {
            Map<String, Object> told = new HashMap<>();
            told.put("assigned", new ArrayList<>(assigned));
            told.put("revoked", new ArrayList<>(revoked));
            told.put("records", new ArrayList<>(records));
            told.put("failure", failure);
            return told;
        }

        @Override
        public synchronized void onPartitionsAssigned(Collection<TopicPartition> gained) {
            gained.forEach(place -> assigned.add(place.partition()));
        }

        @Override
        public synchronized void onPartitionsRevoked(Collection<TopicPartition> lost) {
            lost.forEach(place -> {
                assigned.remove(place.partition());
                revoked.add(place.partition());
            });
        }
    }

    // --- administration ---

    void administration() {
        operations.put("create-topic", this::createTopic);
        operations.put("list-topics", r -> Map.of("topics", await(admin.listTopics().names())));
        operations.put("describe-topic", r -> described(topic(r)));
        operations.put("describe-configs", r -> {
            Config told = await(admin.describeConfigs(List.of(resource(r))).all()).get(resource(r));
            Map<String, Object> configs = new HashMap<>();
            told.entries().forEach(entry -> configs.put(entry.name(), entry.value()));
            return Map.of("configs", configs);
        });
        operations.put("alter-configs", r -> {
            List<AlterConfigOp> changes = new ArrayList<>();
            strings(r.get("configs")).forEach(
                (name, value) -> changes.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
            return await(admin.incrementalAlterConfigs(Map.of(resource(r), changes)).all());
        });
        operations.put("create-partitions", r -> await(admin.createPartitions(
            Map.of(topic(r), NewPartitions.increaseTo(r.get("total").asInt()))).all()));
        operations.put("delete-records", r -> {
            Map<TopicPartition, RecordsToDelete> wanted = new HashMap<>();
            offsets(r, "before").forEach((place, offset) -> wanted.put(place, RecordsToDelete.beforeOffset(offset)));
            Map<String, Long> low = new HashMap<>();
            for (var each : admin.deleteRecords(wanted).lowWatermarks().entrySet()) {
                low.put("" + each.getKey().partition(), await(each.getValue()).lowWatermark());
            }
            return Map.of("low", low);
        });
        operations.put("list-offsets", this::listOffsets);
        operations.put("list-groups", r -> Map.of("groups", await(admin.listGroups().all()).stream()
            .map(GroupListing::groupId).collect(Collectors.toList())));
        operations.put("describe-group", r -> {
            String group = r.get("group").asText();
            ConsumerGroupDescription told = await(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            return Map.of("state", told.groupState().toString(), "members", told.members().stream()
                .map(each -> Map.of("partitions", each.assignment().topicPartitions().stream()
                    .map(TopicPartition::partition).collect(Collectors.toList())))
                .collect(Collectors.toList()));
        });
        operations.put("group-offsets", r -> {
            String group = r.get("group").asText();
            Map<String, Object> found = new HashMap<>();
            await(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).forEach((place, at) -> {
                if (place.topic().equals(topic(r)) && at != null) found.put("" + place.partition(), at.offset());
            });
            return Map.of("offsets", found);
        });
        operations.put("alter-group-offsets", r -> {
            Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
            offsets(r, "offsets").forEach((place, offset) -> wanted.put(place, new OffsetAndMetadata(offset)));
            return await(admin.alterConsumerGroupOffsets(r.get("group").asText(), wanted).all());
        });
        operations.put("delete-group-offsets", r -> await(admin.deleteConsumerGroupOffsets(
            r.get("group").asText(), new HashSet<>(places(r))).all()));
        operations.put("delete-group", r -> await(admin.deleteConsumerGroups(List.of(r.get("group").asText())).all()));
        operations.put("delete-topic", r -> await(admin.deleteTopics(List.of(topic(r))).all()));
        operations.put("describe-cluster", r -> {
            DescribeClusterResult told = admin.describeCluster();
            return Map.of("brokers", brokers(), "controller", await(told.controller()).id(), "cluster", await(told.clusterId()));
        });
        operations.put("describe-log-dirs", r -> {
            List<Integer> ids = await(admin.describeCluster().nodes()).stream().map(Node::id).collect(Collectors.toList());
            Map<String, Long> sizes = new HashMap<>();
            await(admin.describeLogDirs(ids).allDescriptions()).values().forEach(folders -> folders.values().forEach(
                folder -> folder.replicaInfos().forEach((place, info) -> {
                    if (place.topic().equals(topic(r))) sizes.put("" + place.partition(), info.size());
                })));
            return Map.of("bytes", sizes);
        });
        operations.put("describe-producers", r -> {
            TopicPartition place = new TopicPartition(topic(r), r.get("partition").asInt());
            return Map.of("producers", await(admin.describeProducers(List.of(place)).partitionResult(place))
                .activeProducers().stream().map(ProducerState::producerId).collect(Collectors.toList()));
        });
        operations.put("elect-leaders", r -> {
            Set<TopicPartition> place = Set.of(new TopicPartition(topic(r), r.get("partition").asInt()));
            for (Optional<Throwable> each : await(admin.electLeaders(ElectionType.PREFERRED, place).partitions()).values()) {
                if (each.isPresent() && !(each.get() instanceof ElectionNotNeededException)) throw new Exception(each.get());
            }
            return null;
        });
    }

    Object createTopic(JsonNode r) throws Exception {
        NewTopic wanted = new NewTopic(topic(r), r.get("total").asInt(), (short) r.get("replicas").asInt());
        wanted.configs(strings(r.path("configs")));
        CreateTopicsOptions options = new CreateTopicsOptions().validateOnly(r.path("validate").asBoolean(false));
        return await(admin.createTopics(List.of(wanted), options).all());
    }

    Object listOffsets(JsonNode r) throws Exception {
        JsonNode at = r.get("at");
        OffsetSpec spec = at.isNumber() ? OffsetSpec.forTimestamp(at.asLong())
            : Map.of("earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(), "max", OffsetSpec.maxTimestamp())
                .get(at.asText());
        Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
        places(r).forEach(place -> wanted.put(place, spec));
        Map<String, Object> offsets = new HashMap<>();
        Map<String, Object> timestamps = new HashMap<>();
        await(admin.listOffsets(wanted).all()).forEach((place, found) -> {
            offsets.put("" + place.partition(), found.offset());
            timestamps.put("" + place.partition(), found.timestamp());
        });
        return Map.of("offsets", offsets, "timestamps", timestamps);
    }

    Object described(String topic) throws Exception {
        Map<String, Object> partitions = new HashMap<>();
        for (TopicPartitionInfo each : await(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions()) {
            partitions.put("" + each.partition(), Map.of("leader", each.leader() == null ? -1 : each.leader().id(),
                "replicas", each.replicas().stream().map(Node::id).collect(Collectors.toList())));
        }
        return Map.of("brokers", brokers(), "partitions", partitions);
    }

    Map<String, String> brokers() throws Exception {
        return await(admin.describeCluster().nodes()).stream()
            .collect(Collectors.toMap(node -> "" + node.id(), node -> node.host() + ":" + node.port()));
    }

    // --- forms ---

    static <T> T await(KafkaFuture<T> future) throws Exception {
        return future.get(WAIT_S, TimeUnit.SECONDS);
    }

    static String topic(JsonNode request) {
        return request.get("topic").asText();
    }

    static ConfigResource resource(JsonNode request) {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic(request));
    }

    static List<TopicPartition> places(JsonNode request) {
        List<TopicPartition> found = new ArrayList<>();
        request.get("partitions").forEach(each -> found.add(new TopicPartition(topic(request), each.asInt())));
        return found;
    }

    static Map<TopicPartition, Long> offsets(JsonNode request, String field) {
        Map<TopicPartition, Long> found = new HashMap<>();
        request.get(field).fields().forEachRemaining(each -> found.put(
            new TopicPartition(topic(request), Integer.parseInt(each.getKey())), each.getValue().asLong()));
        return found;
    }

    static Map<String, String> strings(JsonNode object) {
        Map<String, String> found = new HashMap<>();
        object.fields().forEachRemaining(each -> found.put(each.getKey(), each.getValue().asText()));
        return found;
    }

    static byte[] unpacked(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    static String packed(byte[] data) {
        return data == null ? null : Base64.getEncoder().encodeToString(data);
    }

    static Object packed(ConsumerRecord<byte[], byte[]> record) {
        List<Object> headers = new ArrayList<>();
        record.headers().forEach(header -> headers.add(Arrays.asList(header.key(), packed(header.value()))));
        Map<String, Object> found = new HashMap<>();
        found.put("partition", record.partition());
        found.put("offset", record.offset());
        found.put("key", packed(record.key()));
        found.put("value", packed(record.value()));
        found.put("headers", headers);
        found.put("timestamp", record.timestamp());
        return found;
    }
}
