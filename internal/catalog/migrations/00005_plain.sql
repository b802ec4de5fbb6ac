-- What the plain dialect adds: bearer tokens, and figures of usage.

-- +goose Up
CREATE TABLE bearer_tokens (
    id         TEXT PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (id),
    name       TEXT NOT NULL,
    secret     BLOB NOT NULL,   -- SHA-256 of the token's secret half
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL  -- 0: never
);

-- As of the last count of all block maps; a row for each snapshot counted.
CREATE TABLE usage (
    snapshot     INTEGER PRIMARY KEY REFERENCES snapshots (key) ON DELETE CASCADE,
    unique_bytes BIGINT NOT NULL,
    shared_bytes BIGINT NOT NULL,
    counted_ms   BIGINT NOT NULL
);

-- The blocks of zeros, one for each encryption domain.
CREATE INDEX records_zero ON records (id) WHERE codec = 1;
