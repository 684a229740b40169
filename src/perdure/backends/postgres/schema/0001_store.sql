-- What: the store itself: its format, its migrations, its writers and their counters.
-- Phase: creation. Cost: none.
-- Text is compared by bytes everywhere. Rows that are updated once or more leave room in their pages, so that an update touches no index.

CREATE TABLE migration (
    number bigint NOT NULL PRIMARY KEY CHECK (number > 0),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    checksum text COLLATE "C" NOT NULL CHECK (length(checksum) = 64),
    applied_at bigint NOT NULL
);

CREATE TABLE store (
    one bigint NOT NULL PRIMARY KEY CHECK (one = 1),
    format bigint NOT NULL CHECK (format > 0),
    shards bigint NOT NULL CHECK (shards > 0)
);

INSERT INTO store (one, format, shards) VALUES (1, 1, 64);

-- One row per open store; node '' is the base row, into which those that are gone were folded. Ticks of a writer are its slot,
-- modulo the number of slots, so that two who write at the same time give out different ones. One that works on processes has
-- a lease until `expires_at`, which each of its batches renews.
CREATE TABLE writer (
    node text COLLATE "C" NOT NULL,
    lane bigint NOT NULL CHECK (lane >= 0),
    incarnation bigint NOT NULL CHECK (incarnation >= 0),
    batch bigint NOT NULL CHECK (batch >= 0),
    last_tick bigint NOT NULL CHECK (last_tick >= 0),
    seen_at bigint NOT NULL,
    slot bigint NOT NULL CHECK (slot >= 0),
    expires_at bigint,
    PRIMARY KEY (node, lane)
) WITH (fillfactor = 10);

INSERT INTO writer (node, lane, incarnation, batch, last_tick, seen_at, slot) VALUES ('', 0, 0, 0, 0, 0, 0);

-- Who works on which processes. A node whose lease has expired loses its shards to whoever sees that first: he raises its
-- incarnation, which refuses all that it still writes.
CREATE TABLE shard (
    shard bigint NOT NULL PRIMARY KEY CHECK (shard >= 0),
    node text COLLATE "C",
    epoch bigint NOT NULL CHECK (epoch >= 0)
) WITH (fillfactor = 50);

INSERT INTO shard (shard, node, epoch) SELECT n, NULL, 0 FROM store, generate_series(0, store.shards - 1) n;

-- A counter is the sum over its nodes: a writer adds to its own row and waits for nobody.
CREATE TABLE counter (
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    node text COLLATE "C" NOT NULL,
    value bigint NOT NULL,
    PRIMARY KEY (name, node)
) WITH (fillfactor = 50);

CREATE INDEX counter_of_node ON counter (node);

-- Undoes the statement that calls it, with an error that says why.
CREATE FUNCTION refuse(code text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the batch is refused' USING ERRCODE = code;
END
$$;
