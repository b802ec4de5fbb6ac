package crashfs_test

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/ncruces/go-sqlite3/driver"
	sqlite "github.com/ncruces/go-sqlite3/vfs"

	"shale/internal/vfs/crashfs"
)

// open opens a database on the disk as the catalog does, with so many
// connections.
func (t tester) open(d *crashfs.Disk, connections int) *sql.DB {
	t.Helper()
	files, err := d.SQLite()
	t.ok(err)
	name := fmt.Sprintf("crashfs-test-%p", d)
	sqlite.Register(name, files)
	db, err := driver.Open("file:/c.db?vfs=" + name + "&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_txlock=immediate")
	t.ok(err)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	t.Cleanup(func() {
		_ = db.Close()
		sqlite.Unregister(name)
		_ = d.Close()
	})
	return db
}

// SQLite on a disk that crashes before every operation, in every way: the
// transactions that were committed are there, and those that were not begun are
// not. So what SQLite does is seen by the disk, and what the disk does is what
// SQLite expects of one.
func TestSQLiteKeepsCommits(t *testing.T) {
	x, d := tester{t}, crashfs.New()
	type moment struct {
		disks     []*crashfs.Disk
		committed int
	}
	var moments []moment
	begun, committed := 0, 0
	d.Before(func(op crashfs.Op) error {
		if !op.Changes() {
			return nil
		}
		m := moment{committed: committed}
		for i := range uint64(2) {
			m.disks = append(m.disks, d.Crash(crashfs.Survivors{Seed: 2*uint64(op.N) + i}))
		}
		m.disks = append(m.disks, d.Crash(crashfs.Survivors{Mode: crashfs.Nothing}), d.Crash(crashfs.Survivors{Mode: crashfs.Everything}))
		moments = append(moments, m)
		return nil
	})
	file := x.create(d.Folder(""), "c.db")
	x.ok(file.Sync())
	x.ok(d.Folder("").SyncDir())
	db := x.open(d, 2)
	for begun = 1; begun <= 8; begun++ {
		tx, err := db.Begin()
		x.ok(err)
		_, err = tx.Exec(`CREATE TABLE IF NOT EXISTS t (n INTEGER, s TEXT)`)
		x.ok(err)
		_, err = tx.Exec(`INSERT INTO t VALUES (?, hex(randomblob(3000)))`, begun)
		x.ok(err)
		x.ok(tx.Commit())
		committed = begun
		if begun == 5 {
			_, err := db.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
			x.ok(err)
		}
		var n int
		x.ok(db.QueryRow(`SELECT count(*) FROM t`).Scan(&n)) // on any of the connections
		if n != begun {
			t.Fatalf("%d rows, want %d", n, begun)
		}
	}
	x.ok(db.Close())
	t.Logf("%d moments", len(moments))
	if len(moments) < 40 {
		t.Errorf("only %d moments", len(moments))
	}
	for i, m := range moments {
		if i < 2 {
			continue // the file was not there yet
		}
		for j, found := range m.disks {
			if !t.Run(fmt.Sprintf("%d-%d", i, j), func(t *testing.T) {
				db := tester{t}.open(found, 1)
				var tables, n int
				tester{t}.ok(db.QueryRow(`SELECT count(*) FROM sqlite_master`).Scan(&tables))
				if tables > 0 {
					tester{t}.ok(db.QueryRow(`SELECT count(*) FROM t WHERE length(s) = 6000`).Scan(&n))
				}
				var verdict string
				tester{t}.ok(db.QueryRow(`PRAGMA integrity_check`).Scan(&verdict))
				if n < m.committed || n > m.committed+1 || verdict != "ok" {
					t.Errorf("%d rows, %s; %d were committed", n, verdict, m.committed)
				}
			}) {
				return
			}
		}
	}
}
