-- Users, roles and what they may. docs/formats.md, Catalog.

-- +goose Up
CREATE TABLE entities (
    id            TEXT PRIMARY KEY,
    account       TEXT NOT NULL REFERENCES accounts (id),
    kind          INTEGER NOT NULL, -- 1 user, 2 role
    path          TEXT NOT NULL,
    name          TEXT NOT NULL,
    folded        TEXT NOT NULL,    -- the name in lower case
    created_ms    BIGINT NOT NULL,
    -- What only roles have.
    trust         TEXT NOT NULL DEFAULT '',
    description   TEXT NOT NULL DEFAULT '',
    max_session_s BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX entities_by_name ON entities (account, kind, folded);

CREATE TABLE documents (
    entity TEXT NOT NULL REFERENCES entities (id),
    name   TEXT NOT NULL,
    text   TEXT NOT NULL,
    size   BIGINT NOT NULL, -- characters, without blanks
    PRIMARY KEY (entity, name)
) WITHOUT ROWID;

ALTER TABLE access_keys ADD COLUMN entity TEXT REFERENCES entities (id); -- NULL: the account's root user
ALTER TABLE access_keys ADD COLUMN inactive INTEGER NOT NULL DEFAULT 0;  -- 1: it signs nothing
CREATE INDEX access_keys_by_owner ON access_keys (account, entity);

ALTER TABLE bearer_tokens ADD COLUMN entity TEXT REFERENCES entities (id); -- NULL: the account's root user
CREATE INDEX bearer_tokens_by_entity ON bearer_tokens (entity);
