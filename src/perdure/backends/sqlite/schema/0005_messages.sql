-- Messages, mailboxes, parking, fan-outs and dead letters.
-- `message` keeps its rowid: payloads of up to 1 MiB in the leaves of a key tree would spread the keys over the file.
CREATE TABLE message (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    source TEXT NOT NULL,
    message_id TEXT NOT NULL CHECK (message_id <> ''),
    digest BLOB NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL CHECK (
        status = 'delayed' OR status = 'parked' OR status = 'queued' OR status = 'open' OR status = 'done' OR status = 'dead' OR status = 'expired'
    ),
    address TEXT NOT NULL,
    process_id TEXT,
    parked_under TEXT,
    mail_number INTEGER,
    tick INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    expires_at INTEGER,
    done_at INTEGER,
    copies INTEGER,
    note TEXT NOT NULL,
    sender TEXT NOT NULL,
    available_at INTEGER,
    asked INTEGER NOT NULL CHECK (asked >= 0),
    payload BLOB NOT NULL,
    headers BLOB,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, source, message_id),
    CHECK (status <> 'delayed' OR available_at IS NOT NULL),
    CHECK (status <> 'parked' OR parked_under IS NOT NULL),
    CHECK (done_at IS NULL OR status = 'done'),
    CHECK (status <> 'queued' OR (process_id IS NOT NULL AND mail_number IS NOT NULL))
) STRICT;
CREATE INDEX message_mail ON message (tenant_id, process_id, mail_number, source, message_id) WHERE status = 'queued';
CREATE INDEX message_parked ON message (tenant_id, parked_under, tick, source, message_id) WHERE status = 'parked';
CREATE INDEX message_delayed ON message (available_at, tenant_id, source, message_id) WHERE status = 'delayed';
CREATE INDEX message_expiring ON message (status, expires_at, tenant_id, source, message_id) WHERE expires_at IS NOT NULL;
CREATE INDEX message_aging ON message (done_at, tenant_id, source, message_id) WHERE done_at IS NOT NULL;

CREATE TABLE mailbox (
    tenant_id TEXT NOT NULL,
    process_id TEXT NOT NULL,
    last INTEGER NOT NULL,
    queued INTEGER NOT NULL CHECK (queued >= 0),
    addressed INTEGER NOT NULL CHECK (addressed IN (0, 1)),
    cancelled TEXT,
    forced INTEGER NOT NULL CHECK (forced IN (0, 1)),
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, process_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE tenant_mail (
    tenant_id TEXT NOT NULL,
    reserved INTEGER NOT NULL CHECK (reserved >= 0),
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE parking (
    tenant_id TEXT NOT NULL,
    parked_under TEXT NOT NULL,
    parked INTEGER NOT NULL CHECK (parked >= 0),
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, parked_under)
) STRICT, WITHOUT ROWID;

CREATE INDEX parking_kept ON parking (tenant_id, parked_under) WHERE parked > 0;

CREATE TABLE fan_out (
    tenant_id TEXT NOT NULL,
    source TEXT NOT NULL,
    message_id TEXT NOT NULL,
    tag TEXT NOT NULL,
    until INTEGER NOT NULL,
    at INTEGER NOT NULL,
    process_id TEXT NOT NULL,
    delivered INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, source, message_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
    tenant_id TEXT NOT NULL,
    tick INTEGER NOT NULL,
    source TEXT NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL CHECK (reason <> ''),
    detail TEXT NOT NULL,
    address TEXT NOT NULL,
    process_id TEXT,
    at INTEGER NOT NULL,
    redriven_as TEXT,
    payload BLOB NOT NULL,
    headers BLOB,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, tick, source, message_id)
) STRICT;
