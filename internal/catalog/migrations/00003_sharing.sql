-- Tags of several accounts, and grants.

-- +goose Up
-- An account lists all its tags, whatever it put them on.
CREATE INDEX tags_by_account ON tags (account, snapshot, position);

-- Who may read a snapshot besides its owner. Region, start and ID are the
-- snapshot's own and never change: they are here so that what is shared with
-- an account is found in the order of lists.
CREATE TABLE grants (
    snapshot BIGINT NOT NULL REFERENCES snapshots (key) ON DELETE CASCADE,
    account  TEXT NOT NULL,   -- 12 digits, or "all"
    region   TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    id       TEXT NOT NULL,
    PRIMARY KEY (snapshot, account)
) WITHOUT ROWID;
CREATE INDEX grants_by_account ON grants (account, region, start_ms, id);
