package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"shale/internal/block"
)

// A digestStore keeps digest lists in a folder, by the endpoint and the ID of
// their snapshot. Its lists are an optimisation: whoever finds none reads the
// parent's blocks, and nothing here fails a transfer.
//
//	FOLDER/digests/<first 16 hex digits of the endpoint's SHA-256>/<snapshot ID>
type digestStore struct {
	folder   string // empty: keep nothing
	endpoint string
}

// idPattern keeps IDs that come from outside from becoming paths.
// Spec: ebs-direct §2.4.
var idPattern = regexp.MustCompile(`^snap-[0-9a-f]{1,59}$`)

// open returns the list of snapshot s if there is one to rely on, else nil and
// the reason.
func (d *digestStore) open(s Snapshot) (*digestList, error) {
	if d.folder == "" || !idPattern.MatchString(s.ID) {
		return nil, os.ErrNotExist
	}
	f, err := os.Open(d.path(s.ID))
	if err != nil {
		return nil, err
	}
	l, err := readList(f, d.key(s))
	if err == nil && s.FullBytes != nil && *s.FullBytes != int64(l.count)*block.Size {
		err = &CorruptListError{Path: f.Name(), Why: fmt.Sprintf("it has %d blocks, the server %d", l.count, *s.FullBytes/block.Size)}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// remove drops the list of a snapshot that is gone.
func (d *digestStore) remove(id string) {
	if d.folder != "" && idPattern.MatchString(id) {
		os.Remove(d.path(id))
	}
}

func (d *digestStore) path(id string) string {
	sum := sha256.Sum256([]byte(d.endpoint))
	return filepath.Join(d.folder, "digests", hex.EncodeToString(sum[:8]), id)
}

// key covers the start time too, in case a server was set up anew and gives
// out the IDs of its former life again.
func (d *digestStore) key(s Snapshot) listKey {
	return sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", d.endpoint, s.ID, s.StartTime.UTC().Format(time.RFC3339Nano)))
}

// A listDraft gathers digests in a file of its own until it is known which
// snapshot, and whether any, they are of. It ends in finish or in discard.
type listDraft struct {
	records *listWriter
	f       *os.File
	temp    string
	inStore bool // the file is where it can be renamed into the store
}

// draft begins a list in the store, which must have a folder.
func (d *digestStore) draft() (*listDraft, error) {
	folder := filepath.Dir(d.path("any"))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(folder, ".draft-*") // mode 0600
	if err != nil {
		return nil, err
	}
	return &listDraft{records: newListWriter(f), f: f, temp: f.Name(), inStore: true}, nil
}

// draftAnywhere begins a list that is needed even where the store cannot keep
// it.
func (d *digestStore) draftAnywhere() (*listDraft, error) {
	if d.folder != "" {
		if l, err := d.draft(); err == nil {
			return l, nil
		}
	}
	f, err := os.CreateTemp("", "shale-digests-*")
	if err != nil {
		return nil, err
	}
	return &listDraft{records: newListWriter(f), f: f, temp: f.Name()}, nil
}

func (l *listDraft) add(k known) { l.records.add(k) }

// finish ends the draft as the list of snapshot s and puts it in its place in
// the store, durably, if it can. Either way the list can be read until it is
// closed.
func (l *listDraft) finish(d *digestStore, s Snapshot) (*digestList, error) {
	defer os.Remove(l.temp) // of no effect once it is renamed
	if err := l.records.finish(d.key(s)); err != nil {
		l.f.Close()
		return nil, fmt.Errorf("write digest list %s: %w", l.temp, err)
	}
	if l.inStore && idPattern.MatchString(s.ID) && l.f.Sync() == nil {
		_ = os.Rename(l.temp, d.path(s.ID)) // the next upload goes without
	}
	return &digestList{f: l.f, count: l.records.count}, nil
}

func (l *listDraft) discard() {
	l.f.Close()
	os.Remove(l.temp)
}
