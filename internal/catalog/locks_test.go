package catalog_test

import (
	"database/sql"
	"strings"
	"testing"

	"shale/internal/catalog"
)

// Neither a snapshot that fails nor a page of one account's locks has to do
// with the locks of all, nor a start with all snapshots.
func TestNothingIsScanned(t *testing.T) {
	_, path, _ := create(t)
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, query := range catalog.SoughtQueries {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			// The index snapshots_leftover has only what is left to do, and what is
			// sorted of the regions are these.
			all := strings.HasPrefix(step, "SCAN locks") ||
				strings.HasPrefix(step, "SCAN snapshots") && !strings.HasSuffix(step, "snapshots_leftover")
			if all || strings.Contains(step, "TEMP B-TREE") && query != catalog.RegionsQuery {
				t.Errorf("%s: %s", query, step)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
}
