-- Where the reading of everything stands, and what its last pass found.
-- docs/formats.md, Catalog.

-- +goose Up
CREATE TABLE scrub (
    only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
    began_ms      BIGINT NOT NULL, -- the pass in progress; 0: none is
    container     BIGINT NOT NULL, -- the last one that it has been through
    bytes         BIGINT NOT NULL, -- read by it so far
    records       BIGINT NOT NULL, -- verified by it so far
    last_began_ms BIGINT NOT NULL, -- the last pass that came to its end; 0: none has
    last_ended_ms BIGINT NOT NULL,
    last_bytes    BIGINT NOT NULL,
    last_records  BIGINT NOT NULL,
    last_damaged  BIGINT NOT NULL  -- records that were damaged or missing at its end
);
INSERT INTO scrub (only_row, began_ms, container, bytes, records, last_began_ms, last_ended_ms, last_bytes, last_records, last_damaged)
    VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0, 0);

CREATE INDEX records_damaged ON records (id) WHERE damaged = 1;
