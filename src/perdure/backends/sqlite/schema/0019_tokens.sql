-- What: tokens of the HTTP server: who may do what, and the hash of the secret.
-- Phase: expand. Cost: none.

CREATE TABLE token (
    token_id TEXT NOT NULL CHECK (token_id <> ''),
    secret_digest BLOB NOT NULL CHECK (length(secret_digest) = 32),
    tenant TEXT NOT NULL CHECK (length(tenant) BETWEEN 1 AND 128),
    grants TEXT NOT NULL CHECK (grants <> ''),
    name TEXT NOT NULL CHECK (name <> ''),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    rev INTEGER NOT NULL,
    PRIMARY KEY (token_id)
) STRICT, WITHOUT ROWID;
