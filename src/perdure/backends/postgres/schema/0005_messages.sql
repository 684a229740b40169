-- Messages, mailboxes, parking, fan-outs and dead letters.
CREATE TABLE message (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    source text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL CHECK (message_id <> ''),
    digest bytea NOT NULL,
    kind text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL CHECK (
        status = 'delayed' OR status = 'parked' OR status = 'queued' OR status = 'open' OR status = 'done' OR status = 'dead' OR status = 'expired'
    ),
    address text COLLATE "C" NOT NULL,
    process_id text COLLATE "C",
    parked_under text COLLATE "C",
    mail_number bigint,
    tick bigint NOT NULL,
    accepted_at bigint NOT NULL,
    expires_at bigint,
    done_at bigint,
    copies bigint,
    note text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,
    available_at bigint,
    asked bigint NOT NULL CHECK (asked >= 0),
    payload bytea NOT NULL,
    headers bytea,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, source, message_id),
    CHECK (status <> 'delayed' OR available_at IS NOT NULL),
    CHECK (status <> 'parked' OR parked_under IS NOT NULL),
    CHECK (done_at IS NULL OR status = 'done'),
    CHECK (status <> 'queued' OR (process_id IS NOT NULL AND mail_number IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX message_mail ON message (tenant_id, process_id, mail_number, source, message_id) WHERE status = 'queued';
CREATE INDEX message_parked ON message (tenant_id, parked_under, tick, source, message_id) WHERE status = 'parked';
CREATE INDEX message_delayed ON message (available_at, tenant_id, source, message_id) WHERE status = 'delayed';
CREATE INDEX message_expiring ON message (status, expires_at, tenant_id, source, message_id) WHERE expires_at IS NOT NULL;
CREATE INDEX message_aging ON message (done_at, tenant_id, source, message_id) WHERE done_at IS NOT NULL;

CREATE TABLE mailbox (
    tenant_id text COLLATE "C" NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    last bigint NOT NULL,
    queued bigint NOT NULL CHECK (queued >= 0),
    addressed bigint NOT NULL CHECK (addressed IN (0, 1)),
    cancelled text COLLATE "C",
    forced bigint NOT NULL CHECK (forced IN (0, 1)),
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
) WITH (fillfactor = 70);

CREATE TABLE tenant_mail (
    tenant_id text COLLATE "C" NOT NULL,
    reserved bigint NOT NULL CHECK (reserved >= 0),
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id)
);

CREATE TABLE parking (
    tenant_id text COLLATE "C" NOT NULL,
    parked_under text COLLATE "C" NOT NULL,
    parked bigint NOT NULL CHECK (parked >= 0),
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, parked_under)
);

CREATE INDEX parking_kept ON parking (tenant_id, parked_under) WHERE parked > 0;

CREATE TABLE fan_out (
    tenant_id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    tag text COLLATE "C" NOT NULL,
    until bigint NOT NULL,
    at bigint NOT NULL,
    process_id text COLLATE "C" NOT NULL,
    delivered bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, source, message_id)
);

CREATE TABLE dead_letter (
    tenant_id text COLLATE "C" NOT NULL,
    tick bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL CHECK (reason <> ''),
    detail text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    process_id text COLLATE "C",
    at bigint NOT NULL,
    redriven_as text COLLATE "C",
    payload bytea NOT NULL,
    headers bytea,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, tick, source, message_id)
);
