"""The bounds that a user can meet, or that several modules keep, each with its reason. Units come last.

docs/reference/limits.md is made of it. What only one module knows, such as how much it reads at once, stands there.
"""

from __future__ import annotations

# --- protocol ------------------------------------------------------------------------------
PROTOCOL_VERSION = 2  # what both ends of a link speak; a node refuses any other

# --- names ---------------------------------------------------------------------------------
TOPIC_NAME_MAX_CHARS = 249  # Kafka's: the name and "-<partition>" must fit a file name of 255
PARTITIONS_PER_TOPIC_MAX = 256  # a process each; above this a machine is better split
NODE_ID_MAX = 2**31 - 1  # Kafka's broker ids are int32
OFFSET_MAX = 2**63 - 1  # an int64 in every batch
LEADER_EPOCH_MAX = 2**31 - 1  # an int32 in every batch

# --- frames --------------------------------------------------------------------------------
RECORD_BYTES_MAX = 64 * 1024 * 1024  # no topic may allow more; a record must fit one frame
FRAME_BYTES_MAX = RECORD_BYTES_MAX + 1024 * 1024  # the largest record and its header; ZeroMQ checks it first
DECOMPRESSED_BYTES_MAX = 2 * RECORD_BYTES_MAX  # what one batch may unpack to; a few kilobytes may claim gigabytes
HEADER_BYTES_MAX = 1024 * 1024  # a header carries names and numbers, never records
NODE_FRAME_BYTES_MAX = 2 * HEADER_BYTES_MAX  # at a node's address, which takes no records; too long a header is told so
FRAMES_PER_MESSAGE_MAX = 64  # a message is a header and its payload; one with more is not ours
BATCH_BYTES_MAX = RECORD_BYTES_MAX + 4096  # more on a disk is damage; replicas once took this much too much
FETCH_BYTES_MAX = 8 * 1024 * 1024  # one answer: 4 ms of a turn; 40 ms with the smallest batches, 230 if checked
FETCHED_BYTES_PER_TURN = 16 * 1024 * 1024  # all fetches of a turn: 40 ms of a busy machine; others wait
LOCATED_AHEAD_MAX = 7  # places that are told beside the one that was asked for: 8 fetches wake a worker once
FETCH_WAIT_MAX_MS = 60_000  # with a longer poll a dead client would be told from a waiting one too late

# --- one worker ----------------------------------------------------------------------------
SOCKET_HWM_MESSAGES = 20_000  # above what the in-flight limits below allow to be queued
REQUESTS_PER_TURN = 2_000  # bounds a turn, and with it the delay of a heartbeat
BYTES_PER_TURN = 8 * 1024 * 1024  # bounds a turn too; also the most that one sync has to write
INSPECTED_BYTES_PER_TURN = 1024 * 1024  # what is unpacked to look into batches: some milliseconds of a turn
INSPECTED_BYTES_MAX = 2 * DECOMPRESSED_BYTES_MAX  # what all batches that are looked into hold unpacked at a time
SKIPPED_BATCHES_PER_TURN = 2_000  # batches without records that a fetch goes past: two milliseconds of a turn
SEARCHED_RECORDS_PER_TURN = 2_000  # records that a search by time looks at: two milliseconds of a turn
TIME_SEARCHES_AT_ONCE = 2  # each holds a batch unpacked; with two a short one does not wait behind a long one
WATCH_S = 300.0  # who watches the end of a log is told nothing for no longer: a session that is gone is forgotten
TIME_SEARCH_S = 30.0  # a search that nobody has asked for again in this time has no client any more
REQUESTS_IN_FLIGHT_MAX = 5_000  # produces and fetches of one connection; a tenth of what all may have
UNACKNOWLEDGED_BYTES_MAX = 32 * 1024 * 1024  # of one connection's produces with acks=0 that not all in sync have yet
UNANSWERED_PRODUCES_MAX = 50_000  # bounds the memory of what waits for a commit
UNANSWERED_PRODUCE_BYTES_MAX = 256 * 1024 * 1024  # bounds the same memory where batches are large
WAITING_FETCHES_MAX = 10_000  # each holds memory and is looked at when the high watermark moves
PRODUCE_TIMEOUT_MAX_MS = 300_000  # a client that waits longer has long retried

CLIENT_WAITING_BYTES_MAX = 8 * FETCH_BYTES_MAX  # answers that one client has not taken; ours have a few on their way
CLIENTS_WAITING_BYTES_MAX = 4 * CLIENT_WAITING_BYTES_MAX  # the same of all clients; above it fetches are refused
CLIENT_SILENT_S = 15.0  # a client that takes nothing of its answers for this long is disconnected
UNFINISHED_BYTES_MAX = 4 * FRAME_BYTES_MAX  # all messages of which not every part has come
CONNECTIONS_MAX = 4_000  # clients of one process, which needs descriptors for its files too
CONNECTIONS_PER_ADDRESS_MAX = 2_000  # of one process with one host: whoever it is, half of the places are for others

# --- replication ---------------------------------------------------------------------------
HEARTBEAT_S = 0.4  # idle cost against the time to notice a silent leader; a dead one is noticed by its connection
ELECTION_TIMEOUT_MIN_S = 1.25  # three lost heartbeats
ELECTION_TIMEOUT_MAX_S = 1.8  # failover from a leader that hangs stays under 2.5 s
LEADER_GONE_S = 0.15  # when the leader is known to be gone, candidates still spread over this
LEADER_FALLBACK_S = 1.5  # a leader without a majority steps down; consensus.md asks for about 2
SLEEP_AFTER_S = 5.0  # a group in which nothing happened for this long goes to sleep; more than two election time-outs
AWAKE_S = 2 * ELECTION_TIMEOUT_MAX_S  # who was woken does not agree to sleep for this long: time for an election
PREFERRED_LEADER_S = 5.0  # a preferred replica that was in sync for this long leads again; a node that flaps does not
PREFERRED_LEADER_AGAIN_S = 2.0  # how long a move that failed is not tried again
PREFERRED_LEADER_AGAIN_MAX_S = 30.0  # up to this: a move that cannot work pauses appends for 0.3 % of the time
MOVE_S = 0.1  # a move of the leadership pauses appends for no longer
APPEND_WINDOW_MESSAGES = 64  # AppendEntries in flight to one follower
APPEND_WINDOW_BYTES = 16 * 1024 * 1024  # what a stalled follower may pin in the send queue
APPEND_MESSAGE_BYTES = 1024 * 1024  # one AppendEntries, unless a single batch is larger
APPEND_LOST_AFTER_S = 1.0  # a window without progress for this long is lost: back to probe
LOCAL_STREAMS_MAX = 64  # doors of this node that a worker serves: a few processes, and those that broke unnoticed
MESSAGES_WAITING_BYTES_MAX = 4 * FRAME_BYTES_MAX  # what waits for the other end of one
HANDSHAKE_S = 10.0  # how long TLS may take to know both ends; two round trips and some milliseconds
STRANGERS_MAX = 256  # connections of one door that nobody has proved to be his yet; one more ends the oldest
STREAM_CONNECTIONS_MAX = 64  # peers at one worker's port for Raft: one each, and those that broke unnoticed
STREAM_STRANGERS_MAX = 64  # connections there that have not named the worker's boot id; one more ends the oldest
STREAM_GREETING_S = 3.0  # how long a connection may take to name it: a link does so at once
STREAM_SILENT_S = 10.0  # a message of which no byte comes for this long is dropped; a node may hang for less
STREAM_MESSAGE_S = 60.0  # a message that takes longer in all is dropped: the largest at 1 MB/s
STREAM_UNFINISHED_BYTES_MAX = 4 * FRAME_BYTES_MAX  # messages of peers that are half there; one leader sends at a time
STREAM_QUEUE_BYTES_MAX = 2 * FRAME_BYTES_MAX  # what waits for a peer that takes nothing: any message, and the window
WITNESS_FEED_S = 1.0  # how often a witness is fed while nothing waits for it: each time it writes its state whole
TAIL_CACHE_BYTES = 40 * 1024 * 1024  # recent batches kept for followers (consensus.md)
RECOVERY_S = 30.0  # how long an accepted loss holds: a few elections; then it has to be accepted again

FOLLOWER_TAIL_BYTES = 4 * 1024 * 1024  # a follower serves nobody; enough to map an index to an offset
IN_SYNC_SILENT_S = 0.5  # a follower that owes its leader a success for this long leaves the ISR
IN_SYNC_FIRST_S = 0.3  # a follower that a new leader has not heard at all by then leaves the ISR
IN_SYNC_FOUND_S = 1.0  # a follower that has not reached a new leader's first entry by then leaves the ISR
IN_SYNC_LAG_S = 10.0  # a follower that is behind for this long leaves the ISR (Kafka's replica.lag.time.max.ms is 30 s)
IN_SYNC_JOIN_S = 0.5  # a follower that held all of the log this recently is waited for, to enter the ISR again
LEARNER_BYTES_PER_S = 50_000_000  # all learners of one leader together: producers keep most of the disk and the links
REASSIGNMENTS_PER_REQUEST_MAX = 1000  # partitions of one request to move replicas: its plans are one batch
PLAN_AGAIN_S = 0.2  # how often a leader tries to begin what is planned for its partition
LEARNER_STALLED_S = 60.0  # a learner that does not come on for this long is given up: nothing is kept for it
JOINT_S = 60.0  # new replicas that are not in sync by then are given up, and the old voters go on
LEAVING_S = 10.0  # how long a leader tries to tell a voter that is out: it hears it from others as well

# --- Kafka's door --------------------------------------------------------------------------
KAFKA_REQUEST_BYTES_MIN = 8  # API key, version, correlation id
KAFKA_REQUEST_BYTES_MAX = 100 * 1024 * 1024  # Kafka's `socket.request.max.bytes`; taken as it comes, not as announced
KAFKA_CONNECTIONS = 10_000  # of one node for Kafka's clients, by default; `--kafka-connections`
KAFKA_QUESTION_BYTES_MAX = 1024 * 1024  # a request without records; as a structure it takes up to 60 times its bytes
KAFKA_ITEMS_MAX = 20_000  # of all lists of one such request: reading them holds the door up for some 50 ms
KAFKA_PARTITIONS_PER_PRODUCE = 10_000  # each is a question to a worker
KAFKA_REQUEST_S = 60.0  # a request that is not whole by then ends its connection: the largest at 2 MB/s
KAFKA_REQUESTS_IN_FLIGHT = 5_000  # of one connection; above it is not read on
KAFKA_WAITING_BYTES = 4 * FETCH_BYTES_MAX  # answers that one client has not taken; above it is not read on
KAFKA_HELD_BYTES_MAX = 512 * 1024 * 1024  # of all clients of a door, half received or not taken; the largest ends
KAFKA_IDLE_S = 600.0  # Kafka's `connections.max.idle.ms`
KAFKA_FIRST_NEWS_S = 5.0  # how long a door that has just begun has its clients wait until it knows of a broker
KAFKA_COORDINATOR_S = (
    5.0  # how long a coordinator, or a producer's id, is waited for; Kafka's `offsets.commit.timeout.ms`
)
KAFKA_CREATE_S = 5.0  # how long Metadata waits for a topic that it makes: its client asks again
KAFKA_SEGMENT_FILES = 256  # descriptors for sending from; what is read most stays open
KAFKA_SEGMENT_FILE_S = 10.0  # one that nobody reads is closed by then: it may be removed, and take room on the disk
KAFKA_AHEAD_S = 0.5  # how long a place that a client reads next is known, and how old the bounds told with it may be
KAFKA_AHEADS_MAX = 256  # clients and partitions that a door knows such places of; who is behind asks for each
FETCH_SESSIONS_MAX = 1_000  # of one door process; a client without one names all its partitions each time
FETCH_SESSION_PARTITIONS_MAX = 10_000  # 5 MB of memory each

# --- copies ---------------------------------------------------------------------------------
COPY_FETCH_BYTES = 8 * 1024 * 1024  # of one question of `raftlog export`; its answer is held once for each partition
COPY_REQUEST_S = 60.0  # how long an export or import waits for a partition that has no leader

# --- nodes that a command starts ---------------------------------------------------------------
LOCAL_NODES_MAX = 9  # of `raftlog bench --local`: each is five processes and more, and all share one machine

# --- the HTTP address ----------------------------------------------------------------------
HTTP_REPORT_S = 3.0  # how long the own supervisor is waited for; a scrape gives up after some 10 s
HTTP_ANSWER_S = 10.0  # how long a question under /api/ may take
HTTP_OFFSETS_S = 3.0  # a leader that does not answer must not keep the other partitions from being shown
HTTP_QUESTIONS_MAX = 4  # asked at the same time, each in a thread
HTTP_QUESTIONS_WAITING_MAX = 100  # each waits for some 0.1 s of the others' answers at most
HTTP_LAGS_S = 3.0  # how long a scrape looks for what groups have left to read; what is not known then is left out
HTTP_LAGS_AGAIN_S = 1.0  # those of one scrape serve another one that comes this soon
HTTP_PSS_PER_SCRAPE = 5  # processes of a kind whose shared memory is added up anew: the kernel takes a ms for each
HTTP_RECORDS_MAX = 500  # shown at once: more is work for `raftlog consume`
HTTP_PREVIEW_BYTES = 2048  # of a key, a value or a header in a list; each can be had whole
HTTP_PREVIEW_HEADERS = 50  # of one record
HTTP_SEARCH_S = 5.0  # how long one search reads; it says where it stopped
HTTP_SEARCHED_RECORDS_MAX = 200_000  # looked at by one search
HTTP_CONSUMERS_IDLE_MAX = 4  # kept for whoever looks at records next, each with its thread and connections
HTTP_BODY_BYTES_MAX = 64 * 1024  # an act names a topic and its settings
HTTP_ASKERS_MAX = 16  # users whose clients are kept for their next question, each with threads and connections
HTTP_LOGINS_REMEMBERED_MAX = 1_000  # passwords that were right, as digests: proving one takes 4 ms

# --- storage -------------------------------------------------------------------------------
INDEX_INTERVAL_BYTES = 16 * 1024  # one index entry for this many bytes of log
INDEX_COMMIT_BYTES = 4 * 1024 * 1024  # LMDB is written after this many bytes of synced log
INDEX_MAP_START_BYTES = 1024 * 1024  # an idle replica maps no more than this
INDEX_MAP_STEP_BYTES = 8 * 1024 * 1024  # the map grows by this when full
INDEX_MAP_BYTES_MAX = 4 * 1024 * 1024 * 1024  # address space only; the index of half a terabyte of log
INDEX_PENDING_MAX = 16_384  # entries kept in memory when the index cannot be written; then appends are refused
OPEN_SEGMENTS_MAX = 16  # descriptors that old segments of one replica may hold
READER_PLACES_MAX = 64  # readers of one replica that go on where they stopped without a lookup
DOUBT_REASON_CHARS_MAX = 1000  # a replica that is cut again and again must not grow its state
VOTERS_MAX = 99  # of one half of a configuration; far above any replication factor, and `state` is written whole
WITNESS_EPOCHS_MAX = 64  # epoch starts of a witness, which writes all at each change; older ones are committed
PRODUCER_BATCHES_MAX = 5  # batches of a producer whose repetition gets their offset; so many may be in flight
PRODUCERS_MAX = 10_000  # producers that one partition remembers: 10 MB of memory, 2 MB of each snapshot
PRODUCER_IDLE_MS = 7 * 24 * 3600 * 1000  # a producer that wrote nothing for this long is forgotten
PRODUCER_CROWDED_IDLE_MS = 3600 * 1000  # the same where there are too many producers; longer than any client retries
PRODUCER_SNAPSHOT_BYTES = 16 * 1024 * 1024  # log between two snapshots, which a start reads again: 0.1 s
PRODUCER_SNAPSHOTS_MAX = 4  # snapshots kept between two segment starts, for truncations; older ones go
COMMIT_BOUND_S = 0.9  # how late a commit bound may be written: within a second of any advance
SEGMENT_BYTES_MIN = 1024  # small, so that tests can roll often
HOUSE_S = 1.0  # how often a replica looks at the age of its segments
SCRUB_S = 4.0  # how often each replica reads SCRUB_BYTES of its log again, to find damage before the records are needed
SCRUB_BYTES = 128 * 1024  # about 3 GB a day; small batches cost 0.03 % of a core, of the 0.2 % of an idle replica
COMPACTION_DIRTY_RATIO = 0.5  # a pass begins at this share of the closed segments' bytes: Kafka's
COMPACTION_KEYS_MAX = 200_000  # keys of one pass: 35 MB while it lasts; more keys take more passes
COMPACTION_SLICE_BYTES = 32 * 1024  # read at once, 1 to 2 ms; no turn waits longer for compaction
COMPACTION_BATCH_BYTES = 300  # what a batch counts for in a slice beside its bytes: a header, and a codec's start
COMPACTION_RECORD_BYTES = 30  # what a record counts for at least: no more than a thousand records in a slice
COMPACTION_S = 0.01  # time between two slices: 3 MB/s, and most of a core is left to the clients
COMPACTION_SYNC_BYTES = 1024 * 1024  # written, then synced: a whole segment at once would hold a turn up
COMPACTION_RETRY_S = 30.0  # a pass that found no room is begun again after this time
HEAD_SEGMENTS_MAX = 64  # segments removed in one turn: some milliseconds each if they are large
CLEAN_MARKS_MAX = 16  # times at which tombstones were cleaned; with fewer some are kept a little longer
DISK_RETRY_S = 1.0  # how often a partition without room looks again

# --- controller ----------------------------------------------------------------------------
DEFAULT_PARTITIONS = 1  # of a topic that says nothing; Kafka's `num.partitions`
DEFAULT_REPLICATION_FACTOR = 3  # or less, where there are fewer nodes or most of them are not alive
TOPICS_PER_REQUEST_MAX = 100  # one request is one record batch, which has to fit a segment and a turn
MUTATIONS_REMEMBERED_MAX = 1_000  # changes of topics whose repetition is recognised: 25 KB of the metadata image
PRODUCER_ID_BLOCK = 1_000  # ids that one metadata record gives to a controller; an int64 has no end
LOGIN_BYTES_MAX = 64 * 1024  # a request of who has not logged in; a login has less than 1 KiB
LOGIN_S = 30.0  # who has not logged in by then is disconnected
FAILED_LOGIN_S = 0.3  # a failed login is answered late, one of an address after the other: clients try at once again
KEYS_FETCHED_S = 2.0  # a token of an unknown key is looked at again then, where the issuer's keys are being fetched
FAILED_LOGINS_WAITING_MAX = 20  # of one address; who fails once more is disconnected without an answer
USERS_MAX = 10_000  # all of them are in the metadata image of every node, some 150 bytes each
ACLS_MAX = 10_000  # rules likewise; who asks for something new is judged by all that may be about it
QUOTAS_MAX = 10_000  # likewise; finding the one that counts costs nine look-ups, however many there are
QUOTA_BURST_S = 1.0  # so much of its rate somebody may use at once; Kafka adds up eleven seconds
QUOTA_BUCKETS_MAX = 16_384  # users and clients whose use a node remembers, those seen last: 24 bytes each
THROTTLE_MAX_S = 20.0  # nobody is held back for longer at a time: what is on its way waits 30 s for its answer
THROTTLE_GRACE_S = 1.0  # what comes within this time after a client was told to wait was on its way
SECURITY_CHANGES_MAX = 100  # users, rules or quotas that one request changes: one batch, as with topics
WAITING_ADMIN_REQUESTS_MAX = 1_000  # they are decided one at a time; more would wait longer than their time-out

# --- group coordinator ---------------------------------------------------------------------
GROUP_NAME_MAX_BYTES = 256  # of a group id, an instance id and a client id, which are in many records
SESSION_TIMEOUT_MIN_MS = 1_000  # a few heartbeats on a busy machine
SESSION_TIMEOUT_MAX_MS = 1_800_000  # how long a dead member may hold its partitions; Kafka's
REBALANCE_TIMEOUT_MAX_MS = 24 * 3600 * 1000  # a member that needs longer for one poll is not waited for
GROUP_INITIAL_DELAY_S = 0.1  # members started together join one generation; Kafka waits 3 s for the same
GROUP_MEMBERS_MAX = 1_000  # each answer to the leader of a group names all members
GROUP_BYTES_MAX = 4 * 1024 * 1024  # the subscriptions of all members, which are one record and one answer
GROUPS_MAX = 10_000  # groups with members in one partition of `__consumer_offsets`
COMMITTED_OFFSETS_MAX = 1_000_000  # keys of one such partition: about 300 MB of memory
OFFSETS_PER_GROUP_MAX = 10_000  # offsets that are committed together, or deleted together, are one batch
OFFSET_METADATA_CHARS_MAX = 4_096  # the text that a client commits with an offset; Kafka's
GROUP_WRITES_IN_FLIGHT_MAX = 50_000  # bounds the memory of what waits for a commit
PROPOSED_BATCH_BYTES = 1024 * 1024  # what a state machine puts into one batch, unless one result is larger
COORDINATOR_RECORD_BYTES_MAX = 8 * 1024 * 1024  # a group's record: the subscriptions and assignments of all its members
COORDINATOR_SEGMENT_BYTES = 4 * 1024 * 1024  # compaction leaves the last one alone: a start reads it in 0.5 s
COORDINATOR_PARTITIONS_MAX = 8  # each is a worker on three nodes; one takes thousands of commits a second
REPLAY_BYTES = 512 * 1024  # applied to a state machine between two turns of its worker: about 30 ms
OFFSETS_RETENTION_MS = 7 * 24 * 3600 * 1000  # how long the offsets of a group without members are kept; Kafka's
OFFSETS_SCAN_S = 600.0  # how often such groups are looked for

# --- supervisor ----------------------------------------------------------------------------
GOSSIP_S = 0.5  # how often supervisors speak; also at once when something changed
NODE_SILENT_S = 3.0  # six lost gossips: the node counts as not alive
VOTERS_HEARD_S = 1.5  # three lost gossips of a majority of voters: what this node knows may be old, and it says so
SLEEPER_WORD_S = 10.0  # how often a sleeping worker is asked for a word: who hangs is found, and its log looked after
SLEEPER_HANGS_S = 2.0  # a sleeping worker that owes its word for this long is told to the others as gone
WAKE_UPS_PER_S = 50  # sleeping workers of a node that news of another node wakes: each elects, or sends a heartbeat
WORKER_BACKOFF_MIN_S = 0.1  # a worker that crashes once costs no more than an election
WORKER_BACKOFF_MAX_S = 10.0  # a worker that cannot start must not eat a core, and must be tried again
METADATA_SNAPSHOT_RECORDS = 2_000  # replayed in about 50 ms at a start; a snapshot has about 100 bytes a partition
ADMIN_TIMEOUT_MS = 30_000  # longer than an election of the controller and a slow disk together
NODES_MAX = 1_000  # what others say that they are is kept in memory; far above what one cluster has
FIGURES_S = 1.0  # how often a working process tells its supervisor what it has counted
REST_S = 5.0  # a worker that has worked and then not for this long gives freed memory back: 128 MB at the most
CLIENT_NAMES_MAX = 50  # clients choose their names: of one process so many are told apart in the metrics
STATUS_S = 0.5  # how often a working worker tells its figures; who leads is told at once
WORKER_STOP_S = 5.0  # a clean stop syncs a few files; one that takes longer is ended by a signal
WORKER_STABLE_S = 10.0  # a worker that ran for this long starts again without back-off
LOCAL_MESSAGE_BYTES_MAX = 64 * 1024 * 1024  # between supervisor and worker: the metadata image is the largest message
LOCAL_QUEUE_BYTES_MAX = 128 * 1024 * 1024  # what waits for a worker that does not read; above this it is ended
IDENTITY_WAIT_S = 0.5  # how long a starting node waits for what the others know of it, unless all have said it
TWIN_WAIT_S = 2 * NODE_SILENT_S  # how long the process before may still be thought to be alive; after that it is
FOREIGN_WAIT_S = 2.0  # how long a starting node waits for one of its own cluster before it says that it is elsewhere

# --- connections ---------------------------------------------------------------------------
RECONNECT_BACKOFF_MIN_S = 0.02  # a restarted worker or node is found again within a few of these
RECONNECT_BACKOFF_MAX_S = 0.5  # an address where nobody is costs two attempts a second

# --- client ---------------------------------------------------------------------------------
METADATA_BACKOFF_MIN_S = 0.02  # the first look for a new leader comes at once: elections may be over
METADATA_BACKOFF_MAX_S = 1.0  # a cluster that is down is not helped by more questions
METADATA_ELECTION_S = 0.5  # how long a client asks at the least back-off: most elections are over by then
METADATA_STREAK_ENDS_S = 0.3  # after this time without a question the next one is another trouble, and starts anew
METADATA_EAGER_S = 5.0  # as long as an election may be under way, the back-off stays small
METADATA_EAGER_BACKOFF_S = 0.2  # the most that it then costs to learn of the new leader
METADATA_ANSWER_S = 1.0  # a node that does not answer for this long is passed over for the next
LOGIN_ANSWER_S = 5.0  # a login that is not answered for this long is begun anew
METADATA_MAX_AGE_S = 60.0  # when what no error has shown is learned
METADATA_NODES_TRIED = 3  # nodes that a client connects to at the same time while none answers
CONNECT_PATIENCE_S = 0.3  # a leader that cannot be connected to for this long may have moved: ask
LEADER_EPOCH_MEMORY_S = 10.0  # how long an older leader epoch counts as old news of a slow node
IMAGE_MEMORY_S = 10.0  # how long an older metadata image counts as old, while confirmed nodes name no newer one
UNCONFIRMED_S = 2.0  # how long a node is looked for that hears a majority of the voters; then what any node says counts
FOREIGN_CLUSTER_S = 3.0  # how long nodes of the own cluster are looked for while only another cluster's answer
LEADER_SILENT_S = 1.0  # a leader that answers nothing for this long may be gone: ask who leads
SILENT_LEADERS_MAX = (
    50  # named in one question for metadata: their groups are woken, and each wake-up costs an election
)
LEADER_MOVED_S = 0.3  # how long the last answers of a leader are waited for when another one is known
UNACKNOWLEDGED_METADATA_S = 2.0  # how often a client asks with acks=0: nobody tells it that the leader moved
TOPIC_UNKNOWN_S = 3.0  # a topic that nobody knows for this long does not exist; gossip is faster
RETRY_BACKOFF_MIN_S = 0.02  # before the same partition is asked again
RETRY_BACKOFF_MAX_S = 0.5  # the same after many refusals in a row
EXPIRY_SCAN_S = 0.1  # how exactly time-outs of requests are kept
CLOSE_LINGER_S = 5.0  # how long a node that takes nothing keeps a client that wants to end
CLOSE_GRACE_S = 0.5  # after the time of `close`: then a client's thread that a callback keeps is left behind
LINK_IDLE_S = 10.0  # a connection that nothing was sent over for this long is closed; a reader refreshes more often
ANSWERS_PER_ROUND = 1_000  # answers of one link before the others are looked at
CORRUPT_FETCHES_MAX = 3  # one bad checksum may come from the wire; the same again comes from the disk
ADMIN_FULL_DISK_S = 3.0  # how long a change waits for room on a disk: a few looks, since somebody has to make it
ADMIN_ATTEMPT_S = 10.0  # when the same is asked again: a controller may have died with the answer
TOPIC_CONFIRM_S = 0.4  # how long a topic or a partition may be unknown to one node after another has made it
PRODUCER_ID_ATTEMPT_S = 2.0  # an id costs one commit at most, and one that is never used is no loss
OFFSETS_ATTEMPT_S = 3.0  # the bounds of a partition are cheap to ask for again
THROTTLED_S = 1.0  # how long a node is waited for that is asked whom it holds back: `raftlog top` asks each second
TOPIC_SETTLE_S = 1.0  # how long making a topic waits for the slowest living node to hear of it
SUBSCRIBED_METADATA_MAX_AGE_S = 5.0  # new topics and partitions are read after this long at the latest
GROUP_RETRY_S = 0.1  # when a coordinator that was asked in vain is asked again
LAG_GROUPS_MAX = 1_000  # of one coordinator, looked at for their lag: each is a question
LAG_RECORD_S = (
    30.0  # the first record that a group has not read is read again this late: compaction may have removed it
)
JOIN_ATTEMPT_S = 10.0  # a JoinGroup waits for the slowest member; a coordinator that hangs is left for its successor
HEARTBEAT_ATTEMPT_S = 3.0  # a coordinator that hangs is left for its successor
LEAVE_S = 2.0  # how long a member that leaves waits for its coordinator: otherwise its session ends by itself
COMMIT_ATTEMPT_S = 5.0  # a commit of the offsets log takes milliseconds
GIVE_UP_COMMIT_S = 5.0  # a commit before partitions are given up holds the whole group's rebalance up
