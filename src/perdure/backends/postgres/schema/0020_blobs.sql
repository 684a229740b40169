-- What: blobs, which are large params and results of commands: their parts, uploads under way, and who refers to them.
-- Phase: expand. Cost: none.

CREATE TABLE blob (
    tenant_id text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL CHECK (length(sha256) = 64),
    size bigint NOT NULL CHECK (size >= 0),
    content_type text COLLATE "C" NOT NULL,
    upload_id text COLLATE "C" NOT NULL CHECK (upload_id <> ''),
    parts bigint NOT NULL CHECK (parts >= 0),
    refs bigint NOT NULL CHECK (refs >= 0),
    removed_at bigint,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, sha256),
    CHECK ((refs = 0) = (removed_at IS NOT NULL))
);
CREATE INDEX blob_unused ON blob (removed_at, tenant_id, sha256) WHERE removed_at IS NOT NULL;

CREATE TABLE blob_part (
    tenant_id text COLLATE "C" NOT NULL,
    upload_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL CHECK (number >= 0),
    data bytea NOT NULL CHECK (length(data) > 0),
    PRIMARY KEY (tenant_id, upload_id, number)
);

CREATE TABLE blob_upload (
    tenant_id text COLLATE "C" NOT NULL,
    upload_id text COLLATE "C" NOT NULL CHECK (upload_id <> ''),
    parts bigint NOT NULL CHECK (parts >= 0),
    removed_at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, upload_id)
);
CREATE INDEX blob_upload_left ON blob_upload (removed_at, tenant_id, upload_id);

CREATE TABLE blob_reference (
    tenant_id text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    command_id text COLLATE "C" NOT NULL CHECK (command_id <> ''),
    part text COLLATE "C" NOT NULL CHECK (part = 'params' OR part = 'result'),
    at bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, sha256, command_id, part)
);
