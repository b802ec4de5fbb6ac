-- Encryption at rest. docs/formats.md, Encryption and Catalog.

-- +goose Up
ALTER TABLE records ADD COLUMN domain INTEGER NOT NULL DEFAULT 0; -- 0: unencrypted
ALTER TABLE records ADD COLUMN cipher INTEGER NOT NULL DEFAULT 0;
ALTER TABLE records ADD COLUMN nonce  BLOB;
ALTER TABLE records ADD COLUMN sealed BLOB; -- the digest, under the domain's key

ALTER TABLE snapshots ADD COLUMN domain      INTEGER NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN kms_key_arn TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN root_mac    BLOB;

-- What an account has set for itself in a region.
CREATE TABLE account_settings (
    account TEXT NOT NULL,
    region  TEXT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (account, region, name)
) WITHOUT ROWID;
