-- Registry keys, tags, and the record of every change to them, from which both can be rebuilt.
-- A key without owner is one that messages are parked under.
CREATE TABLE registry_key (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    key text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 256),
    process_id text COLLATE "C" CHECK (octet_length(process_id) BETWEEN 1 AND 256),
    process_type text COLLATE "C" NOT NULL CHECK (octet_length(process_type) <= 256),
    package_hash text COLLATE "C" CHECK (length(package_hash) = 64),
    tick bigint NOT NULL,
    parked bigint NOT NULL CHECK (parked >= 0),
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, key),
    CHECK ((process_id IS NULL) = (process_type = '') AND (process_id IS NULL) = (tick = 0)),
    CHECK (process_id IS NOT NULL OR (package_hash IS NULL AND parked > 0))
);
CREATE INDEX registry_key_owner ON registry_key (tenant_id, process_id, key) WHERE process_id IS NOT NULL;
CREATE INDEX registry_key_owed ON registry_key (tenant_id, key) WHERE process_id IS NOT NULL AND parked > 0;

CREATE TABLE correlation (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    tag text COLLATE "C" NOT NULL CHECK (octet_length(tag) BETWEEN 1 AND 256),
    process_id text COLLATE "C" NOT NULL CHECK (octet_length(process_id) BETWEEN 1 AND 256),
    process_type text COLLATE "C" NOT NULL CHECK (octet_length(process_type) BETWEEN 1 AND 256),
    package_hash text COLLATE "C" CHECK (length(package_hash) = 64),
    tick bigint NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (tenant_id, tag, process_id)
);
CREATE INDEX correlation_member ON correlation (tenant_id, tag, tick, process_id);
CREATE INDEX correlation_process ON correlation (tenant_id, process_id, tag);

CREATE TABLE registry_event (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 1 AND 128),
    tick bigint NOT NULL,
    what text COLLATE "C" NOT NULL CHECK (what = 'bind' OR what = 'unbind' OR what = 'tag' OR what = 'untag'),
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 256),
    process_id text COLLATE "C" NOT NULL CHECK (octet_length(process_id) BETWEEN 1 AND 256),
    process_type text COLLATE "C" NOT NULL CHECK (octet_length(process_type) BETWEEN 1 AND 256),
    package_hash text COLLATE "C" CHECK (length(package_hash) = 64),
    actor text COLLATE "C" NOT NULL CHECK (actor IN ('engine', 'caller')),
    PRIMARY KEY (tenant_id, tick)
);
