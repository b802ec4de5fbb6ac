package catalog_test

import (
	"path/filepath"
	"testing"

	"shale/internal/catalog/postgrestest"
)

// onBoth runs a test on each database. place is where its catalog is to be.
func onBoth(t *testing.T, test func(t *testing.T, place string)) {
	t.Run("SQLite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "catalog.db")) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, postgrestest.URL(t)) })
}
