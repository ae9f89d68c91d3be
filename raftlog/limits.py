"""Every bound of raftlog, in one place, each with its reason. Units come last."""

from __future__ import annotations

PROTOCOL_VERSION = 1  # what both ends of a link speak; a handshake refuses any other

# --- names ---------------------------------------------------------------------------------
TOPIC_NAME_MAX_CHARS = 249  # Kafka's: the name and "-<partition>" must fit a file name of 255
PARTITIONS_PER_TOPIC_MAX = 256  # a process each; above this a machine is better split
NODE_ID_MAX = 2**31 - 1  # Kafka's broker ids are int32
OFFSET_MAX = 2**63 - 1  # an int64 in every batch
LEADER_EPOCH_MAX = 2**31 - 1  # an int32 in every batch

# --- frames --------------------------------------------------------------------------------
RECORD_BYTES_MAX = 64 * 1024 * 1024  # no topic may allow more; a record must fit one frame
FRAME_BYTES_MAX = RECORD_BYTES_MAX + 1024 * 1024  # checked by ZeroMQ before it allocates
DECOMPRESSED_BYTES_MAX = 2 * RECORD_BYTES_MAX  # of one batch; a few kilobytes may claim gigabytes
HEADER_BYTES_MAX = 1024 * 1024  # a header carries names and numbers, never records
FRAMES_PER_MESSAGE_MAX = 64  # a message is a header and its payload; more is not ours
BATCH_BYTES_MAX = RECORD_BYTES_MAX + 4096  # on a disk, more is damage; replicas once took so much above the limit
FETCH_BYTES_MAX = 8 * 1024 * 1024  # one answer: a turn of 4 ms; of the smallest batches 40, or 230 with checksums
FETCHED_BYTES_PER_TURN = 16 * 1024 * 1024  # of all fetches: 40 ms of a busy machine; the others wait for the next turn
FETCH_WAIT_MAX_MS = 60_000  # a long poll beyond it tells a dead client from a waiting one too late

# --- one worker ----------------------------------------------------------------------------
SOCKET_HWM_MESSAGES = 20_000  # above what the in-flight limits below allow to be queued
REQUESTS_PER_TURN = 2_000  # bounds a turn, and with it the delay of a heartbeat
BYTES_PER_TURN = 8 * 1024 * 1024  # likewise; also the most that one sync has to write
INSPECTED_BYTES_PER_TURN = 1024 * 1024  # unpacked to look into batches: some milliseconds of a turn
INSPECTED_BYTES_MAX = 2 * DECOMPRESSED_BYTES_MAX  # held unpacked at a time, of all batches that are looked into
SEARCHED_RECORDS_PER_TURN = 2_000  # by time: two milliseconds of a turn
TIME_SEARCHES_AT_ONCE = 2  # each holds a batch unpacked; a short one does not wait behind a long one
TIME_SEARCH_S = 30.0  # since it was last asked for: clients ask again after OFFSETS_ATTEMPT_S, unless they are gone
UNANSWERED_PRODUCES_MAX = 50_000  # memory of what waits for a commit
UNANSWERED_PRODUCE_BYTES_MAX = 256 * 1024 * 1024  # likewise, where batches are large
WAITING_FETCHES_MAX = 10_000  # each holds memory and is looked at when the high watermark moves
PRODUCE_TIMEOUT_MAX_MS = 300_000  # a client that waits longer has long retried

CLIENT_WAITING_BYTES_MAX = 8 * FETCH_BYTES_MAX  # answers that a client has not taken; ours have a few on their way
CLIENTS_WAITING_BYTES_MAX = 4 * CLIENT_WAITING_BYTES_MAX  # of all; above it fetches are refused, to be sent again
CLIENT_SILENT_S = 15.0  # a client that takes nothing of its answers for so long is disconnected
UNFINISHED_BYTES_MAX = 4 * FRAME_BYTES_MAX  # of all messages of which not every part has come
CONNECTIONS_MAX = 4_000  # of clients to one process, which has descriptors for its files besides

# --- replication ---------------------------------------------------------------------------
HEARTBEAT_S = 0.4  # idle cost against the time to notice a silent leader; a dead one is noticed by its connection
ELECTION_TIMEOUT_MIN_S = 1.25  # three lost heartbeats
ELECTION_TIMEOUT_MAX_S = 1.8  # failover from a leader that hangs stays under 2.5 s
LEADER_GONE_S = 0.15  # when the leader is known to be gone, candidates still spread over this
LEADER_FALLBACK_S = 1.5  # a leader without a majority steps down; consensus.md asks for about 2
PREFERRED_LEADER_S = 5.0  # a preferred replica in sync for so long leads again; a node that flaps does not
PREFERRED_LEADER_AGAIN_S = 2.0  # after a move that failed: a machine that was busy for a moment; doubled by each one
PREFERRED_LEADER_AGAIN_MAX_S = 30.0  # up to this: a move that cannot work pauses appends for 0.3 % of the time
MOVE_S = 0.1  # a move of the leadership pauses appends for no longer
APPEND_WINDOW_MESSAGES = 64  # AppendEntries in flight to one follower
APPEND_WINDOW_BYTES = 16 * 1024 * 1024  # what a stalled follower may pin in the send queue
APPEND_MESSAGE_BYTES = 1024 * 1024  # one AppendEntries, unless a single batch is larger
APPEND_LOST_AFTER_S = 1.0  # a window without progress for this long is lost: back to probe
STREAM_CONNECTIONS_MAX = 64  # of peers to one worker's port for Raft: one each, and those that broke unnoticed
STREAM_STRANGERS_MAX = 64  # likewise of those that have not named its boot id; the next one ends the oldest of them
STREAM_GREETING_S = 3.0  # for that: a link sends it when the connection is there
STREAM_SILENT_S = 10.0  # a message of which no byte comes for so long is dropped; longer than a node may hang
STREAM_MESSAGE_S = 60.0  # a message that takes longer in all is dropped: the largest at 1 MB/s
STREAM_UNFINISHED_BYTES_MAX = 4 * FRAME_BYTES_MAX  # of all messages that are half there; one leader sends at a time
STREAM_QUEUE_BYTES_MAX = 2 * FRAME_BYTES_MAX  # to one peer that takes nothing: any message, and the append window
WITNESS_FEED_S = 1.0  # as long as nothing waits for it: each time a witness writes its state whole
TAIL_CACHE_BYTES = 40 * 1024 * 1024  # recent batches kept for followers (consensus.md)
RECOVERY_S = 30.0  # so long an accepted loss holds: a few elections; then it has to be accepted again

FOLLOWER_TAIL_BYTES = 4 * 1024 * 1024  # a follower serves nobody; enough to map an index to an offset
IN_SYNC_SILENT_S = 0.5  # a follower that owes its leader a success for this long leaves the ISR
IN_SYNC_FIRST_S = 0.3  # likewise one that a new leader has never heard
IN_SYNC_FOUND_S = 1.0  # likewise one that has not reached a new leader's first entry by then
IN_SYNC_LAG_S = 10.0  # likewise one behind for this long (Kafka's replica.lag.time.max.ms is 30 s)
IN_SYNC_JOIN_S = 0.5  # one that held all of the log so lately is waited for, to become a member again

# --- storage -------------------------------------------------------------------------------
INDEX_INTERVAL_BYTES = 16 * 1024  # one index entry per so many bytes of log
INDEX_COMMIT_BYTES = 4 * 1024 * 1024  # LMDB is written after so many bytes of synced log
INDEX_MAP_START_BYTES = 1024 * 1024  # an idle replica maps no more than this
INDEX_MAP_STEP_BYTES = 8 * 1024 * 1024  # the map grows by this when full
INDEX_MAP_BYTES_MAX = 4 * 1024 * 1024 * 1024  # address space only; the index of half a terabyte of log
INDEX_PENDING_MAX = 16_384  # entries kept in memory when the index cannot be written; then appends are refused
OPEN_SEGMENTS_MAX = 16  # descriptors that old segments of one replica may hold
READER_PLACES_MAX = 64  # readers of one replica that go on where they stopped, without a lookup
DOUBT_REASON_CHARS_MAX = 1000  # a replica that is cut again and again must not grow its state
WITNESS_EPOCHS_MAX = 64  # a witness writes all of them at each change; the older ones are committed
PRODUCER_BATCHES_MAX = 5  # of one producer, whose repetition is answered with their offset, so as many in flight
PRODUCERS_MAX = 10_000  # remembered by one partition: 10 MB of memory, 2 MB of each snapshot
PRODUCER_IDLE_MS = 7 * 24 * 3600 * 1000  # a producer that wrote nothing for so long is forgotten; its retries are over
PRODUCER_CROWDED_IDLE_MS = 3600 * 1000  # likewise where there are too many; longer than any client retries
PRODUCER_SNAPSHOT_BYTES = 16 * 1024 * 1024  # log whose headers a start reads again: 60,000 small batches in 0.1 s
PRODUCER_SNAPSHOTS_MAX = 4  # kept between two segment starts, for truncations; older ones go
COMMIT_BOUND_S = 0.9  # the design asks for "within a second of any advance"
SEGMENT_BYTES_MIN = 1024  # small, so that tests can roll often
HOUSE_S = 1.0  # how often a replica looks at the age of its segments
SCRUB_S = 4.0  # every replica reads SCRUB_BYTES of its log again this often, to find damage before it is needed
SCRUB_BYTES = 128 * 1024  # some 3 GB a day; small batches cost 0.03 % of a core, of the 0.2 % that may be idle
COMPACTION_DIRTY_RATIO = 0.5  # of the closed segments' bytes: Kafka's; twice the writing at most for keys that all stay
COMPACTION_KEYS_MAX = 200_000  # of one pass: 35 MB while it lasts; more keys take more passes
COMPACTION_SLICE_BYTES = 32 * 1024  # read at once, 1 to 2 ms; a turn waits no longer for it
COMPACTION_BATCH_BYTES = 300  # of a slice, for each batch beside its bytes: what a header and a codec's start cost
COMPACTION_RECORD_BYTES = 30  # likewise for each record, if its bytes are fewer: a thousand of them in a slice
COMPACTION_S = 0.01  # between two slices: 3 MB/s, and most of a core is left to the clients
COMPACTION_SYNC_BYTES = 1024 * 1024  # written, then synced: a whole segment at once would hold a turn up
COMPACTION_RETRY_S = 30.0  # a pass that found no room is begun again after this
HEAD_SEGMENTS_MAX = 64  # removed in one turn: some milliseconds each, of large files
CLEAN_MARKS_MAX = 16  # times at which tombstones were cleaned; one fewer keeps some a little longer
DISK_RETRY_S = 1.0  # a partition without room looks again this often

# --- controller ----------------------------------------------------------------------------
TOPICS_PER_REQUEST_MAX = 100  # one request is one record batch, which has to fit a segment and a turn
MUTATIONS_REMEMBERED_MAX = 1_000  # changes of topics whose repetition is recognised: 25 KB of the image
PRODUCER_ID_BLOCK = 1_000  # ids that one metadata record gives to a controller; int64 has no end
WAITING_ADMIN_REQUESTS_MAX = 1_000  # decided one at a time; more would wait longer than their time-out

# --- group coordinator ---------------------------------------------------------------------
GROUP_NAME_MAX_BYTES = 256  # of a group id, an instance id and a client id: they are in records, over and over
SESSION_TIMEOUT_MIN_MS = 1_000  # a few heartbeats on a busy machine
SESSION_TIMEOUT_MAX_MS = 1_800_000  # Kafka's: so long a dead member may hold its partitions
REBALANCE_TIMEOUT_MAX_MS = 24 * 3600 * 1000  # a member that needs longer for one poll is not waited for
GROUP_INITIAL_DELAY_S = 0.1  # members started together join one generation; Kafka waits 3 s for the same
GROUP_MEMBERS_MAX = 1_000  # each answer to a leader names all of them
GROUP_BYTES_MAX = 4 * 1024 * 1024  # subscriptions of all members: they are one record, and one answer
GROUPS_MAX = 10_000  # with members, of one partition of `__consumer_offsets`
COMMITTED_OFFSETS_MAX = 1_000_000  # keys of one such partition: some 300 MB of memory
OFFSETS_PER_GROUP_MAX = 10_000  # committed together, or deleted together, they are one batch
OFFSET_METADATA_CHARS_MAX = 4_096  # Kafka's
GROUP_WRITES_IN_FLIGHT_MAX = 50_000  # memory of what waits for a commit
COORDINATOR_BATCH_BYTES = 1024 * 1024  # what is put together into one batch, unless one request is larger
COORDINATOR_RECORD_BYTES_MAX = 8 * 1024 * 1024  # a group's record: subscriptions and assignments of all members
COORDINATOR_SEGMENT_BYTES = 4 * 1024 * 1024  # compaction leaves the last one alone: a start reads it in half a second
COORDINATOR_PARTITIONS_MAX = 8  # a worker each on three nodes; one takes thousands of commits a second
COORDINATOR_REPLAY_BYTES = 512 * 1024  # applied between two turns of the worker: some 30 ms
OFFSETS_RETENTION_MS = 7 * 24 * 3600 * 1000  # Kafka's: of a group without members
OFFSETS_SCAN_S = 600.0  # how often such groups are looked for

# --- supervisor ----------------------------------------------------------------------------
GOSSIP_S = 0.5  # also sent at once when something changed
NODE_SILENT_S = 3.0  # six lost gossips: the node counts as not alive
VOTERS_HEARD_S = 1.5  # three lost gossips of a majority of voters: what this node knows may be old, and it says so
WORKER_BACKOFF_MIN_S = 0.1  # one crash costs no more than an election
WORKER_BACKOFF_MAX_S = 10.0  # one that cannot start must not eat a core, and must be tried again
METADATA_SNAPSHOT_RECORDS = 2_000  # replayed in some 50 ms at a start; a snapshot is some 100 bytes per partition
ADMIN_TIMEOUT_MS = 30_000  # longer than an election of the controller and a slow disk together
NODES_MAX = 1_000  # what others claim to be is kept in memory; far above what one cluster has
STATUS_S = 0.5  # how often a worker that is at work tells its figures; who leads is told at once
WORKER_STOP_S = 5.0  # a clean stop syncs a few files; one that takes longer is ended by a signal
WORKER_STABLE_S = 10.0  # a worker that ran for so long starts again without back-off
LOCAL_MESSAGE_BYTES_MAX = 64 * 1024 * 1024  # between supervisor and worker: the metadata image is the largest
LOCAL_QUEUE_BYTES_MAX = 128 * 1024 * 1024  # to a worker that does not read; above this it is ended
IDENTITY_WAIT_S = 0.5  # so long a starting node waits for what the others know of it, unless all have said it
TWIN_WAIT_S = 2 * NODE_SILENT_S  # so long the process before may still be thought to be alive; then it is
FOREIGN_WAIT_S = 2.0  # so long a starting node waits for one of its own cluster before it says it is elsewhere

# --- client ---------------------------------------------------------------------------------
METADATA_BACKOFF_MIN_S = 0.02  # the first look for a new leader comes at once: elections may be over
METADATA_BACKOFF_MAX_S = 1.0  # a cluster that is down is not helped by more questions
METADATA_ELECTION_S = 0.5  # so long a client asks at the least back-off: most elections are over by then
METADATA_STREAK_ENDS_S = 0.3  # after so long without a wish the next one is another trouble, and starts anew
METADATA_EAGER_S = 5.0  # as long as an election may be under way, the back-off stays small
METADATA_EAGER_BACKOFF_S = 0.2  # what it then costs at most to learn of the new leader
METADATA_ANSWER_S = 1.0  # a node that does not answer for so long is passed over for the next
METADATA_MAX_AGE_S = 60.0  # what no error brought to light is learned after this
METADATA_NODES_TRIED = 3  # connected to at the same time while none answers
CONNECT_PATIENCE_S = 0.3  # a leader that cannot be connected to for so long may have moved: ask
LEADER_EPOCH_MEMORY_S = 10.0  # so long an older leader epoch counts as old news of a slow node
IMAGE_MEMORY_S = 10.0  # likewise an older metadata image, while confirmed nodes name no newer one
UNCONFIRMED_S = 2.0  # so long another node is looked for that hears a majority of the voters; then what one says counts
FOREIGN_CLUSTER_S = 3.0  # so long nodes of the own cluster are looked for while only another cluster's answer
LEADER_SILENT_S = 1.0  # a leader that answers nothing for so long may be gone: ask who leads
LEADER_MOVED_S = 0.3  # how long the last answers of a leader are waited for when another one is known
UNACKNOWLEDGED_METADATA_S = 2.0  # with acks=0 nobody says that the leader moved, so it is asked this often
TOPIC_UNKNOWN_S = 3.0  # a topic that nobody knows for so long does not exist; gossip is faster
RETRY_BACKOFF_MIN_S = 0.02  # before the same partition is asked again
RETRY_BACKOFF_MAX_S = 0.5  # likewise, after many refusals in a row
EXPIRY_SCAN_S = 0.1  # how exactly time-outs of requests are kept
RECONNECT_BACKOFF_MIN_S = 0.02  # a restarted worker or node is found again within a few of these
RECONNECT_BACKOFF_MAX_S = 0.5  # an address where nobody is costs two attempts a second
CLOSE_LINGER_S = 5.0  # a node that takes nothing for so long does not keep a client that wants to end
CLOSE_GRACE_S = 0.5  # after the time of `close`: a client's thread that a callback keeps is left behind
LINK_IDLE_S = 10.0  # a connection that nothing was sent over for so long is closed; above all refreshes of who reads
ANSWERS_PER_ROUND = 1_000  # of one link, before the others are looked at
CORRUPT_FETCHES_MAX = 3  # a bad checksum may come from the wire; the same again comes from the disk
ADMIN_ATTEMPT_S = 10.0  # before the same is asked again: a controller may have died with the answer
TOPIC_CONFIRM_S = 0.4  # so long a topic, or a partition, may be unknown to one node after another has made it
PRODUCER_ID_ATTEMPT_S = 2.0  # an id costs one commit at most, and one that is never used is no loss
OFFSETS_ATTEMPT_S = 3.0  # the bounds of a partition are cheap to ask for again
TOPIC_SETTLE_S = 1.0  # how long making a topic waits for the slowest living node to hear of it
SUBSCRIBED_METADATA_MAX_AGE_S = 5.0  # topics and partitions that come are read after so long at the latest
GROUP_RETRY_S = 0.1  # before a coordinator that was asked in vain is asked again
JOIN_ATTEMPT_S = 10.0  # a JoinGroup waits for the slowest member; a coordinator that hangs is left for its successor
HEARTBEAT_ATTEMPT_S = 3.0  # likewise
LEAVE_S = 2.0  # what a member that leaves waits for its coordinator: otherwise its session ends by itself
COMMIT_ATTEMPT_S = 5.0  # a commit of the offsets log takes milliseconds
GIVE_UP_COMMIT_S = 5.0  # a commit before partitions are given up holds the whole group's rebalance up
