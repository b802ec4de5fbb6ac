-- What reclaiming space needs. docs/formats.md, Catalog, and
-- docs/architecture.md, Reclaiming space.

-- +goose Up
ALTER TABLE records ADD COLUMN number BIGINT NOT NULL DEFAULT 0;     -- its bit in a mark
ALTER TABLE records ADD COLUMN generation BIGINT NOT NULL DEFAULT 0; -- in which it was last stored or named
ALTER TABLE records ADD COLUMN condemned BIGINT NOT NULL DEFAULT 0;  -- generation that found it unreferenced; 0: none
UPDATE records SET number = n.number
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM records) AS n WHERE n.id = records.id;

ALTER TABLE containers ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0; -- 1: its file is being removed

CREATE TABLE reclaim (
    only_row     INTEGER PRIMARY KEY CHECK (only_row = 1),
    generation   BIGINT NOT NULL, -- the one that is open
    last_number  BIGINT NOT NULL, -- given to a record
    -- What the last cycle found, and when it began; 0: there was none.
    began_ms     BIGINT NOT NULL DEFAULT 0,
    live_bytes   BIGINT NOT NULL DEFAULT 0,
    dead_bytes   BIGINT NOT NULL DEFAULT 0,
    condemned    BIGINT NOT NULL DEFAULT 0  -- records that the next cycle will remove
);
INSERT INTO reclaim (only_row, generation, last_number) SELECT 1, 1, count(*) FROM records;
