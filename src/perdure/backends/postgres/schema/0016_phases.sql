-- What: the phase of each migration, and what each open store knows of them, for upgrades of one node after another.
-- Phase: expand. Cost: none.

ALTER TABLE migration ADD COLUMN phase text COLLATE "C" NOT NULL DEFAULT 'expand' CHECK (phase = 'expand' OR phase = 'contract');

-- An open store knows the migrations up to `knows`, and is there until `open_until`, which it renews. Without it, nobody knows.
ALTER TABLE writer ADD COLUMN knows bigint NOT NULL DEFAULT 0 CHECK (knows >= 0), ADD COLUMN open_until bigint;
