"""Every bound of Perdure, with its unit and the reason for its size."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- identifiers (bytes of UTF-8) ---------------------------------------------------------------
TENANT_ID_MAX: Final = 128  # contract: 1..128 characters of a small alphabet
REGISTRY_KEY_MAX: Final = 256  # contract: MAX_REGISTRY_KEY_LEN, for keys, tags and process ids
MESSAGE_ID_MAX: Final = 512  # room for `<id>/<process id>~<n>`, which the engine derives
SOURCE_MAX: Final = 256  # who sent a message; a URL fits
FLOW_PULLED: Final = 100  # processes that one transaction lets begin because there is room
PRIORITY_MAX: Final = 2**31 - 1
RESTART_EVENTS_MAX: Final = 5_000  # events of a turn that is run again from a step: they are copied in one transaction
REASON_MAX: Final = 512  # bytes of a reason that a person gives, on one line
STEP_NAME_MAX: Final = 256
PATCH_NAME_MAX: Final = 256  # what a change of code is called: as long as a step's name
STREAM_NAME_MAX: Final = 512
OPERATION_SCOPE_MAX: Final = 256  # who asks: a client, a stream, a process
OPERATION_ID_MAX: Final = 512  # a UUID, or a stream's name and a number
METHOD_MAX: Final = 256  # what an operation is asked to do
ACTOR_MAX: Final = 256  # who resolved it

# --- writer ---------------------------------------------------------------------------------------
BATCH_MAX: Final = 512  # transactions; larger batches gain nothing and delay the first caller
BATCH_BYTES_MAX: Final = 4 * MIB  # payload of one batch; keeps one fsync under some 20 ms
TRANSACTION_BYTES_MAX: Final = 4 * MIB
QUEUE_MAX: Final = 100_000  # transactions that wait; at 10,000/s that is 10 s of work
CONFLICT_TRIES: Final = 3  # locked runs of one batch before it is tried in halves
LOCK_ROUNDS: Final = 5  # tries of a batch with locks until it has discovered all that it looks at
DISCOVERY_ROUNDS_MAX: Final = 10_000  # reads that one batch may discover; more is a loop in a decision
CACHE_ROWS: Final = 50_000  # rows kept in memory between batches
CACHE_BYTES: Final = 64 * MIB  # of text and blobs in those rows

# --- SQLite ------------------------------------------------------------------------------------------
SQLITE_BUSY_MS: Final = 10_000  # how long to wait for another process's write lock
SQLITE_WAL_PAGES: Final = 8_000  # checkpoint when the WAL is longer: 32 MiB at 4 KiB a page
SQLITE_IDLE_MS: Final = 500  # without a commit for so long, the WAL is copied into the file
SQLITE_IDLE_PAGES: Final = 100  # a shorter WAL is not worth the two syncs
SQLITE_OPEN_MS: Final = 2_000  # how long an opening waits for a whole checkpoint beside other processes
SQLITE_PAGES_BYTES: Final = 16 * MIB  # pages that a connection keeps; one that it has to ask the system for again costs some 1.5 us
SQLITE_ALONE_ROWS: Final = 16  # rows of a batch that is one caller's: he waits for it, nobody else does
SQLITE_QUICK_COMMIT: Final = 0.001  # seconds; a disk whose last commit was slower is not waited for on the event loop
SQLITE_POLL_MS: Final = 20  # how often a waiter looks for another process's commits

# --- PostgreSQL --------------------------------------------------------------------------------------
POSTGRES_CONNECT_SECONDS: Final = 5.0  # for one server to answer; the next one is tried then
POSTGRES_STATEMENT_SECONDS: Final = 30.0  # for one statement: the server ends it then, also one whose client is gone
POSTGRES_ANSWER_SECONDS: Final = 35.0  # for the server's answer: beyond that the connection is taken for lost
POSTGRES_IDLE_MS: Final = 5_000  # that the server waits for the next statement of a batch with locks: others wait for these
POSTGRES_KEEPALIVES: Final = {"idle": 4, "interval": 2, "count": 3}  # of the server: some 10 s, and it ends what a dead machine has left
POSTGRES_RETRY_SECONDS: Final = 0.05  # before a connection is tried again, doubled each time
POSTGRES_RETRY_MOST_SECONDS: Final = 1.0
POSTGRES_READ_TRIES: Final = 8  # of a read outside of a batch, with the same pauses: some 5 s, a restart of the server
POSTGRES_READERS: Final = 4  # connections of one store that read outside of batches
POSTGRES_READER_SECONDS: Final = (
    0.02  # that a read waits for one before another is made: to connect and to look at its first tables takes as long
)
POSTGRES_PREPARED: Final = 500  # statements that a connection keeps prepared: a batch is one of some hundred shapes
POSTGRES_TEXTS: Final = 2_000  # texts of batches' statements, some kB each, that a store keeps: of those that read, and of those that write
POSTGRES_PLANS_RUNS: Final = 64  # statements after which a connection plans anew, and again whenever they have doubled
POSTGRES_POLL_MS: Final = 500  # how often a waiter looks for other nodes' commits, if no notice of them comes
POSTGRES_NOTICE_BYTES: Final = 7_900  # of one notice: the server takes less than 8,000
POSTGRES_NOTICE_MS: Final = 10  # notices of commits are put together for so long
LEASE_US: Final = 10_000_000  # microseconds that a node's shards are its own without a commit; so long they wait when it dies
LEASE_MARGIN_US: Final = 2_000_000  # before the end of its lease a node begins nothing more: for clocks that go at different speeds
LEASE_RENEW_US: Final = 3_000_000  # a node that has committed nothing for so long commits an empty batch
LEASE_LOOK_SECONDS: Final = 1.0  # between two looks at who has died and what is free
LEASE_LOOKS: Final = 2  # looks that a free shard is left to whose share it is: after that, whoever looks next takes it
LEASE_GIVE_TRIES: Final = 6  # to give back what an engine that stops has owned, with pauses of some 3 s together
OPEN_US: Final = (
    60_000_000  # microseconds that a store counts as open without a sign of it: so long a dead node holds back a contract migration
)
OPEN_RENEW_SECONDS: Final = 15.0  # between two signs of an open store
MIGRATION_LOCK_MS: Final = 2_000  # that a migration waits for who uses a table: everybody else waits behind it
MIGRATION_TRIES: Final = 5  # of a migration, with a second for the others in between
TICK_SLOTS: Final = 64  # writers that give out ticks of their own: more at a time meet now and then, and decide again

# --- copies of stores ----------------------------------------------------------------------------------
COPY_ROWS: Final = 1_000  # rows of one chunk, which is one commit of the target
COPY_BYTES: Final = 1 * MIB  # a chunk takes no further row behind so many bytes
COPY_CHECKPOINT_BYTES: Final = 32 * MIB  # that arrived in a file since its WAL was copied
COPY_IDLE_MS: Final = 60_000  # that a server waits for the next statement of a copy, whose locks others wait for
COPY_LOCK_MS: Final = 10_000  # to wait for those who write into the source

# --- writers ------------------------------------------------------------------------------------------
WRITER_ROW_DAYS: Final = 30  # a writer not seen for so long is folded into the base row

# --- durations (microseconds) -------------------------------------------------------------------------
DURATION_MAX: Final = 100 * 366 * 86_400 * 1_000_000  # a century: for ever in effect, and any sum with an instant fits 64 bits

# --- pages --------------------------------------------------------------------------------------------
PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1_000  # rows of one page that a caller may ask for
INSTANT_MAX: Final = 2 * DURATION_MAX  # microseconds since the epoch of what a caller names: into the 22nd century
READ_PAGE: Final = 500  # rows of one page inside the engine
LIST_ROWS_MAX: Final = 10_000  # rows that one page of a list looks at to find those that are asked for: some 100 ms
AHEAD_MAX: Final = 20  # messages before another in a mailbox that are counted for people: each is up to 1 MiB
VERIFY_TRIES: Final = 3  # looks at what does not fit, which may be a commit that came between two reads

# --- conversations and streams ----------------------------------------------------------------------------
SHARDS: Final = 64  # shares of all processes, as a new store is made
SNAPSHOT_MAX: Final = 1 * MIB  # bytes; a snapshot names what is open, not what was recorded
IMPORT_CHUNK: Final = 500  # events that one transaction imports
SEQUENCE_MAX: Final = 2**62  # a sequence and any batch behind it fit 64 bits with sign
STREAM_BATCH_MAX: Final = 1_000  # entries that one transaction appends
ARCHIVE_LOOK: Final = 64 * KIB  # bytes of an archive's end that are looked through at once for its last whole line
SWEEP_CHUNK: Final = 64  # rows that one transaction of a sweep removes: they are read first, 1 MiB each at most
SWEEP_PAGES: Final = 8  # such transactions in one commit, and only while there is more to remove than one a commit can
SWEEP_COMMANDS: Final = 8  # commands that one transaction of a sweep removes: their params and results are read first, 1 MiB each at most
SWEEP_PROCESSES: Final = 16  # processes that a sweep works on at once: they share its commits
SWEEP_RETRY_US: Final = 60_000_000  # microseconds between tries to sweep when the archive or the store refused
TRUNCATE_CHUNK: Final = 64  # entries that one transaction drops: they are read first, 1 MiB each at most

# --- payloads (bytes) ------------------------------------------------------------------------------------
MESSAGE_MAX: Final = 1 * MIB
STEP_OUTPUT_MAX: Final = 1 * MIB
RESULT_MAX: Final = 1 * MIB
RESPONSE_MAX: Final = 1 * MIB
STREAM_ENTRY_MAX: Final = 1 * MIB
HEADERS_MAX: Final = 16 * KIB
ERROR_TEXT_MAX: Final = 16 * KIB
FIELDS_WARN: Final = 64 * KIB  # durable fields of one process are written whole
FIELDS_MAX: Final = 1 * MIB
SCHEMA_DOCUMENT_MAX: Final = 256 * KIB
SCHEMA_TYPES_MAX: Final = 1_000  # named types reachable from one root
SCHEMA_DEPTH_MAX: Final = 64  # objects and arrays inside one another, in canonical JSON
PLAN_VALUES_MAX: Final = 1_024  # integers of a bounded range that a plan tries one by one

# --- engine ------------------------------------------------------------------------------------------------
MAX_THREADS: Final = 32  # threads for plain functions
MAILBOX_MAX: Final = 10_000  # messages queued for one process
MAIL_BLOCK: Final = (
    100  # messages of one mailbox that its tenant's count sees at once, so that its row is no bottleneck; the first are free
)
TENANT_MAIL_MAX: Final = 1_000_000  # messages queued for the processes of one tenant, beyond the first block of each
MAIL_WINDOW: Final = 500  # messages of one mailbox in memory
MAIL_LOOK: Final = 8  # messages looked at first for one that starts a turn: most often it is the oldest
MAX_CONCURRENCY: Final = 64  # turns that run while several tenants want to: another's workflow takes some 40 ms beside a flood
MAX_CONCURRENCY_ALONE: Final = 256  # turns that run while one tenant is alone: large commits, and messages still get through between timers
BESIDE_US: Final = 1_000_000  # microseconds for which a tenant that was seen is taken to come again
MAX_STEPS: Final = 1_000  # steps under way at the same time
MAX_RESIDENT: Final = 10_000  # processes in memory, some 7 kB each, beyond those that have something under way
DISPATCH_MAX: Final = 10_000  # keys of one tenant's processes that wait for a slot; what is over it is read from the store
DISPATCH_NOTES: Final = 1_000  # of those, turns that can begin without a read
DISPATCH_NOTE_BYTES: Final = 4 * KIB  # a message that is longer is read again
WAKE_UPS: Final = 50  # processes that one round of the loop brings into memory, or lets go: some 5 ms
LONG_STEP_US: Final = 20_000  # microseconds; a turn whose steps take longer does not keep others from running
REST_US: Final = 1_000_000  # microseconds that a waiting turn stays in memory at least: most answers come soon
REST_REPLAYS: Final = 20  # times its replay that it stays at least, so that replays are a twentieth of the work at most
REST_MAX_US: Final = 3_600_000_000  # microseconds that it stays at most; a replay of 3 minutes is beyond TURN_EVENTS_MAX
REPLAY_EVENT_US: Final = 7  # microseconds to replay an event, for turns that were never replayed
FAN_OUT_CHUNK: Final = 100  # members that one transaction delivers to
CANCEL_CHUNK: Final = 100  # children of a cancelled process that one transaction asks to stop, and messages of those that end at once
EFFECTS_CHUNK: Final = 500  # effects that one transaction commits
EFFECTS_CHUNK_BYTES: Final = 1 * MIB  # of payload in them, unless a single effect is larger
TURN_EVENTS_WARN: Final = 2_000
TURN_EVENTS_MAX: Final = 50_000  # replay costs some 7 us an event
TURN_CALLBACKS_MAX: Final = 1_000_000  # callbacks of a turn between two inputs, about a second; more is a loop that polls
LEAVE_ROUNDS: Final = 100  # times that code which leaves memory may catch its cancellation
POISON_SOLO_AFTER: Final = 2  # crashes before a turn is resumed alone
POISON_ATTEMPTS: Final = 5  # attempts alone before the message is a dead letter
LATER_MORE: Final = 64  # callbacks that one round of the loop runs beyond those queued at its begin: turns that follow turns
LATER_BESIDE: Final = 32  # of one round where a server works on batches: it has the first of them while the others are on their way
LATER_MAX: Final = 1_000  # callbacks of one round: some 50 ms of turns, so that everything else on the loop gets its time
GC_THRESHOLD: Final = (
    100_000  # objects made between two looks for cycles while an engine is open; a thousand turns at once have as many that live
)
CLOSE_SECONDS: Final = 10.0  # that an engine which closes waits for a server that does not answer: its lease is over by then
REPLY_LOOK_SECONDS: Final = 1.0  # between two looks for replies that other nodes seal, if no notice of them comes
OWN_ID_TRIES: Final = 1_000  # ids that are drawn for a process, until one belongs to a shard of this node's
INBOX_TAKEN: Final = 500  # words that one transaction takes out of the inbox
STALL_US: Final = 1_000_000  # microseconds between tries to commit a turn while the disk is full or locked
SECONDS_MAX: Final = 10**12  # seconds, 31,700 years; twice as much in microseconds fits into 64 bits
WATCHDOG_SECONDS: Final = 1.0  # seconds that the event loop may be held up before the line is named; it is asked as often
WATCHDOG_FRAMES: Final = 20  # lines of the stack that are shown, the innermost ones
RETRY_ATTEMPTS_MAX: Final = 1_000  # durable attempts of one step

# --- search attributes -----------------------------------------------------------------------------------------
ATTRIBUTES_MAX: Final = 32  # of one process: their names are in its row, which each commit writes
ATTRIBUTE_NAME_MAX: Final = 64  # ASCII characters; all names together are 2 KiB at most
ATTRIBUTE_VALUE_MAX: Final = 256  # bytes of UTF-8: it is part of the index
# --- schedules (durations in microseconds) --------------------------------------------------------------------
SCHEDULE_ID_MAX: Final = 200  # bytes; with a slot and a number behind it, it is still a process id
SCHEDULE_INTERVAL_MIN_US: Final = 1_000_000  # a second: what is more frequent is a loop in a process
SCHEDULE_INTERVAL_MAX_US: Final = 366 * 86_400 * 1_000_000  # a year: what is rarer is a date, and a date is a cron expression
SCHEDULE_JITTER_MAX_US: Final = 86_400 * 1_000_000  # a day
SCHEDULE_WINDOW_MAX_US: Final = 366 * 86_400 * 1_000_000  # a year of downtime
SCHEDULE_LATE_US: Final = 60 * 1_000_000  # a slot that fires within a minute is on time: a restart takes less
SCHEDULE_CATCH_UP_MAX: Final = 1_000  # missed slots that one look fires or counts, some 15 us each
SCHEDULE_QUEUE_MAX: Final = 100  # slots that wait for the firing before them
SCHEDULE_RECENT: Final = 10  # firings that a schedule remembers
SCHEDULE_NEXT: Final = 5  # firings to come that are shown
SCHEDULE_PAYLOAD_MAX: Final = 64 * KIB  # it is written again with each firing
SCHEDULES_DECLARED_MAX: Final = 1_000  # of one app; each is a transaction at its start
SCHEDULE_PATTERNS: Final = 4_096  # expressions kept parsed
# --- commands -------------------------------------------------------------------------------------------------
COMMAND_NAME_MAX: Final = 256  # bytes of a command's name, its deployment and its target: as long as a registry key
COMMAND_ID_MAX: Final = 128  # `cmd_`, a UUID, and the number of a redrive
COMMAND_KEY_MAX: Final = 512  # bytes of an idempotency key; a UUID, or the name of what is done and a number
WORKER_MAX: Final = 256  # bytes of a worker's name, in the history
COMMAND_PARAMS_MAX: Final = 1 * MIB  # inline; what is larger is kept apart
COMMAND_RESULT_MAX: Final = 1 * MIB
COMMAND_MESSAGE_MAX: Final = 16 * KIB  # of an error, and of its details
COMMAND_ERROR_MAX: Final = 64 * KIB  # of an error that is set as it is: code, message and details, as JSON
COMMAND_CODE_MAX: Final = 128  # bytes of an error's code
COMMAND_CODES_MAX: Final = 100  # error codes that a policy gives up on
COMMAND_NOTE_MAX: Final = 512  # bytes of the note beside a worker's progress
COMMAND_NAMES_MAX: Final = 100  # names that one request for leases takes: each is a look of its own
COMMAND_LEASES_MAX: Final = 100  # commands that one request takes
COMMAND_LEASE_BYTES_MAX: Final = 8 * MIB  # of their params together, beyond the first
COMMAND_LEASE_US: Final = 60_000_000  # microseconds of a lease when nobody says so
COMMAND_LEASE_MIN_US: Final = 1_000_000  # a second: what is shorter is over before the worker has read it
COMMAND_LEASE_MAX_US: Final = 86_400 * 1_000_000  # a day; longer work renews
COMMAND_WAIT_US: Final = 30_000_000  # microseconds that a look for work or for an end waits at most: proxies cut longer ones
COMMAND_WAIT_MAX_SECONDS: Final = 366 * 86_400  # a year between two attempts
COMMAND_FACTOR_MAX: Final = 1_000_000  # between two waits: the first is then a second, the next beyond the longest
COMMAND_DELAY_MAX_US: Final = 366 * 86_400 * 1_000_000  # a year until it is given out
COMMAND_EVENTS_MAX: Final = 10_000  # of one command's history: one that is given back again and again does not grow for ever
COMMAND_DUE_CHUNK: Final = 64  # commands that one transaction ends or gives back because of their time
BLOB_MAX: Final = 64 * MIB  # bytes that are kept apart, params or a result
HTTP_REPEATED: Final = frozenset({0, 408, 425, 429, 500, 502, 503, 504})  # statuses after which the same request may succeed; 0: no answer
WORKER_CONCURRENCY_MAX: Final = 1_000  # commands that one worker does at the same time
WORKER_LEASE_MIN_US: Final = 5_000_000  # microseconds; a shorter lease ends while one renewal is lost
WORKER_MARGIN_US: Final = 1_000_000  # before the end of a lease that could not be renewed, a handler is stopped
WORKER_RENEWALS: Final = 3  # of a lease, before it ends
WORKER_UNKNOWN_US: Final = 5_000_000  # microseconds that a command of an unknown name is left to others
WORKER_RELEASE_US: Final = 5_000_000  # microseconds for which a worker that stops tries to give a command back
WORKER_ASK_US: Final = 1_000_000  # microseconds for which one request for work is repeated
CLIENT_CONNECT_SECONDS: Final = 5.0  # for a connection to the server
CLIENT_ANSWER_SECONDS: Final = 30.0  # for an answer, beyond what the server may wait itself
CLIENT_BODY_MAX: Final = 16 * MIB  # bytes of an answer: a page of leases with their params, with room
CLIENT_RATE: Final = 32 * KIB  # bytes a second that an upload or a download has at least, beside the time for an answer
CLIENT_RETRY_US: Final = 100_000  # microseconds before a request is repeated, doubled each time
CLIENT_RETRY_MOST_US: Final = 10_000_000
TOKEN_FILE_MAX: Final = 4 * KIB  # characters of a file that holds a token
COMMAND_LOOK_US: Final = 1_000_000  # microseconds between two looks of a node that does not do what is due itself
TRACEPARENT_MAX: Final = 256  # bytes; version 00 has 55
# --- blobs ---------------------------------------------------------------------------------------------------
BLOB_PART: Final = 512 * KIB  # bytes of one row of a blob, which is one transaction: other callers get in between
BLOB_UNUSED_US: Final = 3_600 * 1_000_000  # microseconds that a blob waits for somebody who refers to it, and an upload for its next part
BLOB_SWEEP_PARTS: Final = 4  # parts that one transaction removes: they are read first
BLOB_STREAMS_MAX: Final = 64  # uploads and downloads of one store under way: a part of each is in memory, 32 MiB together
# --- packages ------------------------------------------------------------------------------------------------
PACKAGE_ARCHIVE_MAX: Final = 64 * MIB  # bytes of an archive: it is in memory whole, in a node and on its way
PACKAGE_UNPACKED_MAX: Final = 256 * MIB  # bytes that its directory declares
PACKAGE_FILES_MAX: Final = 10_000  # some 0.3 s to check them all
PACKAGE_MANIFEST_MAX: Final = 8 * MIB  # bytes; 10,000 files with the longest paths are 6 MiB
PACKAGE_PARTS_MAX: Final = 250_000  # brackets, braces and commas of a manifest: each may become an object of some 100 bytes
PACKAGE_SCHEMA_WORK_MAX: Final = 1_000_000  # definitions of a schema document, squared, of all together: some 2 s to check them
PACKAGE_NAME_MAX: Final = 100  # characters
PACKAGE_PATH_MAX: Final = 512  # bytes of a path below `src/`
PACKAGE_DEPTH_MAX: Final = 32  # parts of a path
PACKAGE_OBJECT_MAX: Final = 1_024  # characters of `module:name`: a path, and a name in it
PACKAGE_TYPES_MAX: Final = 1_000  # process types of one package, which one transaction lists and routes
PACKAGE_KINDS_MAX: Final = 1_000  # kinds of messages of one process type
PACKAGE_REQUIRES_MAX: Final = 1_000  # distributions that one package requires
PACKAGE_RANGE_MAX: Final = 1_024  # characters of a range, and of a requirement with its marker
PACKAGE_SIGNATURES_MAX: Final = 32  # of one archive: who built it, who approved it, and what was rotated since
PACKAGE_KEYS_MAX: Final = 100  # keys that a policy trusts

# --- packages: loading a version -------------------------------------------------------------------------------
PACKAGES_LOADED: Final = 64  # versions that stay in memory without being in use: up to some MiB each, with their files
PACKAGES_IMPORTED: Final = 4  # versions whose code is imported at a time, each on a thread; an import that hangs keeps its own
PACKAGES_WATCHED: Final = 1_000  # evicted versions that are watched for whether something of theirs is still in use
PACKAGE_ERROR_MAX: Final = 1 * KIB  # characters of a failed import's class and text
PACKAGE_TRACEBACK_MAX: Final = 8 * KIB  # characters of a failed import's traceback, its end: some 60 frames

# --- packages: building one, and trying one out ----------------------------------------------------------------
PACKAGE_TRIAL_SECONDS: Final = 60.0  # that an interpreter has to import a package: large distributions take some 10 s on a cold disk
PACKAGE_TRIAL_END_SECONDS: Final = 1.0  # that its output is waited for afterwards: somebody who left its group may keep the pipe open
PACKAGE_TRIAL_OUTPUT: Final = 4 * KIB  # bytes that are kept of what its code prints, the end: what was printed before a crash
PACKAGE_TRIAL_REPORT_MAX: Final = 16 * MIB  # bytes of what an interpreter reports: every schema, in base64, and the warnings
PACKAGE_GIT_SECONDS: Final = 10.0  # that git has to tell the commit of a folder: it looks at each file of a large working copy
PACKAGE_WARNINGS_MAX: Final = 100  # of one kind that are named

# --- packages: an interpreter of its own -------------------------------------------------------------------------
APART_CALL_SECONDS: Final = 10.0  # that a child has for one advance, for which the engine's loop waits: long replays take a second
APART_START_SECONDS: Final = 60.0  # that it has to import its package, as long as a trial has
APART_END_SECONDS: Final = 2.0  # that it has to end by itself, with the `finally` of its steps, before it is killed
APART_FRAME_MAX: Final = 1_024 * MIB  # bytes of one frame: a whole window of mail with the record of a turn, or what one turn has made
APART_READ: Final = 256 * KIB  # bytes that are read of a socket at once
APART_IDLE: Final = 4  # children that go on without anybody who uses them: some 30 MiB each
APART_SOON_US: Final = 60 * 1_000_000  # microseconds after its start in which the end of a child counts against its version
APART_AGAIN_US: Final = 1_000_000  # microseconds before a child is started again that has ended twice, doubled each time
APART_AGAIN_MOST_US: Final = 60 * 1_000_000
APART_DOUBLINGS: Final = 6  # after which that is reached
APART_PIP_SECONDS: Final = 600.0  # that pip has for the distributions of one lock file
APART_LOCK_SECONDS: Final = 0.05  # between looks whether another has built an environment: to build one takes a tenth of a second at least
APART_OUTPUT: Final = 4 * KIB  # bytes that are kept of what pip says, the end

# --- packages: checking new code against what is stored --------------------------------------------------------
CHECK_EVENTS_MAX: Final = 10_000  # events of a process whose finished turns are replayed, too: some 65 ms
CHECK_PAGE: Final = 50  # messages that are read at once: each is up to 1 MiB
CHECK_FINDINGS_MAX: Final = 1_000  # findings of a report, some kB each; the others are counted
CHECK_VERSIONS_MAX: Final = 1_000  # earlier versions whose schemas are looked at; each archive is read, one after another
CHECK_SAMPLE_MAX: Final = 100_000  # processes of a sample, which are chosen before they are looked at
MOVE_TRIES: Final = 5  # to move a process that others change meanwhile; each replays its open turn

# --- packages: the store of archives, and routes ---------------------------------------------------------------
PACKAGE_PART: Final = 1 * MIB  # bytes of one row of an archive, which is one transaction: other callers get in between
PACKAGE_PIECE: Final = 64 * KIB  # bytes compressed at once: one or two ms that the event loop waits
PACKAGE_UPLOADS: Final = 2  # archives of one store that are compressed and stored at once: each is in memory twice
PACKAGE_UPLOAD_US: Final = 3_600 * 1_000_000  # microseconds that an upload waits for its next part before it goes
PACKAGE_SWEEP_PARTS: Final = 2  # parts that one transaction removes: they are read first
PACKAGE_DEPLOY_US: Final = 120_000_000  # microseconds that a deploy may take over HTTP: the trial import, and 64 MiB that are stored
PACKAGE_DEPLOY_TRIES: Final = 10  # to add signatures to an archive that others add theirs to
PACKAGE_READ_TRIES: Final = 5  # of an archive that is replaced while it is read
PACKAGE_BUILT_WITH_MAX: Final = 64 * KIB  # bytes of what was found when it was built, as JSON: a thousand distributions
PACKAGE_NEEDS_MAX: Final = 2 * MIB  # bytes of a package's declared environment, as JSON: a thousand requirements of the longest
PACKAGE_PINS_SHOWN: Final = 100  # processes that are named to who asks why a package stays
PACKAGE_TYPES_SHOWN: Final = 100  # types whose routes lead to a package, likewise
PACKAGE_UNLOAD_TRIES: Final = 10  # to remove a package that others begin to use again and again, or cease to
PACKAGE_PREFIX_MIN: Final = 8  # hex digits that name a package: among 1,000 some two begin alike in one of 8,600 stores
PACKAGE_KEEP_LAST: Final = (
    3  # versions of a type that a collection leaves alone unless it is told how many: this one, the one before, one more
)
PACKAGE_KEEP_MAX: Final = 1_000  # that it may be told to
PACKAGE_KEEP_US: Final = 30 * 86_400 * 1_000_000  # microseconds for which it leaves alone what is not used any more, likewise
ROUTE_BASIS_POINTS: Final = 10_000  # of a whole: a weight is a hundredth of a per cent
ROUTE_WEIGHTS_MAX: Final = 10  # weighted versions of one type at once; each start reads them
ROUTE_TENANTS_MAX: Final = 1_000  # tenants of one type with a version of their own: all are removed in one transaction when it is retired
# --- webhooks, CloudEvents and what is sent ----------------------------------------------------------------------
WEBHOOK_TOLERANCE_US: Final = 300_000_000  # microseconds that two clocks and the way may take: what Standard Webhooks and Stripe say
WEBHOOK_SECRET_MIN: Final = 24  # bytes of a Standard Webhooks secret, as the specification says
WEBHOOK_SECRET_MAX: Final = 64  # the specification's, and the block of SHA-256
WEBHOOK_SECRETS_MAX: Final = 8  # secrets of one source: two while they are rotated
WEBHOOK_SIGNATURES_MAX: Final = 16  # signatures of one request: each is compared with each secret's
WEBHOOK_HEADER_MAX: Final = 4 * KIB  # characters of a signature's header: 16 signatures are 1 KiB
SOURCE_NAME_MAX: Final = 64  # characters of a source's name, which is part of a path
SOURCES_MAX: Final = 1_000  # of one app
CLOUD_EVENT_ATTRIBUTES_MAX: Final = 64  # of one event; 20 are many
CLOUD_EVENT_ATTRIBUTE_MAX: Final = 8 * KIB  # characters of one attribute as a header, which is what HTTP servers take
SEND_URL_MAX: Final = 2_048  # characters, what everybody takes
SEND_BODY_MAX: Final = 2 * MIB  # a message or a result of 1 MiB, as Base64 with what is around it
SEND_HEADERS_MAX: Final = 8 * KIB  # characters of all headers, which is what HTTP servers take
SEND_SECONDS_MAX: Final = 300.0  # for one request, from the look-up of the name to the answer
SEND_CONNECTIONS: Final = 100  # requests of one sender that are under way; others wait within their own time
SEND_ADDRESSES_MAX: Final = 16  # of one name that are looked at
SEND_ANSWER_MAX: Final = 4 * KIB  # bytes of an answer's body that are taken in, and dropped: its sender should not see a broken connection
SEND_ANSWER_SECONDS: Final = 1.0  # that a body may take to come, after its status has
SEND_ANSWER_HEADERS_MAX: Final = 8 * KIB  # bytes of one header of an answer
SEND_RETRY_AFTER_MAX_US: Final = 86_400_000_000  # microseconds: nobody is waited for longer than a day because of his own word
BREAKER_FAILURES: Final = 5  # failures in a row before nothing is sent for a while: fewer are bad luck
BREAKER_OPEN_US: Final = 5_000_000  # microseconds that nothing is sent then, doubled each time the probe fails, too
BREAKER_OPEN_MAX_US: Final = 300_000_000  # five minutes: so late a target that works again is noticed at most
BREAKER_PROBE_US: Final = 360_000_000  # microseconds that a probe may be under way before it is given up: whoever sent it has died
# --- push ------------------------------------------------------------------------------------------------------
PUSH_TIMEOUT_US: Final = 15_000_000  # microseconds for one request to an endpoint when nobody says so: what senders of webhooks give
PUSH_TIMEOUT_MIN_US: Final = 10_000  # a hundredth of a second: less is over before a neighbour has answered
PUSH_RESULT_US: Final = 3_600 * 1_000_000  # microseconds that a result may take after a command was sent, when nobody says so
PUSH_UNDER_WAY: Final = 64  # requests of one node under way, with params of at most 1 MiB each
PUSH_ENDPOINT_UNDER_WAY: Final = 8  # of one endpoint: eight that do not answer have to come together before others wait for them
PUSH_QUEUES_LOOK: Final = 256  # queues that one look goes over before others have their turn
PUSH_TELL_TRIES: Final = 60  # times that an outcome is written, a second apart; then the end of its lease tells
PUSH_CLOSE_SECONDS: Final = 5.0  # that requests under way have when an engine closes
PUSH_ANSWER_MAX: Final = COMMAND_RESULT_MAX + 64 * KIB  # bytes of an answer that says how a command ended
# --- testing -----------------------------------------------------------------------------------------------
TESTING_SPAN_US: Final = 100 * 365 * 86_400 * 1_000_000  # virtual microseconds that a test's clock goes on by itself for one reply
TESTING_ADVANCES_MAX: Final = 100_000  # things that come due meanwhile: a schedule would go on for ever; a month of minutes fits
CRASHES_MAX: Final = 1_000  # commits of one scenario that are crashed one by one: some 20 ms each
EXPORT_EVENTS_MAX: Final = 100_000  # events of one exported process, beside those of its open turn: some 30 MB of JSON
REPORT_LINES_MAX: Final = 200  # lines of a report for people

# --- HTTP ------------------------------------------------------------------------------------------------------
HTTP_HEAD_MAX: Final = 32 * KIB  # bytes of a request's line and headers: a traceparent, a token and cookies of a proxy are 4 KiB
HTTP_BODY_MAX: Final = MESSAGE_MAX + HEADERS_MAX + 64 * KIB  # bytes: a message, its headers, and what is around them
HTTP_HEAD_SECONDS: Final = 10.0  # from the first byte of a connection to the end of the head
HTTP_BODY_SECONDS: Final = 30.0  # to receive a body: 1 MiB at 300 kbit/s
HTTP_PIECE: Final = 256 * KIB  # bytes of a body that is streamed, which have to come within the time of a whole body: 70 kbit/s
HTTP_BUILT_WITH_MAX: Final = 16 * KIB  # bytes of what a package was built with, in a header: half of a head
HTTP_ARCHIVES: Final = 2  # archives that are received at once: each is in memory, whole
HTTP_IDLE_SECONDS: Final = 65  # whole seconds that a connection waits for its next request: longer than the pools of proxies, which keep 60
HTTP_REQUESTS_MAX: Final = 4_000  # under way at once, long polls included: some 20 kB each
HTTP_CONNECTIONS_MAX: Final = 10_000  # open at once; a system gives a program that many files
HTTP_WAIT_MS_MAX: Final = 30_000  # that a request waits for a reply: less than what proxies give up after
HTTP_STOP_SECONDS: Final = 20  # whole seconds that a server which stops waits for requests under way: orchestrators kill after 30
HTTP_RETRY_SECONDS: Final = 1  # whole seconds after which a refused request may come again
HTTP_ATTEMPTS_MAX: Final = 20  # invalid tokens from one address within a window
HTTP_ATTEMPTS_US: Final = 60_000_000  # microseconds of such a window
HTTP_PEERS_MAX: Final = 10_000  # addresses whose attempts are counted, the latest ones
SSE_LOOK_US: Final = 250_000  # microseconds between two looks for new events of a process
SSE_HEARTBEAT_US: Final = 15_000_000  # microseconds without an event after which a comment keeps the connection open
IDEMPOTENCY_KEY_MAX: Final = 256  # characters; a UUID has 36
IDEMPOTENCY_LEASE_US: Final = (
    10_000_000  # microseconds, beside its `wait_ms`, after which a request that was not answered counts as crashed
)
IDEMPOTENCY_RETAIN_US: Final = 24 * 3_600 * 1_000_000  # microseconds that the answer to a key is kept: repeats come within minutes
IDEMPOTENCY_KNOWN_US: Final = 30 * 86_400 * 1_000_000  # microseconds that a key is refused after that: no client repeats after a month
IDEMPOTENCY_SWEEP_US: Final = 3_600 * 1_000_000  # microseconds between two sweeps of old answers

# --- tokens ----------------------------------------------------------------------------------------------------
TOKEN_NAME_MAX: Final = 128  # bytes: who has it
TOKEN_GRANTS_MAX: Final = 32  # capabilities of one token
TOKEN_GRANT_MAX: Final = 640  # bytes of one, with a deployment and a target

# --- console output -------------------------------------------------------------------------------------------
REPR_MAX: Final = 200  # characters of a value in an error text

assert TRANSACTION_BYTES_MAX <= BATCH_BYTES_MAX, "a transaction has to fit into a batch"
assert max(MESSAGE_MAX, STEP_OUTPUT_MAX, RESULT_MAX, FIELDS_MAX) * 3 < TRANSACTION_BYTES_MAX, "a finish carries up to three payloads"
assert max(STREAM_ENTRY_MAX, SNAPSHOT_MAX) <= TRANSACTION_BYTES_MAX, "an entry and a snapshot are one transaction each"
assert EFFECTS_CHUNK <= TURN_EVENTS_MAX, "a chunk of effects has to fit into a turn"
assert MAX_CONCURRENCY <= MAX_CONCURRENCY_ALONE <= MAX_RESIDENT, "who runs is in memory"
assert MAIL_WINDOW <= MAILBOX_MAX, "a window is part of a mailbox"
assert MAIL_BLOCK <= MAILBOX_MAX <= TENANT_MAIL_MAX, "a block is part of a mailbox, and a tenant may fill one"
assert MAIL_LOOK <= MAIL_WINDOW, "the first look is a part of the window"
assert DISPATCH_NOTES <= DISPATCH_MAX, "what is noted is a part of what is queued"
assert TURN_EVENTS_MAX * REPLAY_EVENT_US * REST_REPLAYS < REST_MAX_US, "the longest turn may rest for its full time"
assert TOKEN_NAME_MAX + IDEMPOTENCY_KEY_MAX + 16 <= COMMAND_KEY_MAX, "a client's name and its key are the key of a command"
assert PAGE_DEFAULT <= PAGE_MAX, "the default page has to be allowed"
assert SCHEDULE_ID_MAX + 40 <= REGISTRY_KEY_MAX, "a process that a schedule starts is named by schedule, slot and number"
assert LEASE_RENEW_US + LEASE_MARGIN_US < LEASE_US, "a lease is renewed before a node has to stop"
assert LEASE_RENEW_US + MIGRATION_LOCK_MS * 1_000 < LEASE_US - LEASE_MARGIN_US, "a renewal that waits behind a migration is in time"
assert OPEN_RENEW_SECONDS * 3_000_000 < OPEN_US, "two signs may be lost"
assert POSTGRES_STATEMENT_SECONDS < POSTGRES_ANSWER_SECONDS, "what the server says of a statement that took too long is heard"
assert TURN_EVENTS_WARN < TURN_EVENTS_MAX, "a warning comes before the refusal"
assert SEND_SECONDS_MAX * 1_000_000 < BREAKER_PROBE_US, "a probe that is under way has not been given up"
assert PUSH_UNDER_WAY <= SEND_CONNECTIONS, "what is sent does not wait for its turn within its own time"
assert PUSH_ENDPOINT_UNDER_WAY < PUSH_UNDER_WAY, "one endpoint does not take all places"
assert PUSH_TIMEOUT_US < SEND_SECONDS_MAX * 1_000_000 < PUSH_RESULT_US <= COMMAND_LEASE_MAX_US, (
    "a request is over before its result is late"
)
assert COMMAND_PARAMS_MAX + 64 * KIB <= SEND_BODY_MAX, "params fit into what is sent"
assert HTTP_WAIT_MS_MAX * 1_000 < IDEMPOTENCY_RETAIN_US, "an answer outlives the wait for it"
assert 2 * HTTP_BUILT_WITH_MAX <= HTTP_HEAD_MAX, "what a package was built with fits into a head, with all that is in one besides"
assert HTTP_HEAD_MAX + HTTP_BODY_MAX < TRANSACTION_BYTES_MAX, "what is taken in fits into a transaction"
assert PACKAGE_FILES_MAX * (PACKAGE_PATH_MAX + 100) < PACKAGE_MANIFEST_MAX <= PACKAGE_ARCHIVE_MAX, "the longest paths fit into a manifest"
assert SCHEMA_TYPES_MAX**2 <= PACKAGE_SCHEMA_WORK_MAX, "the largest recursive group that a schema may have fits into a package"
assert PACKAGE_FILES_MAX + 2 < 2**16 - 1, "entries are counted in 16 bits, of which the last number means something else"
assert PACKAGE_PART * PACKAGE_SWEEP_PARTS < TRANSACTION_BYTES_MAX, "parts that are removed together fit into a transaction"
assert PACKAGE_MANIFEST_MAX * 4 // 3 < PACKAGE_TRIAL_REPORT_MAX, "the schemas of any package fit into a report"
assert MAIL_WINDOW * MESSAGE_MAX < APART_FRAME_MAX, "a window of mail fits into a frame"
assert APART_AGAIN_US << APART_DOUBLINGS >= APART_AGAIN_MOST_US, "the longest pause is reached"
assert PACKAGE_TRIAL_SECONDS * 1_000_000 < PACKAGE_DEPLOY_US, "a deploy over HTTP has the time for its trial import"
assert PACKAGE_PIECE <= PACKAGE_PART, "a part is made of pieces"
assert PACKAGE_BUILT_WITH_MAX < TRANSACTION_BYTES_MAX, "what a package was built with fits into the log of a type"
assert BLOB_PART * BLOB_SWEEP_PARTS < TRANSACTION_BYTES_MAX, "parts that are removed together fit into a transaction"
