-- What: the phase of each migration, for upgrades of one process after another.
-- Phase: expand. Cost: none.

ALTER TABLE migration ADD COLUMN phase TEXT NOT NULL DEFAULT 'expand' CHECK (phase = 'expand' OR phase = 'contract');
