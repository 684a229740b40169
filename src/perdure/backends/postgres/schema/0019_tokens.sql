-- What: tokens of the HTTP server: who may do what, and the hash of the secret.
-- Phase: expand. Cost: none.

CREATE TABLE token (
    token_id text COLLATE "C" NOT NULL CHECK (token_id <> ''),
    secret_digest bytea NOT NULL CHECK (length(secret_digest) = 32),
    tenant text COLLATE "C" NOT NULL CHECK (length(tenant) BETWEEN 1 AND 128),
    grants text COLLATE "C" NOT NULL CHECK (grants <> ''),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    rev bigint NOT NULL,
    PRIMARY KEY (token_id)
);
