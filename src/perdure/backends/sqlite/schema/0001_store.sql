-- What: the store itself: its format, its migrations, its writers and their counters.
-- Phase: creation. Cost: none.
-- Checks here and later name values by OR: for IN with three or more, SQLite builds a table at every row, 1.2 of an insert's 3 µs.

CREATE TABLE migration (
    number INTEGER NOT NULL PRIMARY KEY CHECK (number > 0),
    name TEXT NOT NULL CHECK (name <> ''),
    checksum TEXT NOT NULL CHECK (length(checksum) = 64),
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE store (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL CHECK (format > 0),
    shards INTEGER NOT NULL CHECK (shards > 0)
) STRICT;

INSERT INTO store (one, format, shards) VALUES (1, 1, 64);

-- One row per open store; node '' is the base row, into which those that are gone were folded.
CREATE TABLE writer (
    node TEXT NOT NULL,
    lane INTEGER NOT NULL CHECK (lane >= 0),
    incarnation INTEGER NOT NULL CHECK (incarnation >= 0),
    batch INTEGER NOT NULL CHECK (batch >= 0),
    last_tick INTEGER NOT NULL CHECK (last_tick >= 0),
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (node, lane)
) STRICT, WITHOUT ROWID;

INSERT INTO writer (node, lane, incarnation, batch, last_tick, seen_at) VALUES ('', 0, 0, 0, 0, 0);

-- A counter is the sum over its nodes: a writer adds to its own row and waits for nobody.
CREATE TABLE counter (
    name TEXT NOT NULL CHECK (name <> ''),
    node TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name, node)
) STRICT, WITHOUT ROWID;

CREATE INDEX counter_of_node ON counter (node);
