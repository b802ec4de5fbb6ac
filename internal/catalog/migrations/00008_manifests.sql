-- Manifests: what is needed to bring snapshots back without the catalog.
-- docs/formats.md, Manifest and Catalog.

-- +goose Up
CREATE TABLE manifests (
    snapshot TEXT PRIMARY KEY, -- its ID; the row stays when the snapshot's goes
    version  BIGINT NOT NULL,
    record   BLOB NOT NULL     -- id of the record
);

-- Snapshots that have changed since their newest manifest, or have none.
CREATE TABLE manifests_due (
    snapshot TEXT PRIMARY KEY,
    version  BIGINT NOT NULL   -- of the manifest to come
);
INSERT INTO manifests_due (snapshot, version) SELECT id, 1 FROM snapshots WHERE state IN (3, 7);
