-- What: blobs, which are large params and results of commands: their parts, uploads under way, and who refers to them.
-- Phase: expand. Cost: none.

CREATE TABLE blob (
    tenant_id TEXT NOT NULL,
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    size INTEGER NOT NULL CHECK (size >= 0),
    content_type TEXT NOT NULL,
    upload_id TEXT NOT NULL CHECK (upload_id <> ''),
    parts INTEGER NOT NULL CHECK (parts >= 0),
    refs INTEGER NOT NULL CHECK (refs >= 0),
    removed_at INTEGER,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, sha256),
    CHECK ((refs = 0) = (removed_at IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_unused ON blob (removed_at, tenant_id, sha256) WHERE removed_at IS NOT NULL;

CREATE TABLE blob_part (
    tenant_id TEXT NOT NULL,
    upload_id TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    data BLOB NOT NULL CHECK (length(data) > 0),
    PRIMARY KEY (tenant_id, upload_id, number)
) STRICT;

CREATE TABLE blob_upload (
    tenant_id TEXT NOT NULL,
    upload_id TEXT NOT NULL CHECK (upload_id <> ''),
    parts INTEGER NOT NULL CHECK (parts >= 0),
    removed_at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, upload_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_upload_left ON blob_upload (removed_at, tenant_id, upload_id);

CREATE TABLE blob_reference (
    tenant_id TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    command_id TEXT NOT NULL CHECK (command_id <> ''),
    part TEXT NOT NULL CHECK (part = 'params' OR part = 'result'),
    at INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, sha256, command_id, part)
) STRICT, WITHOUT ROWID;
