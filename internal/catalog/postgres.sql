-- What PostgreSQL has beside the tables of the migrations. It runs at each
-- start, before them.

-- Who may change the catalog: whoever made the epoch what it is. Each of its
-- transactions raises mark: by that it is told, if the answer to its commit is
-- lost, whether it took place. last_mark is the one of the epoch before.
CREATE TABLE IF NOT EXISTS writer (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch    BIGINT NOT NULL
);
ALTER TABLE writer ADD COLUMN IF NOT EXISTS mark BIGINT NOT NULL DEFAULT 0;
ALTER TABLE writer ADD COLUMN IF NOT EXISTS last_mark BIGINT NOT NULL DEFAULT 0;
INSERT INTO writer (only_row, epoch) VALUES (1, 0) ON CONFLICT DO NOTHING;

-- SQLite's function of this name, for lists.
CREATE OR REPLACE FUNCTION json_each(list TEXT) RETURNS TABLE (key BIGINT, value TEXT) LANGUAGE sql IMMUTABLE AS
$$ SELECT ordinality - 1, element FROM json_array_elements_text(list::json) WITH ORDINALITY AS l (element, ordinality) $$;
