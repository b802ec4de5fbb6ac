-- Copies in progress, locks and the recycle bin. docs/formats.md, Catalog,
-- says what each column is for. snapshots.state also knows 6, a copy in
-- progress, and 7, in the recycle bin.

-- +goose Up
ALTER TABLE snapshots ADD COLUMN completion_minutes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN bin_enter_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN bin_exit_ms BIGINT NOT NULL DEFAULT 0;
CREATE INDEX snapshots_copying ON snapshots (key) WHERE state = 6;
CREATE INDEX snapshots_copying_by_owner ON snapshots (account, region) WHERE state = 6;
CREATE INDEX snapshots_binned ON snapshots (bin_exit_ms) WHERE state = 7;
CREATE INDEX snapshots_binned_by_owner ON snapshots (account, region, start_ms, id) WHERE state = 7;

-- What a copy in progress is a copy of. The row goes with that of the copy.
CREATE TABLE copies (
    snapshot      INTEGER PRIMARY KEY REFERENCES snapshots (key) ON DELETE CASCADE,
    source_region TEXT NOT NULL,
    source_id     TEXT NOT NULL,
    refused       TEXT NOT NULL     -- why it will fail whatever the source is; empty if it need not
);

CREATE TABLE locks (
    snapshot      INTEGER PRIMARY KEY REFERENCES snapshots (key) ON DELETE CASCADE,
    state         INTEGER NOT NULL, -- 1 governance, 2 compliance-cooloff, 3 compliance, 4 expired
    created_ms    BIGINT NOT NULL,
    days          BIGINT NOT NULL,
    start_ms      BIGINT NOT NULL,  -- 0: the snapshot is pending
    expires_ms    BIGINT NOT NULL,  -- 0: the snapshot is pending
    cooloff_hours BIGINT NOT NULL,  -- 0: none
    cooloff_ms    BIGINT NOT NULL   -- 0: none
);
CREATE INDEX locks_ending ON locks (expires_ms) WHERE state < 4;
CREATE INDEX locks_cooling ON locks (cooloff_ms) WHERE state = 2;

-- The time of locks never goes back: the latest that any of them has seen.
CREATE TABLE lock_time (
    only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
    latest_ms BIGINT NOT NULL
);
INSERT INTO lock_time (only_row, latest_ms) VALUES (1, 0);
