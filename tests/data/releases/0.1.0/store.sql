--
-- PostgreSQL database dump
--


-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: perdure; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA perdure;


--
-- Name: refuse(text); Type: FUNCTION; Schema: perdure; Owner: -
--

CREATE FUNCTION perdure.refuse(code text) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the batch is refused' USING ERRCODE = code;
END
$$;




--
-- Name: aging; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.aging (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    what text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT aging_what_check CHECK (((what = 'turns'::text) OR (what = 'rows'::text) OR (what = 'tombstone'::text)))
);


--
-- Name: awaited_reply; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.awaited_reply (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    ref text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    operation_id text NOT NULL COLLATE pg_catalog."C",
    turn_ref text NOT NULL COLLATE pg_catalog."C",
    rev bigint NOT NULL
);


--
-- Name: cancellation; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.cancellation (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    reason text NOT NULL COLLATE pg_catalog."C",
    since bigint NOT NULL,
    until bigint NOT NULL,
    after_id text NOT NULL COLLATE pg_catalog."C",
    tick bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT cancellation_check CHECK ((until >= since))
);


--
-- Name: child; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.child (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    parent_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL,
    rev bigint NOT NULL
);


--
-- Name: correlation; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.correlation (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    tag text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    process_type text NOT NULL COLLATE pg_catalog."C",
    package_hash text COLLATE pg_catalog."C",
    tick bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT correlation_package_hash_check CHECK ((length(package_hash) = 64)),
    CONSTRAINT correlation_process_id_check CHECK (((octet_length(process_id) >= 1) AND (octet_length(process_id) <= 256))),
    CONSTRAINT correlation_process_type_check CHECK (((octet_length(process_type) >= 1) AND (octet_length(process_type) <= 256))),
    CONSTRAINT correlation_tag_check CHECK (((octet_length(tag) >= 1) AND (octet_length(tag) <= 256))),
    CONSTRAINT correlation_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128)))
);


--
-- Name: counter; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.counter (
    name text NOT NULL COLLATE pg_catalog."C",
    node text NOT NULL COLLATE pg_catalog."C",
    value bigint NOT NULL,
    CONSTRAINT counter_name_check CHECK ((name <> ''::text))
)
WITH (fillfactor='50');


--
-- Name: dead_letter; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.dead_letter (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    tick bigint NOT NULL,
    source text NOT NULL COLLATE pg_catalog."C",
    message_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    reason text NOT NULL COLLATE pg_catalog."C",
    detail text NOT NULL COLLATE pg_catalog."C",
    address text NOT NULL COLLATE pg_catalog."C",
    process_id text COLLATE pg_catalog."C",
    at bigint NOT NULL,
    redriven_as text COLLATE pg_catalog."C",
    payload bytea NOT NULL,
    headers bytea,
    rev bigint NOT NULL,
    CONSTRAINT dead_letter_reason_check CHECK ((reason <> ''::text))
);


--
-- Name: event; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.event (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    stream_no bigint NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    data bytea NOT NULL,
    CONSTRAINT event_seq_check CHECK ((seq >= 0))
);


--
-- Name: fan_out; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.fan_out (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL COLLATE pg_catalog."C",
    message_id text NOT NULL COLLATE pg_catalog."C",
    tag text NOT NULL COLLATE pg_catalog."C",
    until bigint NOT NULL,
    at bigint NOT NULL,
    process_id text NOT NULL COLLATE pg_catalog."C",
    delivered bigint NOT NULL,
    rev bigint NOT NULL
);


--
-- Name: flow; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.flow (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_type text NOT NULL COLLATE pg_catalog."C",
    flow_key text NOT NULL COLLATE pg_catalog."C",
    running bigint NOT NULL,
    waiting bigint NOT NULL,
    next_at bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT flow_running_check CHECK ((running >= 0)),
    CONSTRAINT flow_waiting_check CHECK ((waiting >= 0))
);


--
-- Name: flow_place; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.flow_place (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    process_type text NOT NULL COLLATE pg_catalog."C",
    flow_key text NOT NULL COLLATE pg_catalog."C",
    priority bigint NOT NULL,
    tick bigint NOT NULL,
    stage text NOT NULL COLLATE pg_catalog."C",
    rev bigint NOT NULL,
    CONSTRAINT flow_place_stage_check CHECK (((stage = 'key'::text) OR (stage = 'type'::text) OR (stage = 'held'::text)))
);


--
-- Name: flow_queue; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.flow_queue (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_type text NOT NULL COLLATE pg_catalog."C",
    flow_key text NOT NULL COLLATE pg_catalog."C",
    priority bigint NOT NULL,
    tick bigint NOT NULL,
    process_id text NOT NULL COLLATE pg_catalog."C",
    own_key text NOT NULL COLLATE pg_catalog."C",
    rev bigint NOT NULL
);


--
-- Name: inbox; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.inbox (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    shard bigint NOT NULL,
    tick bigint NOT NULL,
    process_id text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT inbox_process_id_check CHECK ((process_id <> ''::text)),
    CONSTRAINT inbox_shard_check CHECK ((shard >= 0))
);


--
-- Name: mailbox; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.mailbox (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    last bigint NOT NULL,
    queued bigint NOT NULL,
    addressed bigint NOT NULL,
    cancelled text COLLATE pg_catalog."C",
    forced bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT mailbox_addressed_check CHECK ((addressed = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT mailbox_forced_check CHECK ((forced = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT mailbox_queued_check CHECK ((queued >= 0))
)
WITH (fillfactor='70');


--
-- Name: message; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.message (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL COLLATE pg_catalog."C",
    message_id text NOT NULL COLLATE pg_catalog."C",
    digest bytea NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    address text NOT NULL COLLATE pg_catalog."C",
    process_id text COLLATE pg_catalog."C",
    parked_under text COLLATE pg_catalog."C",
    mail_number bigint,
    tick bigint NOT NULL,
    accepted_at bigint NOT NULL,
    expires_at bigint,
    done_at bigint,
    copies bigint,
    note text NOT NULL COLLATE pg_catalog."C",
    sender text NOT NULL COLLATE pg_catalog."C",
    available_at bigint,
    asked bigint NOT NULL,
    payload bytea NOT NULL,
    headers bytea,
    rev bigint NOT NULL,
    CONSTRAINT message_asked_check CHECK ((asked >= 0)),
    CONSTRAINT message_check CHECK (((status <> 'delayed'::text) OR (available_at IS NOT NULL))),
    CONSTRAINT message_check1 CHECK (((status <> 'parked'::text) OR (parked_under IS NOT NULL))),
    CONSTRAINT message_check2 CHECK (((done_at IS NULL) OR (status = 'done'::text))),
    CONSTRAINT message_check3 CHECK (((status <> 'queued'::text) OR ((process_id IS NOT NULL) AND (mail_number IS NOT NULL)))),
    CONSTRAINT message_message_id_check CHECK ((message_id <> ''::text)),
    CONSTRAINT message_status_check CHECK (((status = 'delayed'::text) OR (status = 'parked'::text) OR (status = 'queued'::text) OR (status = 'open'::text) OR (status = 'done'::text) OR (status = 'dead'::text) OR (status = 'expired'::text))),
    CONSTRAINT message_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128)))
)
WITH (fillfactor='50');


--
-- Name: migration; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.migration (
    number bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    checksum text NOT NULL COLLATE pg_catalog."C",
    applied_at bigint NOT NULL,
    phase text DEFAULT 'expand'::text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT migration_checksum_check CHECK ((length(checksum) = 64)),
    CONSTRAINT migration_name_check CHECK ((name <> ''::text)),
    CONSTRAINT migration_number_check CHECK ((number > 0)),
    CONSTRAINT migration_phase_check CHECK (((phase = 'expand'::text) OR (phase = 'contract'::text)))
);


--
-- Name: operation; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.operation (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    scope text NOT NULL COLLATE pg_catalog."C",
    operation_id text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    method text NOT NULL COLLATE pg_catalog."C",
    request_digest bytea NOT NULL,
    policy text NOT NULL COLLATE pg_catalog."C",
    token bigint NOT NULL,
    lease_expires_at bigint,
    started bigint NOT NULL,
    attempts bigint NOT NULL,
    outcome text NOT NULL COLLATE pg_catalog."C",
    codec text NOT NULL COLLATE pg_catalog."C",
    root_type text NOT NULL COLLATE pg_catalog."C",
    retain bigint,
    retain_until bigint,
    actor text NOT NULL COLLATE pg_catalog."C",
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    response bytea,
    rev bigint NOT NULL,
    CONSTRAINT operation_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT operation_check CHECK (((state = 'sealed'::text) = (response IS NOT NULL))),
    CONSTRAINT operation_check1 CHECK (((state = 'sealed'::text) = (outcome <> ''::text))),
    CONSTRAINT operation_check2 CHECK (((lease_expires_at IS NULL) OR (state = 'admitted'::text))),
    CONSTRAINT operation_check3 CHECK (((retain_until IS NULL) OR (state = 'sealed'::text))),
    CONSTRAINT operation_check4 CHECK ((((method = ''::text) = (policy = ''::text)) AND ((method = ''::text) = (length(request_digest) = 0)))),
    CONSTRAINT operation_operation_id_check CHECK ((operation_id <> ''::text)),
    CONSTRAINT operation_outcome_check CHECK (((outcome = ''::text) OR (outcome = 'ok'::text) OR (outcome = 'error'::text))),
    CONSTRAINT operation_policy_check CHECK (((policy = ''::text) OR (policy = 'volatile'::text) OR (policy = 'idempotent'::text) OR (policy = 'persistent'::text))),
    CONSTRAINT operation_request_digest_check CHECK ((length(request_digest) = ANY (ARRAY[0, 32]))),
    CONSTRAINT operation_retain_check CHECK ((retain >= 0)),
    CONSTRAINT operation_root_type_check CHECK ((length(root_type) = ANY (ARRAY[0, 32]))),
    CONSTRAINT operation_scope_check CHECK ((scope <> ''::text)),
    CONSTRAINT operation_started_check CHECK ((started = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT operation_state_check CHECK (((state = 'admitted'::text) OR (state = 'sealed'::text) OR (state = 'expired'::text))),
    CONSTRAINT operation_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128)))
)
WITH (fillfactor='50');


--
-- Name: parking; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.parking (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    parked_under text NOT NULL COLLATE pg_catalog."C",
    parked bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT parking_parked_check CHECK ((parked >= 0))
);


--
-- Name: process; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.process (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    process_type text NOT NULL COLLATE pg_catalog."C",
    package_hash text COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    head bigint NOT NULL,
    stream_no bigint NOT NULL,
    shard bigint NOT NULL,
    open_message text COLLATE pg_catalog."C",
    turn_seq bigint NOT NULL,
    first bigint NOT NULL,
    timers bigint NOT NULL,
    placed bigint NOT NULL,
    attributes text NOT NULL COLLATE pg_catalog."C",
    aging bigint NOT NULL,
    note text NOT NULL COLLATE pg_catalog."C",
    parent text NOT NULL COLLATE pg_catalog."C",
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    rev bigint NOT NULL,
    over_at bigint,
    CONSTRAINT process_aging_check CHECK (((aging = 0) OR (aging = 1))),
    CONSTRAINT process_check CHECK ((first <= turn_seq)),
    CONSTRAINT process_first_check CHECK ((first >= 0)),
    CONSTRAINT process_head_check CHECK ((head >= 0)),
    CONSTRAINT process_package_hash_check CHECK ((length(package_hash) = 64)),
    CONSTRAINT process_placed_check CHECK ((placed = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT process_process_id_check CHECK ((process_id <> ''::text)),
    CONSTRAINT process_shard_check CHECK ((shard >= 0)),
    CONSTRAINT process_status_check CHECK (((status = 'idle'::text) OR (status = 'runnable'::text) OR (status = 'waiting'::text) OR (status = 'paused'::text) OR (status = 'stuck'::text) OR (status = 'stranded'::text) OR (status = 'failed'::text) OR (status = 'ended'::text) OR (status = 'removed'::text))),
    CONSTRAINT process_stream_no_check CHECK ((stream_no > 0)),
    CONSTRAINT process_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128))),
    CONSTRAINT process_timers_check CHECK ((timers >= 0)),
    CONSTRAINT process_turn_seq_check CHECK ((turn_seq >= 0))
)
WITH (fillfactor='80');


--
-- Name: process_attribute; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.process_attribute (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    value bytea,
    found_kind text NOT NULL COLLATE pg_catalog."C",
    found bytea,
    rev bigint NOT NULL,
    CONSTRAINT process_attribute_kind_check CHECK (((kind = 'str'::text) OR (kind = 'int'::text) OR (kind = 'float'::text) OR (kind = 'bool'::text) OR (kind = 'datetime'::text))),
    CONSTRAINT process_attribute_name_check CHECK ((name <> ''::text))
);


--
-- Name: process_log; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.process_log (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    at bigint NOT NULL,
    data bytea NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT process_log_seq_check CHECK ((seq >= 0))
);


--
-- Name: process_state; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.process_state (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    found bytea NOT NULL,
    saved bytea NOT NULL,
    rev bigint NOT NULL
)
WITH (fillfactor='80');


--
-- Name: registry_event; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.registry_event (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    tick bigint NOT NULL,
    what text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    process_type text NOT NULL COLLATE pg_catalog."C",
    package_hash text COLLATE pg_catalog."C",
    actor text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT registry_event_actor_check CHECK ((actor = ANY (ARRAY['engine'::text, 'caller'::text]))),
    CONSTRAINT registry_event_name_check CHECK (((octet_length(name) >= 1) AND (octet_length(name) <= 256))),
    CONSTRAINT registry_event_package_hash_check CHECK ((length(package_hash) = 64)),
    CONSTRAINT registry_event_process_id_check CHECK (((octet_length(process_id) >= 1) AND (octet_length(process_id) <= 256))),
    CONSTRAINT registry_event_process_type_check CHECK (((octet_length(process_type) >= 1) AND (octet_length(process_type) <= 256))),
    CONSTRAINT registry_event_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128))),
    CONSTRAINT registry_event_what_check CHECK (((what = 'bind'::text) OR (what = 'unbind'::text) OR (what = 'tag'::text) OR (what = 'untag'::text)))
);


--
-- Name: registry_key; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.registry_key (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    process_id text COLLATE pg_catalog."C",
    process_type text NOT NULL COLLATE pg_catalog."C",
    package_hash text COLLATE pg_catalog."C",
    tick bigint NOT NULL,
    parked bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT registry_key_check CHECK ((((process_id IS NULL) = (process_type = ''::text)) AND ((process_id IS NULL) = (tick = 0)))),
    CONSTRAINT registry_key_check1 CHECK (((process_id IS NOT NULL) OR ((package_hash IS NULL) AND (parked > 0)))),
    CONSTRAINT registry_key_key_check CHECK (((octet_length(key) >= 1) AND (octet_length(key) <= 256))),
    CONSTRAINT registry_key_package_hash_check CHECK ((length(package_hash) = 64)),
    CONSTRAINT registry_key_parked_check CHECK ((parked >= 0)),
    CONSTRAINT registry_key_process_id_check CHECK (((octet_length(process_id) >= 1) AND (octet_length(process_id) <= 256))),
    CONSTRAINT registry_key_process_type_check CHECK ((octet_length(process_type) <= 256)),
    CONSTRAINT registry_key_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128)))
);


--
-- Name: schedule; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.schedule (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    schedule_id text NOT NULL COLLATE pg_catalog."C",
    declared_by text NOT NULL COLLATE pg_catalog."C",
    expression text NOT NULL COLLATE pg_catalog."C",
    tz text NOT NULL COLLATE pg_catalog."C",
    overlap text NOT NULL COLLATE pg_catalog."C",
    queue_max bigint NOT NULL,
    catch_up text NOT NULL COLLATE pg_catalog."C",
    catch_up_window bigint NOT NULL,
    jitter bigint NOT NULL,
    way text NOT NULL COLLATE pg_catalog."C",
    target text NOT NULL COLLATE pg_catalog."C",
    process_type text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    payload bytea NOT NULL,
    takes_slot bigint NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    next_slot bigint,
    next_at bigint,
    last_slot bigint,
    last_message text NOT NULL COLLATE pg_catalog."C",
    queued bigint NOT NULL,
    waiting bytea NOT NULL,
    recent bytea NOT NULL,
    fired bigint NOT NULL,
    skipped bigint NOT NULL,
    missed bigint NOT NULL,
    triggers bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT schedule_catch_up_check CHECK (((catch_up = 'all'::text) OR (catch_up = 'last'::text) OR (catch_up = 'none'::text))),
    CONSTRAINT schedule_catch_up_window_check CHECK ((catch_up_window >= 0)),
    CONSTRAINT schedule_check CHECK (((next_slot IS NULL) = (next_at IS NULL))),
    CONSTRAINT schedule_check1 CHECK (((status = 'active'::text) OR (next_at IS NULL))),
    CONSTRAINT schedule_expression_check CHECK ((expression <> ''::text)),
    CONSTRAINT schedule_jitter_check CHECK ((jitter >= 0)),
    CONSTRAINT schedule_overlap_check CHECK (((overlap = 'skip'::text) OR (overlap = 'queue'::text) OR (overlap = 'cancel_previous'::text) OR (overlap = 'allow'::text))),
    CONSTRAINT schedule_queue_max_check CHECK ((queue_max >= 0)),
    CONSTRAINT schedule_queued_check CHECK ((queued >= 0)),
    CONSTRAINT schedule_schedule_id_check CHECK ((schedule_id <> ''::text)),
    CONSTRAINT schedule_status_check CHECK (((status = 'active'::text) OR (status = 'paused'::text) OR (status = 'removed'::text))),
    CONSTRAINT schedule_takes_slot_check CHECK (((takes_slot = 0) OR (takes_slot = 1))),
    CONSTRAINT schedule_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128)))
);


--
-- Name: schema; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.schema (
    hash text NOT NULL COLLATE pg_catalog."C",
    document bytea NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT schema_document_check CHECK (((length(document) >= 1) AND (length(document) <= 262144))),
    CONSTRAINT schema_hash_check CHECK ((length(hash) = 32))
);


--
-- Name: shard; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.shard (
    shard bigint NOT NULL,
    node text COLLATE pg_catalog."C",
    epoch bigint NOT NULL,
    CONSTRAINT shard_epoch_check CHECK ((epoch >= 0)),
    CONSTRAINT shard_shard_check CHECK ((shard >= 0))
)
WITH (fillfactor='50');


--
-- Name: snapshot; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.snapshot (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    version bigint NOT NULL,
    data bytea NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT snapshot_seq_check CHECK ((seq > 0)),
    CONSTRAINT snapshot_version_check CHECK ((version > 0))
);


--
-- Name: store; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.store (
    one bigint NOT NULL,
    format bigint NOT NULL,
    shards bigint NOT NULL,
    CONSTRAINT store_format_check CHECK ((format > 0)),
    CONSTRAINT store_one_check CHECK ((one = 1)),
    CONSTRAINT store_shards_check CHECK ((shards > 0))
);


--
-- Name: stream; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.stream (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    head bigint NOT NULL,
    first bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT stream_check CHECK ((head >= first)),
    CONSTRAINT stream_first_check CHECK ((first >= 0)),
    CONSTRAINT stream_name_check CHECK ((name <> ''::text)),
    CONSTRAINT stream_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128)))
);


--
-- Name: stream_event; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.stream_event (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    at bigint NOT NULL,
    payload bytea NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT stream_event_seq_check CHECK ((seq >= 0))
);


--
-- Name: tenant_mail; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.tenant_mail (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    reserved bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT tenant_mail_reserved_check CHECK ((reserved >= 0))
);


--
-- Name: timer; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.timer (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    timer_id text NOT NULL COLLATE pg_catalog."C",
    due bigint NOT NULL,
    shard bigint NOT NULL,
    rev bigint NOT NULL
);


--
-- Name: turn; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.turn (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    process_id text NOT NULL COLLATE pg_catalog."C",
    message_id text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    steps bigint NOT NULL,
    effects bigint NOT NULL,
    more bigint NOT NULL,
    attempts bigint NOT NULL,
    awaits text NOT NULL COLLATE pg_catalog."C",
    outcome text NOT NULL COLLATE pg_catalog."C",
    result bytea,
    rev bigint NOT NULL,
    CONSTRAINT turn_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT turn_effects_check CHECK ((effects >= 0)),
    CONSTRAINT turn_message_id_check CHECK ((message_id <> ''::text)),
    CONSTRAINT turn_more_check CHECK (((more = 0) OR (more = 1))),
    CONSTRAINT turn_outcome_check CHECK (((outcome = ''::text) OR (outcome = 'ok'::text) OR (outcome = 'error'::text))),
    CONSTRAINT turn_state_check CHECK (((state = 'received'::text) OR (state = 'started'::text) OR (state = 'finished'::text))),
    CONSTRAINT turn_steps_check CHECK ((steps >= 0))
)
WITH (fillfactor='80');


--
-- Name: value; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.value (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    value bigint,
    updated_at bigint NOT NULL,
    rev bigint NOT NULL,
    CONSTRAINT value_key_check CHECK ((key <> ''::text)),
    CONSTRAINT value_tenant_id_check CHECK (((length(tenant_id) >= 1) AND (length(tenant_id) <= 128)))
);


--
-- Name: writer; Type: TABLE; Schema: perdure; Owner: -
--

CREATE TABLE perdure.writer (
    node text NOT NULL COLLATE pg_catalog."C",
    lane bigint NOT NULL,
    incarnation bigint NOT NULL,
    batch bigint NOT NULL,
    last_tick bigint NOT NULL,
    seen_at bigint NOT NULL,
    slot bigint NOT NULL,
    expires_at bigint,
    knows bigint DEFAULT 0 NOT NULL,
    open_until bigint,
    CONSTRAINT writer_batch_check CHECK ((batch >= 0)),
    CONSTRAINT writer_incarnation_check CHECK ((incarnation >= 0)),
    CONSTRAINT writer_knows_check CHECK ((knows >= 0)),
    CONSTRAINT writer_lane_check CHECK ((lane >= 0)),
    CONSTRAINT writer_last_tick_check CHECK ((last_tick >= 0)),
    CONSTRAINT writer_slot_check CHECK ((slot >= 0))
)
WITH (fillfactor='10');


--
-- Data for Name: aging; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.aging VALUES ('default', '019b796d-d600-7c29-897b-b8cafd93cc03', 'tombstone', 2085220800000000, 1);
INSERT INTO perdure.aging VALUES ('default', 'hello-old', 'tombstone', 2085220800000000, 1);
INSERT INTO perdure.aging VALUES ('default', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 'turns', 1769860800000000, 1);
INSERT INTO perdure.aging VALUES ('default', '019c13ec-9e00-75f9-89a7-83b684cf0429', 'turns', 1769860800000000, 1);


--
-- Data for Name: awaited_reply; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: cancellation; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: child; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: correlation; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: counter; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.counter VALUES ('routing.keys', '', 3);


--
-- Data for Name: dead_letter; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.dead_letter VALUES ('default', 1769860800001409, '', 'crashing', 'crashing()', 'poison-message', 'PoisonMessage: message ''crashing'': the engine crashed 7 times while it was open; it is a dead letter', 'start crashing', 'crashing', 1769860800000000, NULL, '\x5b5d', NULL, 1);


--
-- Data for Name: event; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.event VALUES ('default', 1767268800000577, 5, 1767268800000000, '\x019301d926636f6d6d656e74206c617374696e6720697473207475726e7320776572652072656d6f766564cf00064752550bf000');
INSERT INTO perdure.event VALUES ('default', 1767268800000577, 6, 1767268800000000, '\x019302d926636f6d6d656e74206c617374696e6720697473207475726e7320776572652072656d6f76656401');
INSERT INTO perdure.event VALUES ('default', 1767268800000577, 7, 1767268800000000, '\x019404d926636f6d6d656e74206c617374696e6720697473207475726e7320776572652072656d6f766564c0a26f6b');
INSERT INTO perdure.event VALUES ('default', 1769860800000129, 0, 1769860800000000, '\x019301a768656c6c6f2d31cf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800000129, 1, 1769860800000000, '\x019302a768656c6c6f2d3101');
INSERT INTO perdure.event VALUES ('default', 1769860800000129, 2, 1769860800000000, '\x019603a768656c6c6f2d3100c40722574f524c4422a56772656574d9286d616b655f6170702e3c6c6f63616c733e2e6e6f7465286337343637383330346534636362663829');
INSERT INTO perdure.event VALUES ('default', 1769860800000129, 3, 1769860800000000, '\x019404a768656c6c6f2d31c0a26f6b');
INSERT INTO perdure.event VALUES ('default', 1769860800000257, 0, 1769860800000000, '\x019301d92870642d7363686564756c650a6e696768746c792f323032362d30312d33315430333a30303a30305acf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800000257, 1, 1769860800000000, '\x019302d92870642d7363686564756c650a6e696768746c792f323032362d30312d33315430333a30303a30305a01');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 0, 1769860800000000, '\x019301ab706c61636520736d616c6ccf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 1, 1769860800000000, '\x019302ab706c61636520736d616c6c01');
INSERT INTO perdure.event VALUES ('default', 1769860800000257, 2, 1769860800000000, '\x019603d92870642d7363686564756c650a6e696768746c792f323032362d30312d33315430333a30303a30305a00c408225245504f525422a67265706f7274d9286d616b655f6170702e3c6c6f63616c733e2e6e6f7465283933396433306233393966303166303929');
INSERT INTO perdure.event VALUES ('default', 1769860800000257, 3, 1769860800000000, '\x019404d92870642d7363686564756c650a6e696768746c792f323032362d30312d33315430333a30303a30305ac0a26f6b');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 2, 1769860800000000, '\x019603ab706c61636520736d616c6c00c40e2243484152474520534d414c4c22a6636861726765d9286d616b655f6170702e3c6c6f63616c733e2e6e6f7465283766373762333064323965383331656229');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 3, 1769860800000000, '\x019603ab706c61636520736d616c6c01c40c225348495020534d414c4c22a473686970d9286d616b655f6170702e3c6c6f63616c733e2e6e6f7465283535303934656565346362656264353729');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 4, 1769860800000000, '\x019404ab706c61636520736d616c6cc0a26f6b');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 5, 1769860800000000, '\x019301b4636f6d6d656e7420736d616c6c207468616e6b73cf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 6, 1769860800000000, '\x019302b4636f6d6d656e7420736d616c6c207468616e6b7301');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 7, 1769860800000000, '\x019404b4636f6d6d656e7420736d616c6c207468616e6b73c0a26f6b');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 8, 1769860800000000, '\x019301b3636f6d6d656e7420736d616c6c20616761696ecf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 9, 1769860800000000, '\x019302b3636f6d6d656e7420736d616c6c20616761696e01');
INSERT INTO perdure.event VALUES ('default', 1769860800000385, 10, 1769860800000000, '\x019404b3636f6d6d656e7420736d616c6c20616761696ec0a26f6b');
INSERT INTO perdure.event VALUES ('default', 1769860800000705, 0, 1769860800000000, '\x019301ac706c61636520636c6f736564cf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800000705, 1, 1769860800000000, '\x019302ac706c61636520636c6f73656401');
INSERT INTO perdure.event VALUES ('default', 1769860800000705, 2, 1769860800000000, '\x019603ac706c61636520636c6f73656400c40f2243484152474520434c4f53454422a6636861726765d9286d616b655f6170702e3c6c6f63616c733e2e6e6f7465283062636339343161623462623165393129');
INSERT INTO perdure.event VALUES ('default', 1769860800000705, 3, 1769860800000000, '\x019603ac706c61636520636c6f73656401c40d225348495020434c4f53454422a473686970d9286d616b655f6170702e3c6c6f63616c733e2e6e6f7465283039343065343138616138396564626129');
INSERT INTO perdure.event VALUES ('default', 1769860800000705, 4, 1769860800000000, '\x019404ac706c61636520636c6f736564c0a26f6b');
INSERT INTO perdure.event VALUES ('default', 1769860800000705, 5, 1769860800000000, '\x019301ac636c6f736520636c6f736564cf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800000705, 6, 1769860800000000, '\x019302ac636c6f736520636c6f73656401');
INSERT INTO perdure.event VALUES ('default', 1769860800000705, 7, 1769860800000000, '\x019404ac636c6f736520636c6f736564c0a26f6b');
INSERT INTO perdure.event VALUES ('default', 1769860800001025, 0, 1769860800000000, '\x019301a9706c61636520626967cf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800001025, 1, 1769860800000000, '\x019302a9706c6163652062696701');
INSERT INTO perdure.event VALUES ('default', 1769860800001025, 2, 1769860800000000, '\x019603a9706c6163652062696700c40c224348415247452042494722a6636861726765d9286d616b655f6170702e3c6c6f63616c733e2e6e6f7465286436653339353163333564386663623829');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 0, 1769860800000000, '\x019301a86372617368696e67cf000649add4493000');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 1, 1769860800000000, '\x019302a86372617368696e6701');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 2, 1769860800000000, '\x019302a86372617368696e6702');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 3, 1769860800000000, '\x019302a86372617368696e6703');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 4, 1769860800000000, '\x019302a86372617368696e6704');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 5, 1769860800000000, '\x019302a86372617368696e6705');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 6, 1769860800000000, '\x019302a86372617368696e6706');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 7, 1769860800000000, '\x019302a86372617368696e6707');
INSERT INTO perdure.event VALUES ('default', 1769860800001473, 8, 1769860800000000, '\x019404a86372617368696e67c0a56572726f72');


--
-- Data for Name: fan_out; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: flow; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: flow_place; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: flow_queue; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: inbox; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: mailbox; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.mailbox VALUES ('default', '019b796d-d600-75f9-89a7-83b684cf0429', 0, 0, 1, NULL, 0, 1);
INSERT INTO perdure.mailbox VALUES ('default', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 0, 0, 1, NULL, 0, 1);
INSERT INTO perdure.mailbox VALUES ('default', '019c13ec-9e00-75f9-89a7-83b684cf0429', 0, 0, 1, NULL, 0, 1);
INSERT INTO perdure.mailbox VALUES ('default', '019c13ec-9e00-73eb-a853-77977a13ff3f', 3, 3, 1, NULL, 0, 4);


--
-- Data for Name: message; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.message VALUES ('default', '', 'comment lasting its turns were removed', '\x8fbc22ff79d8081ceea1bee6b3a00d25e164a7b435679a526a98a1c00130adb2', 'comment', 'done', 'key order:lasting', '019b796d-d600-75f9-89a7-83b684cf0429', NULL, NULL, 1767268800000705, 1767268800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22636f6d6d656e74222c226f726465725f6964223a226c617374696e67222c2274657874223a22697473207475726e7320776572652072656d6f766564227d', NULL, 2);
INSERT INTO perdure.message VALUES ('default', '', 'close old', '\x', 'close', 'expired', 'key order:old', '019b796d-d600-7c29-897b-b8cafd93cc03', NULL, NULL, 1767268800000385, 1767268800000000, 2085220800000000, NULL, NULL, '', '', NULL, 0, '\x', NULL, 4);
INSERT INTO perdure.message VALUES ('default', '', 'comment old soon gone', '\x', 'comment', 'expired', 'key order:old', '019b796d-d600-7c29-897b-b8cafd93cc03', NULL, NULL, 1767268800000321, 1767268800000000, 2085220800000000, NULL, NULL, '', '', NULL, 0, '\x', NULL, 4);
INSERT INTO perdure.message VALUES ('default', '', 'hello-old', '\x', 'hello()', 'expired', 'start hello', 'hello-old', NULL, NULL, 1767268800000001, 1767268800000000, 2085220800000000, NULL, NULL, '', '', NULL, 0, '\x', NULL, 4);
INSERT INTO perdure.message VALUES ('default', '', 'place lasting', '\x', 'place', 'expired', 'start Order under key order:lasting', '019b796d-d600-75f9-89a7-83b684cf0429', NULL, NULL, 1767268800000513, 1767268800000000, 2085220800000000, NULL, NULL, '', '', NULL, 0, '\x', NULL, 4);
INSERT INTO perdure.message VALUES ('default', '', 'place old', '\x', 'place', 'expired', 'start Order under key order:old', '019b796d-d600-7c29-897b-b8cafd93cc03', NULL, NULL, 1767268800000129, 1767268800000000, 2085220800000000, NULL, NULL, '', '', NULL, 0, '\x', NULL, 4);
INSERT INTO perdure.message VALUES ('default', '', 'hello-1', '\x09d06ba683ee99c700016a23c773c0f654ac9c5edf76394b3fb264f269c5925b', 'hello()', 'done', 'start hello', 'hello-1', NULL, NULL, 1769860800000065, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x5b22776f726c64225d', NULL, 2);
INSERT INTO perdure.message VALUES ('default', 'pd-schedule', 'nightly/2026-01-31T03:00:00Z', '\x46755877d1933c7e1ac1fafc9a86619338a433978f4ee3e6a19cfd954b04d218', 'report()', 'done', 'start report', 'nightly/2026-01-31T03:00:00Z', NULL, NULL, 1769860800000193, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x5b5d', NULL, 2);
INSERT INTO perdure.message VALUES ('default', '', 'place small', '\x2a5609b6521e3fa6d493a326e8fb4fd2b6d1e8e72024f40e18520655359692a9', 'place', 'done', 'start Order under key order:small', '019c13ec-9e00-7c29-897b-b8cafd93cc03', NULL, NULL, 1769860800000321, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22706c616365222c226f726465725f6964223a22736d616c6c222c22746f74616c223a357d', NULL, 2);
INSERT INTO perdure.message VALUES ('default', '', 'comment small thanks', '\x7cdec93f1cde6d447abc0d10dc3080c7ba7bd50e8b2372d22c10d7b09d512dfe', 'comment', 'done', 'key order:small', '019c13ec-9e00-7c29-897b-b8cafd93cc03', NULL, NULL, 1769860800000513, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22636f6d6d656e74222c226f726465725f6964223a22736d616c6c222c2274657874223a227468616e6b73227d', NULL, 2);
INSERT INTO perdure.message VALUES ('default', '', 'comment small again', '\x0246793ecfdbf7271f1fc8a1d11d57021e3a9eda95d70981d475d7ebd8c976ff', 'comment', 'done', 'key order:small', '019c13ec-9e00-7c29-897b-b8cafd93cc03', NULL, NULL, 1769860800000577, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22636f6d6d656e74222c226f726465725f6964223a22736d616c6c222c2274657874223a22616761696e227d', NULL, 2);
INSERT INTO perdure.message VALUES ('default', '', 'place closed', '\x80689e6e4174c622417a09bfaf763e6592f2db5a4ef345b3c85a74bee103e58d', 'place', 'done', 'start Order under key order:closed', '019c13ec-9e00-75f9-89a7-83b684cf0429', NULL, NULL, 1769860800000641, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22706c616365222c226f726465725f6964223a22636c6f736564222c22746f74616c223a35307d', NULL, 2);
INSERT INTO perdure.message VALUES ('default', '', 'close closed', '\x8aafb8dc352f60d0f7aeb47de377e5c32178f321575b4f63dacc21f377c6bb9b', 'close', 'done', 'key order:closed', '019c13ec-9e00-75f9-89a7-83b684cf0429', NULL, NULL, 1769860800000833, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22636c6f7365222c226f726465725f6964223a22636c6f736564227d', NULL, 2);
INSERT INTO perdure.message VALUES ('default', '', 'place big', '\x35f3dadab9536d9711c8baf02db1d61ef016af5c743d206e354458a26c07cb38', 'place', 'open', 'start Order under key order:big', '019c13ec-9e00-73eb-a853-77977a13ff3f', NULL, NULL, 1769860800000961, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22706c616365222c226f726465725f6964223a22626967222c22746f74616c223a3530307d', NULL, 1);
INSERT INTO perdure.message VALUES ('default', '', 'comment big 0', '\x3d7eb3da2ba180575d1d8c481761553e8d129b41a79a61e85e6f4badeb7019de', 'comment', 'queued', 'key order:big', '019c13ec-9e00-73eb-a853-77977a13ff3f', NULL, 1, 1769860800001153, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22636f6d6d656e74222c226f726465725f6964223a22626967222c2274657874223a226e756d6265722030227d', NULL, 1);
INSERT INTO perdure.message VALUES ('default', '', 'comment big 1', '\x94505fae6e112a585ca4888b63fac74eefe5414ecd1fbd6275c34c43f9addf42', 'comment', 'queued', 'key order:big', '019c13ec-9e00-73eb-a853-77977a13ff3f', NULL, 2, 1769860800001217, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22636f6d6d656e74222c226f726465725f6964223a22626967222c2274657874223a226e756d6265722031227d', NULL, 1);
INSERT INTO perdure.message VALUES ('default', '', 'comment big 2', '\x1c4ea54107313118ce320cee2724e3cb210c9b995d7a936cc5b9dc580e16e5bf', 'comment', 'queued', 'key order:big', '019c13ec-9e00-73eb-a853-77977a13ff3f', NULL, 3, 1769860800001281, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22636f6d6d656e74222c226f726465725f6964223a22626967222c2274657874223a226e756d6265722032227d', NULL, 1);
INSERT INTO perdure.message VALUES ('default', '', 'parked', '\xacf3969b7be8764ad611f596caf30558eb67461f6de82e75b8344eb6f3019ba3', 'comment', 'parked', 'key order:later', NULL, 'key order:later', NULL, 1769860800001345, 1769860800000000, NULL, NULL, NULL, '', '', NULL, 0, '\x7b2274797065223a22636f6d6d656e74222c226f726465725f6964223a226c61746572222c2274657874223a226265666f726520697473206f72646572227d', NULL, 1);
INSERT INTO perdure.message VALUES ('default', '', 'crashing', '\xd99cedcf4d2f4ea5c841ea117ab282a32e27cb5db3b9da93ac85cc3fce30f8f1', 'crashing()', 'dead', 'start crashing', 'crashing', NULL, NULL, 1769860800001409, 1769860800000000, NULL, NULL, NULL, 'poison-message: PoisonMessage: message ''crashing'': the engine crashed 7 times while it was open; it is a dead letter', '', NULL, 0, '\x5b5d', NULL, 2);


--
-- Data for Name: migration; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.migration VALUES (1, 'store', '7fa085822bf51def910f9c767d24464469628b485bfb94844d27928b6c98eb58', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (2, 'routing', '82a7be1ac49de60849cf09b94e5a7ab61227a73d06bd95a83fb784b40df52479', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (3, 'operations', 'd7a190b286db5c4c98d3a6da16d75de074259a9928c263923adaf967f2d77ab7', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (4, 'conversations', '972c76440d811adeeba4ea89d3b5bce1f6896f9faa3d9e4896e06a2a879ec35f', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (5, 'messages', 'ddf26aac598d79e84f89a5e83086ec107696dc8f2bee1327d5eca9d880c2b60f', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (6, 'timers', '78aff6d1a6c20cb86dfb06144c2518cfbedb2cae32bc5b2725db73b4271bca46', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (7, 'streams', 'c28779ac07792ca2caa549ab90cd3d2c926528996694ccb7156ca0f06ae10fef', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (8, 'flows', '0c7740265380ad93d993faf09ead56407caee310382f6f7d402d2883405d5db4', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (9, 'together', '608f3879898165c5da2a3f0fe801fffa3a280136c447bedf163ab0f27200ce55', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (10, 'schedules', '071189921e2ae8d5aa932fd753b869a5b8b4e44b41730ff34e7d8a94ca5ea2d9', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (11, 'attributes', '15b9317a22acf1c2251727cf8be053caa8b21e31b195d6d49dbe2dce17f806c5', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (12, 'retention', 'b1db8b26be6b2131dd2f6b70907b8b73bfadeb50cd0fed1ac62a5b076319650c', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (13, 'cancellation', '985c18860a780e8e0327445a3130ba3e6dcaace67b24ab2fbb8de9bb48a2c45f', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (14, 'waits', '1f06c212cc56f5834074c17ce2ace185c40a8c2ccde26ce7dd1490a73ba6a893', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (15, 'inbox', '12a103b08a300c1decb33e90f3f928fc371fcc873ab7952cd58e836f9bcc83a9', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (16, 'phases', '9a634e754f27f8b914500a215c7c875f1e31b4061c770af162388e16f5dec194', 1767268800000000, 'expand');
INSERT INTO perdure.migration VALUES (17, 'over', '09a6c25d2102f1dd0e309920fc72d66bdb8c32a81a61b16956893819508abbf0', 1767268800000000, 'expand');


--
-- Data for Name: operation; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.operation VALUES ('default', 'message', 'comment lasting its turns were removed', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'ok', 'json', 'e0649aed6505041897538a0890e85847', NULL, NULL, '', 1767268800000000, 1767268800000000, '\x22313a20697473207475726e7320776572652072656d6f76656422', 1);
INSERT INTO perdure.operation VALUES ('default', 'message', 'close old', 'expired', '', '\x', '', 0, NULL, 0, 0, '', '', '', NULL, NULL, '', 1767268800000000, 1769860800000000, NULL, 2);
INSERT INTO perdure.operation VALUES ('default', 'message', 'comment old soon gone', 'expired', '', '\x', '', 0, NULL, 0, 0, '', '', '', NULL, NULL, '', 1767268800000000, 1769860800000000, NULL, 2);
INSERT INTO perdure.operation VALUES ('default', 'message', 'hello-old', 'expired', '', '\x', '', 0, NULL, 0, 0, '', '', '', NULL, NULL, '', 1767268800000000, 1769860800000000, NULL, 2);
INSERT INTO perdure.operation VALUES ('default', 'message', 'place lasting', 'expired', '', '\x', '', 0, NULL, 0, 0, '', '', '', NULL, NULL, '', 1767268800000000, 1769860800000000, NULL, 2);
INSERT INTO perdure.operation VALUES ('default', 'message', 'place old', 'expired', '', '\x', '', 0, NULL, 0, 0, '', '', '', NULL, NULL, '', 1767268800000000, 1769860800000000, NULL, 2);
INSERT INTO perdure.operation VALUES ('acme', 'checkout', 'payment-1', 'sealed', 'charge', '\x6464646464646464646464646464646464646464646464646464646464646464', 'persistent', 1769860800000001, NULL, 0, 1, 'ok', 'json', '488156e88e2ced8c612b946976103a2a', 315360000000000, 2085220800000000, '', 1769860800000000, 1769860800000000, '\x7b226e756d626572223a22522d31222c22616d6f756e74223a3130307d', 2);
INSERT INTO perdure.operation VALUES ('default', 'message', 'hello-1', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'ok', 'json', 'e0649aed6505041897538a0890e85847', NULL, NULL, '', 1769860800000000, 1769860800000000, '\x2248656c6c6f2c20574f524c442122', 1);
INSERT INTO perdure.operation VALUES ('default', 'message', 'pd-schedule
nightly/2026-01-31T03:00:00Z', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'ok', 'json', '9f195e64712500bd0c403cbf82491f76', NULL, NULL, '', 1769860800000000, 1769860800000000, '\x6e756c6c', 1);
INSERT INTO perdure.operation VALUES ('default', 'message', 'place small', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'ok', 'json', 'e0649aed6505041897538a0890e85847', NULL, NULL, '', 1769860800000000, 1769860800000000, '\x2243484152474520534d414c4c2c205348495020534d414c4c22', 1);
INSERT INTO perdure.operation VALUES ('default', 'message', 'comment small thanks', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'ok', 'json', 'e0649aed6505041897538a0890e85847', NULL, NULL, '', 1769860800000000, 1769860800000000, '\x22313a207468616e6b7322', 1);
INSERT INTO perdure.operation VALUES ('default', 'message', 'comment small again', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'ok', 'json', 'e0649aed6505041897538a0890e85847', NULL, NULL, '', 1769860800000000, 1769860800000000, '\x22323a20616761696e22', 1);
INSERT INTO perdure.operation VALUES ('default', 'message', 'place closed', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'ok', 'json', 'e0649aed6505041897538a0890e85847', NULL, NULL, '', 1769860800000000, 1769860800000000, '\x2243484152474520434c4f5345442c205348495020434c4f53454422', 1);
INSERT INTO perdure.operation VALUES ('default', 'message', 'close closed', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'ok', 'json', 'e0649aed6505041897538a0890e85847', NULL, NULL, '', 1769860800000000, 1769860800000000, '\x22636c6f73656420697320636c6f73656422', 1);
INSERT INTO perdure.operation VALUES ('default', 'message', 'crashing', 'sealed', '', '\x', '', 0, NULL, 0, 0, 'error', 'json', '', NULL, NULL, '', 1769860800000000, 1769860800000000, '\x7b226d6f64756c65223a22706572647572652e6572726f7273222c226e616d65223a22506f69736f6e4d657373616765222c2274657874223a226d65737361676520276372617368696e67273a2074686520656e67696e65206372617368656420372074696d6573207768696c6520697420776173206f70656e3b20697420697320612064656164206c6574746572222c2261726773223a5b226d65737361676520276372617368696e67273a2074686520656e67696e65206372617368656420372074696d6573207768696c6520697420776173206f70656e3b20697420697320612064656164206c6574746572225d2c2261747472696275746573223a7b7d7d', 1);


--
-- Data for Name: parking; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: process; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.process VALUES ('default', '019b796d-d600-75f9-89a7-83b684cf0429', 'Order', NULL, 'idle', 8, 1767268800000577, 48, NULL, 5, 5, 0, 0, 'total', 0, '', '', 1767268800000000, 1767268800000000, 7, NULL);
INSERT INTO perdure.process VALUES ('default', '019b796d-d600-7c29-897b-b8cafd93cc03', 'Order', NULL, 'removed', 11, 1767268800000193, 63, NULL, 11, 11, 0, 0, '', 1, '', '', 1767268800000000, 1769860800000000, 10, NULL);
INSERT INTO perdure.process VALUES ('default', 'hello-old', 'hello', NULL, 'removed', 4, 1767268800000065, 22, NULL, 4, 4, 0, 0, '', 1, '', '', 1767268800000000, 1769860800000000, 3, NULL);
INSERT INTO perdure.process VALUES ('default', 'hello-1', 'hello', NULL, 'ended', 4, 1769860800000129, 40, NULL, 0, 0, 0, 0, '', 0, '', '', 1769860800000000, 1769860800000000, 2, 1769860800000000);
INSERT INTO perdure.process VALUES ('default', 'nightly/2026-01-31T03:00:00Z', 'report', NULL, 'ended', 4, 1769860800000257, 41, NULL, 0, 0, 0, 0, '', 0, '', '', 1769860800000000, 1769860800000000, 2, 1769860800000000);
INSERT INTO perdure.process VALUES ('default', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 'Order', NULL, 'idle', 11, 1769860800000385, 1, NULL, 8, 0, 0, 0, 'total', 1, '', '', 1769860800000000, 1769860800000000, 8, NULL);
INSERT INTO perdure.process VALUES ('default', '019c13ec-9e00-75f9-89a7-83b684cf0429', 'Order', NULL, 'ended', 8, 1769860800000705, 35, NULL, 5, 0, 0, 0, 'total', 1, '', '', 1769860800000000, 1769860800000000, 6, 1769860800000000);
INSERT INTO perdure.process VALUES ('default', '019c13ec-9e00-73eb-a853-77977a13ff3f', 'Order', NULL, 'waiting', 3, 1769860800001025, 46, 'place big', 0, 0, 1, 0, '+total', 0, '', '', 1769860800000000, 1769860800000000, 3, NULL);
INSERT INTO perdure.process VALUES ('default', 'crashing', 'crashing', NULL, 'failed', 9, 1769860800001473, 30, NULL, 0, 0, 0, 0, '', 0, 'PoisonMessage: message ''crashing'': the engine crashed 7 times while it was open; it is a dead letter', '', 1769860800000000, 1769860800000000, 8, 1769860800000000);


--
-- Data for Name: process_attribute; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.process_attribute VALUES ('default', '019b796d-d600-75f9-89a7-83b684cf0429', 'total', 'int', '\x6ec0518000000000008000', '', NULL, 2);
INSERT INTO perdure.process_attribute VALUES ('default', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 'total', 'int', '\x6ec0140000000000008000', '', NULL, 2);
INSERT INTO perdure.process_attribute VALUES ('default', '019c13ec-9e00-75f9-89a7-83b684cf0429', 'total', 'int', '\x6ec0490000000000008000', '', NULL, 2);
INSERT INTO perdure.process_attribute VALUES ('default', '019c13ec-9e00-73eb-a853-77977a13ff3f', 'total', 'int', '\x6ec07f4000000000008000', '', NULL, 1);


--
-- Data for Name: process_log; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: process_state; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.process_state VALUES ('default', '019b796d-d600-75f9-89a7-83b684cf0429', '\x7b22636f6d6d656e7473223a317d', '\x7b22636f6d6d656e7473223a317d', 2);
INSERT INTO perdure.process_state VALUES ('default', '019c13ec-9e00-7c29-897b-b8cafd93cc03', '\x7b22636f6d6d656e7473223a327d', '\x7b22636f6d6d656e7473223a327d', 3);
INSERT INTO perdure.process_state VALUES ('default', '019c13ec-9e00-75f9-89a7-83b684cf0429', '\x7b22636f6d6d656e7473223a307d', '\x7b22636f6d6d656e7473223a307d', 1);
INSERT INTO perdure.process_state VALUES ('default', '019c13ec-9e00-73eb-a853-77977a13ff3f', '\x7b22636f6d6d656e7473223a307d', '\x7b22636f6d6d656e7473223a307d', 1);


--
-- Data for Name: registry_event; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.registry_event VALUES ('default', 1767268800000257, 'bind', 'order:old', '019b796d-d600-7c29-897b-b8cafd93cc03', 'Order', NULL, 'engine');
INSERT INTO perdure.registry_event VALUES ('default', 1767268800000449, 'unbind', 'order:old', '019b796d-d600-7c29-897b-b8cafd93cc03', 'Order', NULL, 'engine');
INSERT INTO perdure.registry_event VALUES ('default', 1767268800000641, 'bind', 'order:lasting', '019b796d-d600-75f9-89a7-83b684cf0429', 'Order', NULL, 'engine');
INSERT INTO perdure.registry_event VALUES ('default', 1769860800000449, 'bind', 'order:small', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 'Order', NULL, 'engine');
INSERT INTO perdure.registry_event VALUES ('default', 1769860800000769, 'bind', 'order:closed', '019c13ec-9e00-75f9-89a7-83b684cf0429', 'Order', NULL, 'engine');
INSERT INTO perdure.registry_event VALUES ('default', 1769860800000897, 'unbind', 'order:closed', '019c13ec-9e00-75f9-89a7-83b684cf0429', 'Order', NULL, 'engine');
INSERT INTO perdure.registry_event VALUES ('default', 1769860800001089, 'bind', 'order:big', '019c13ec-9e00-73eb-a853-77977a13ff3f', 'Order', NULL, 'engine');


--
-- Data for Name: registry_key; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.registry_key VALUES ('default', 'order:lasting', '019b796d-d600-75f9-89a7-83b684cf0429', 'Order', NULL, 1767268800000641, 0, 1);
INSERT INTO perdure.registry_key VALUES ('default', 'order:small', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 'Order', NULL, 1769860800000449, 0, 1);
INSERT INTO perdure.registry_key VALUES ('default', 'order:big', '019c13ec-9e00-73eb-a853-77977a13ff3f', 'Order', NULL, 1769860800001089, 0, 1);
INSERT INTO perdure.registry_key VALUES ('default', 'order:later', NULL, '', NULL, 0, 1, 1);


--
-- Data for Name: schedule; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.schedule VALUES ('default', 'nightly', 'shop', '0 3 * * *', 'UTC', 'skip', 0, 'last', 31622400000000, 0, 'start', '', 'report', 'report()', '\x5b5d', 0, 'active', 1769914800000000, 1769914800000000, 1769828400000000, 'nightly/2026-01-31T03:00:00Z', 0, '\x5b5d', '\x5b7b22736c6f74223a313736393832383430303030303030302c226174223a313736393836303830303030303030302c226f7574636f6d65223a226669726564222c226d6573736167655f6964223a226e696768746c792f323032362d30312d33315430333a30303a30305a227d5d', 1, 0, 29, 0, 1767268800000000, 1769860800000000, 2);


--
-- Data for Name: schema; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.schema VALUES ('9f195e64712500bd0c403cbf82491f76', '\x7b2264656673223a5b226e6f6e65225d2c22736368656d61223a317d', 1);
INSERT INTO perdure.schema VALUES ('e0649aed6505041897538a0890e85847', '\x7b2264656673223a5b22737472225d2c22736368656d61223a317d', 1);
INSERT INTO perdure.schema VALUES ('488156e88e2ced8c612b946976103a2a', '\x7b2264656673223a5b7b226669656c6473223a5b7b226e616d65223a226e756d626572222c2274797065223a22737472227d2c7b226e616d65223a22616d6f756e74222c2274797065223a22696e74227d5d2c22737472756374223a225061796d656e74227d5d2c22736368656d61223a317d', 1);


--
-- Data for Name: shard; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.shard VALUES (0, NULL, 0);
INSERT INTO perdure.shard VALUES (1, NULL, 0);
INSERT INTO perdure.shard VALUES (2, NULL, 0);
INSERT INTO perdure.shard VALUES (3, NULL, 0);
INSERT INTO perdure.shard VALUES (4, NULL, 0);
INSERT INTO perdure.shard VALUES (5, NULL, 0);
INSERT INTO perdure.shard VALUES (6, NULL, 0);
INSERT INTO perdure.shard VALUES (7, NULL, 0);
INSERT INTO perdure.shard VALUES (8, NULL, 0);
INSERT INTO perdure.shard VALUES (9, NULL, 0);
INSERT INTO perdure.shard VALUES (10, NULL, 0);
INSERT INTO perdure.shard VALUES (11, NULL, 0);
INSERT INTO perdure.shard VALUES (12, NULL, 0);
INSERT INTO perdure.shard VALUES (13, NULL, 0);
INSERT INTO perdure.shard VALUES (14, NULL, 0);
INSERT INTO perdure.shard VALUES (15, NULL, 0);
INSERT INTO perdure.shard VALUES (16, NULL, 0);
INSERT INTO perdure.shard VALUES (17, NULL, 0);
INSERT INTO perdure.shard VALUES (18, NULL, 0);
INSERT INTO perdure.shard VALUES (19, NULL, 0);
INSERT INTO perdure.shard VALUES (20, NULL, 0);
INSERT INTO perdure.shard VALUES (21, NULL, 0);
INSERT INTO perdure.shard VALUES (22, NULL, 0);
INSERT INTO perdure.shard VALUES (23, NULL, 0);
INSERT INTO perdure.shard VALUES (24, NULL, 0);
INSERT INTO perdure.shard VALUES (25, NULL, 0);
INSERT INTO perdure.shard VALUES (26, NULL, 0);
INSERT INTO perdure.shard VALUES (27, NULL, 0);
INSERT INTO perdure.shard VALUES (28, NULL, 0);
INSERT INTO perdure.shard VALUES (29, NULL, 0);
INSERT INTO perdure.shard VALUES (30, NULL, 0);
INSERT INTO perdure.shard VALUES (31, NULL, 0);
INSERT INTO perdure.shard VALUES (32, NULL, 0);
INSERT INTO perdure.shard VALUES (33, NULL, 0);
INSERT INTO perdure.shard VALUES (34, NULL, 0);
INSERT INTO perdure.shard VALUES (35, NULL, 0);
INSERT INTO perdure.shard VALUES (36, NULL, 0);
INSERT INTO perdure.shard VALUES (37, NULL, 0);
INSERT INTO perdure.shard VALUES (38, NULL, 0);
INSERT INTO perdure.shard VALUES (39, NULL, 0);
INSERT INTO perdure.shard VALUES (40, NULL, 0);
INSERT INTO perdure.shard VALUES (41, NULL, 0);
INSERT INTO perdure.shard VALUES (42, NULL, 0);
INSERT INTO perdure.shard VALUES (43, NULL, 0);
INSERT INTO perdure.shard VALUES (44, NULL, 0);
INSERT INTO perdure.shard VALUES (45, NULL, 0);
INSERT INTO perdure.shard VALUES (46, NULL, 0);
INSERT INTO perdure.shard VALUES (47, NULL, 0);
INSERT INTO perdure.shard VALUES (48, NULL, 0);
INSERT INTO perdure.shard VALUES (49, NULL, 0);
INSERT INTO perdure.shard VALUES (50, NULL, 0);
INSERT INTO perdure.shard VALUES (51, NULL, 0);
INSERT INTO perdure.shard VALUES (52, NULL, 0);
INSERT INTO perdure.shard VALUES (53, NULL, 0);
INSERT INTO perdure.shard VALUES (54, NULL, 0);
INSERT INTO perdure.shard VALUES (55, NULL, 0);
INSERT INTO perdure.shard VALUES (56, NULL, 0);
INSERT INTO perdure.shard VALUES (57, NULL, 0);
INSERT INTO perdure.shard VALUES (58, NULL, 0);
INSERT INTO perdure.shard VALUES (59, NULL, 0);
INSERT INTO perdure.shard VALUES (60, NULL, 0);
INSERT INTO perdure.shard VALUES (61, NULL, 0);
INSERT INTO perdure.shard VALUES (62, NULL, 0);
INSERT INTO perdure.shard VALUES (63, NULL, 0);


--
-- Data for Name: snapshot; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: store; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.store VALUES (1, 1, 64);


--
-- Data for Name: stream; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.stream VALUES ('default', 'log', 3, 1, 1769860800000000, 1769860800000000, 2);


--
-- Data for Name: stream_event; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.stream_event VALUES ('default', 'log', 1, 1769860800000000, '\x74776f', 1);
INSERT INTO perdure.stream_event VALUES ('default', 'log', 2, 1769860800000000, '\x7468726565', 1);


--
-- Data for Name: tenant_mail; Type: TABLE DATA; Schema: perdure; Owner: -
--



--
-- Data for Name: timer; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.timer VALUES ('default', '019c13ec-9e00-73eb-a853-77977a13ff3f', 'asyncio.timer', 1769947200000000, 46, 1);


--
-- Data for Name: turn; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.turn VALUES ('default', '019b796d-d600-75f9-89a7-83b684cf0429', 'comment lasting its turns were removed', 'finished', 0, 0, 0, 1, '', 'ok', NULL, 2);
INSERT INTO perdure.turn VALUES ('default', 'hello-1', 'hello-1', 'finished', 1, 0, 0, 1, '', 'ok', NULL, 2);
INSERT INTO perdure.turn VALUES ('default', 'nightly/2026-01-31T03:00:00Z', 'pd-schedule
nightly/2026-01-31T03:00:00Z', 'finished', 1, 0, 0, 1, '', 'ok', NULL, 2);
INSERT INTO perdure.turn VALUES ('default', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 'place small', 'finished', 2, 1, 0, 1, '', 'ok', NULL, 3);
INSERT INTO perdure.turn VALUES ('default', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 'comment small thanks', 'finished', 0, 0, 0, 1, '', 'ok', NULL, 2);
INSERT INTO perdure.turn VALUES ('default', '019c13ec-9e00-7c29-897b-b8cafd93cc03', 'comment small again', 'finished', 0, 0, 0, 1, '', 'ok', NULL, 2);
INSERT INTO perdure.turn VALUES ('default', '019c13ec-9e00-75f9-89a7-83b684cf0429', 'place closed', 'finished', 2, 1, 0, 1, '', 'ok', NULL, 3);
INSERT INTO perdure.turn VALUES ('default', '019c13ec-9e00-75f9-89a7-83b684cf0429', 'close closed', 'finished', 0, 0, 0, 1, '', 'ok', NULL, 2);
INSERT INTO perdure.turn VALUES ('default', '019c13ec-9e00-73eb-a853-77977a13ff3f', 'place big', 'started', 1, 1, 0, 1, '', '', NULL, 3);
INSERT INTO perdure.turn VALUES ('default', 'crashing', 'crashing', 'finished', 0, 0, 0, 7, '', 'error', NULL, 8);


--
-- Data for Name: value; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.value VALUES ('default', 'value', 7, 1769860800000000, 1);


--
-- Data for Name: writer; Type: TABLE DATA; Schema: perdure; Owner: -
--

INSERT INTO perdure.writer VALUES ('', 0, 0, 70, 1769860800001473, 0, 0, NULL, 0, NULL);


--
-- Name: aging aging_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.aging
    ADD CONSTRAINT aging_pkey PRIMARY KEY (tenant_id, process_id);


--
-- Name: awaited_reply awaited_reply_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.awaited_reply
    ADD CONSTRAINT awaited_reply_pkey PRIMARY KEY (tenant_id, ref, process_id, operation_id);


--
-- Name: cancellation cancellation_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.cancellation
    ADD CONSTRAINT cancellation_pkey PRIMARY KEY (tenant_id, process_id);


--
-- Name: child child_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.child
    ADD CONSTRAINT child_pkey PRIMARY KEY (tenant_id, parent_id, process_id);


--
-- Name: correlation correlation_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.correlation
    ADD CONSTRAINT correlation_pkey PRIMARY KEY (tenant_id, tag, process_id);


--
-- Name: counter counter_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.counter
    ADD CONSTRAINT counter_pkey PRIMARY KEY (name, node);


--
-- Name: dead_letter dead_letter_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (tenant_id, tick, source, message_id);


--
-- Name: event event_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (tenant_id, stream_no, seq);


--
-- Name: fan_out fan_out_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.fan_out
    ADD CONSTRAINT fan_out_pkey PRIMARY KEY (tenant_id, source, message_id);


--
-- Name: flow flow_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.flow
    ADD CONSTRAINT flow_pkey PRIMARY KEY (tenant_id, process_type, flow_key);


--
-- Name: flow_place flow_place_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.flow_place
    ADD CONSTRAINT flow_place_pkey PRIMARY KEY (tenant_id, process_id);


--
-- Name: flow_queue flow_queue_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.flow_queue
    ADD CONSTRAINT flow_queue_pkey PRIMARY KEY (tenant_id, process_type, flow_key, priority, tick, process_id);


--
-- Name: inbox inbox_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.inbox
    ADD CONSTRAINT inbox_pkey PRIMARY KEY (tenant_id, shard, tick);


--
-- Name: mailbox mailbox_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.mailbox
    ADD CONSTRAINT mailbox_pkey PRIMARY KEY (tenant_id, process_id);


--
-- Name: message message_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.message
    ADD CONSTRAINT message_pkey PRIMARY KEY (tenant_id, source, message_id);


--
-- Name: migration migration_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);


--
-- Name: operation operation_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.operation
    ADD CONSTRAINT operation_pkey PRIMARY KEY (tenant_id, scope, operation_id);


--
-- Name: parking parking_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.parking
    ADD CONSTRAINT parking_pkey PRIMARY KEY (tenant_id, parked_under);


--
-- Name: process_attribute process_attribute_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.process_attribute
    ADD CONSTRAINT process_attribute_pkey PRIMARY KEY (tenant_id, process_id, name);


--
-- Name: process_log process_log_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.process_log
    ADD CONSTRAINT process_log_pkey PRIMARY KEY (tenant_id, process_id, name, seq);


--
-- Name: process process_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.process
    ADD CONSTRAINT process_pkey PRIMARY KEY (tenant_id, process_id);


--
-- Name: process_state process_state_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.process_state
    ADD CONSTRAINT process_state_pkey PRIMARY KEY (tenant_id, process_id);


--
-- Name: registry_event registry_event_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.registry_event
    ADD CONSTRAINT registry_event_pkey PRIMARY KEY (tenant_id, tick);


--
-- Name: registry_key registry_key_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.registry_key
    ADD CONSTRAINT registry_key_pkey PRIMARY KEY (tenant_id, key);


--
-- Name: schedule schedule_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.schedule
    ADD CONSTRAINT schedule_pkey PRIMARY KEY (tenant_id, schedule_id);


--
-- Name: schema schema_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.schema
    ADD CONSTRAINT schema_pkey PRIMARY KEY (hash);


--
-- Name: shard shard_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.shard
    ADD CONSTRAINT shard_pkey PRIMARY KEY (shard);


--
-- Name: snapshot snapshot_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.snapshot
    ADD CONSTRAINT snapshot_pkey PRIMARY KEY (tenant_id, process_id);


--
-- Name: store store_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.store
    ADD CONSTRAINT store_pkey PRIMARY KEY (one);


--
-- Name: stream_event stream_event_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.stream_event
    ADD CONSTRAINT stream_event_pkey PRIMARY KEY (tenant_id, name, seq);


--
-- Name: stream stream_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.stream
    ADD CONSTRAINT stream_pkey PRIMARY KEY (tenant_id, name);


--
-- Name: tenant_mail tenant_mail_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.tenant_mail
    ADD CONSTRAINT tenant_mail_pkey PRIMARY KEY (tenant_id);


--
-- Name: timer timer_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.timer
    ADD CONSTRAINT timer_pkey PRIMARY KEY (tenant_id, process_id, timer_id);


--
-- Name: turn turn_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.turn
    ADD CONSTRAINT turn_pkey PRIMARY KEY (tenant_id, process_id, message_id);


--
-- Name: value value_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.value
    ADD CONSTRAINT value_pkey PRIMARY KEY (tenant_id, key);


--
-- Name: writer writer_pkey; Type: CONSTRAINT; Schema: perdure; Owner: -
--

ALTER TABLE ONLY perdure.writer
    ADD CONSTRAINT writer_pkey PRIMARY KEY (node, lane);


--
-- Name: aging_at; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX aging_at ON perdure.aging USING btree (what, at, tenant_id, process_id);


--
-- Name: awaited_reply_process; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX awaited_reply_process ON perdure.awaited_reply USING btree (tenant_id, process_id, operation_id, ref);


--
-- Name: cancellation_next; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX cancellation_next ON perdure.cancellation USING btree (tick, tenant_id, process_id);


--
-- Name: correlation_member; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX correlation_member ON perdure.correlation USING btree (tenant_id, tag, tick, process_id);


--
-- Name: correlation_process; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX correlation_process ON perdure.correlation USING btree (tenant_id, process_id, tag);


--
-- Name: counter_of_node; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX counter_of_node ON perdure.counter USING btree (node);


--
-- Name: flow_wanted; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX flow_wanted ON perdure.flow USING btree (next_at, tenant_id, process_type, flow_key) WHERE (waiting > 0);


--
-- Name: inbox_shard; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX inbox_shard ON perdure.inbox USING btree (shard, tenant_id, tick);


--
-- Name: message_aging; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX message_aging ON perdure.message USING btree (done_at, tenant_id, source, message_id) WHERE (done_at IS NOT NULL);


--
-- Name: message_delayed; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX message_delayed ON perdure.message USING btree (available_at, tenant_id, source, message_id) WHERE (status = 'delayed'::text);


--
-- Name: message_expiring; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX message_expiring ON perdure.message USING btree (status, expires_at, tenant_id, source, message_id) WHERE (expires_at IS NOT NULL);


--
-- Name: message_mail; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX message_mail ON perdure.message USING btree (tenant_id, process_id, mail_number, source, message_id) WHERE (status = 'queued'::text);


--
-- Name: message_parked; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX message_parked ON perdure.message USING btree (tenant_id, parked_under, tick, source, message_id) WHERE (status = 'parked'::text);


--
-- Name: operation_lease; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX operation_lease ON perdure.operation USING btree (tenant_id, lease_expires_at, scope, operation_id) WHERE (lease_expires_at IS NOT NULL);


--
-- Name: operation_retention; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX operation_retention ON perdure.operation USING btree (retain_until, tenant_id, scope, operation_id) WHERE (retain_until IS NOT NULL);


--
-- Name: parking_kept; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX parking_kept ON perdure.parking USING btree (tenant_id, parked_under) WHERE (parked > 0);


--
-- Name: process_attribute_value; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX process_attribute_value ON perdure.process_attribute USING btree (tenant_id, name, value, process_id) WHERE (value IS NOT NULL);


--
-- Name: process_created; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX process_created ON perdure.process USING btree (tenant_id, created_at, process_id);


--
-- Name: process_halted; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX process_halted ON perdure.process USING btree (tenant_id, status, process_id) WHERE ((status = 'paused'::text) OR (status = 'stuck'::text) OR (status = 'stranded'::text) OR (status = 'failed'::text));


--
-- Name: process_over; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX process_over ON perdure.process USING btree (over_at, tenant_id, process_id) WHERE (over_at IS NOT NULL);


--
-- Name: process_runnable; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX process_runnable ON perdure.process USING btree (shard, tenant_id, process_id) WHERE (status = ANY (ARRAY['runnable'::text, 'stuck'::text]));


--
-- Name: process_stream; Type: INDEX; Schema: perdure; Owner: -
--

CREATE UNIQUE INDEX process_stream ON perdure.process USING btree (tenant_id, stream_no);


--
-- Name: registry_key_owed; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX registry_key_owed ON perdure.registry_key USING btree (tenant_id, key) WHERE ((process_id IS NOT NULL) AND (parked > 0));


--
-- Name: registry_key_owner; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX registry_key_owner ON perdure.registry_key USING btree (tenant_id, process_id, key) WHERE (process_id IS NOT NULL);


--
-- Name: schedule_declared; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX schedule_declared ON perdure.schedule USING btree (declared_by, tenant_id, schedule_id) WHERE ((declared_by <> ''::text) AND (status <> 'removed'::text));


--
-- Name: schedule_due; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX schedule_due ON perdure.schedule USING btree (next_at, tenant_id, schedule_id) WHERE (next_at IS NOT NULL);


--
-- Name: schedule_waiting; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX schedule_waiting ON perdure.schedule USING btree (tenant_id, schedule_id) WHERE (queued > 0);


--
-- Name: timer_due; Type: INDEX; Schema: perdure; Owner: -
--

CREATE INDEX timer_due ON perdure.timer USING btree (due, tenant_id, process_id, timer_id);


--
-- PostgreSQL database dump complete
--


