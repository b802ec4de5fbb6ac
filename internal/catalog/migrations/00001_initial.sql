-- The catalog, version 1. docs/formats.md, Catalog, says what each table is
-- for. Times are milliseconds since 1970 UTC; 0 means not yet.

-- +goose Up
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
);

CREATE TABLE accounts (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL
);

CREATE TABLE access_keys (
    id         TEXT PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (id),
    secret     TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE snapshots (
    key            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    account        TEXT NOT NULL REFERENCES accounts (id),
    region         TEXT NOT NULL,
    state          INTEGER NOT NULL, -- 1 open, 2 completing, 3 completed, 4 error, 5 deleted
    message        TEXT NOT NULL DEFAULT '',
    parent_id      TEXT NOT NULL DEFAULT '',
    lineage        BIGINT NOT NULL,  -- key of the first ancestor
    description    TEXT,             -- NULL if none was given
    volume_gib     BIGINT NOT NULL,
    start_ms       BIGINT NOT NULL,
    completed_ms   BIGINT NOT NULL DEFAULT 0,
    deleted_ms     BIGINT NOT NULL DEFAULT 0,
    timeout_ms     BIGINT NOT NULL,
    deadline_ms    BIGINT NOT NULL,
    base           BLOB,             -- root of the parent's map; NULL for none
    root           BLOB,             -- root of the own map; NULL for none
    base_blocks    BIGINT NOT NULL DEFAULT 0,
    blocks         BIGINT NOT NULL DEFAULT 0,
    claim_blocks   BIGINT NOT NULL DEFAULT 0,
    claim_checksum BLOB,
    leftover       INTEGER NOT NULL DEFAULT 0 -- 1: closed, and pending rows may remain
);
CREATE INDEX snapshots_by_owner ON snapshots (account, region, start_ms, id);
CREATE INDEX snapshots_open ON snapshots (deadline_ms) WHERE state = 1;
CREATE INDEX snapshots_completing ON snapshots (key) WHERE state = 2;
CREATE INDEX snapshots_deleted ON snapshots (deleted_ms) WHERE state = 5;
CREATE INDEX snapshots_leftover ON snapshots (key) WHERE leftover = 1;

-- Tags belong to an account's view of a snapshot.
CREATE TABLE tags (
    snapshot BIGINT NOT NULL REFERENCES snapshots (key) ON DELETE CASCADE,
    account  TEXT NOT NULL,
    position INTEGER NOT NULL,
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (snapshot, account, key)
) WITHOUT ROWID;

CREATE TABLE client_tokens (
    account  TEXT NOT NULL,
    region   TEXT NOT NULL,
    token    TEXT NOT NULL,
    request  BLOB NOT NULL, -- canonical JSON of the request that bound it
    snapshot BIGINT NOT NULL REFERENCES snapshots (key) ON DELETE CASCADE,
    PRIMARY KEY (account, region, token)
) WITHOUT ROWID;
CREATE INDEX client_tokens_by_snapshot ON client_tokens (snapshot);

-- The blocks written to snapshots that are not completed yet.
CREATE TABLE pending (
    snapshot BIGINT NOT NULL,
    idx      INTEGER NOT NULL,
    id       BLOB NOT NULL,
    PRIMARY KEY (snapshot, idx)
) WITHOUT ROWID;

-- Where every block and map node is.
CREATE TABLE records (
    id        BLOB PRIMARY KEY,
    kind      INTEGER NOT NULL, -- 1 block, 2 map node
    container BIGINT NOT NULL,
    pos       BIGINT NOT NULL,
    length    INTEGER NOT NULL,
    crc       BIGINT NOT NULL,
    codec     INTEGER NOT NULL,
    damaged   INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE containers (
    id     INTEGER PRIMARY KEY,
    length BIGINT NOT NULL -- committed, bytes
);
