// Package manifest is the format of manifests: the records in segments from
// which a snapshot is brought back when the catalog is lost. Each change of a
// completed snapshot has one, with a version that counts them; the one of the
// highest version says how the snapshot stands. One that was deleted for good
// keeps a manifest that says so, or an older one would raise it from the dead.
//
// The format is docs/formats.md, Manifest: a header of 16 bytes, then JSON.
// JSON because a manifest is read in emergencies, perhaps by another program,
// and because the size of a few hundred bytes does not matter beside the page
// that it is written in.
package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"shale/internal/block"
	"shale/internal/domain"
)

const (
	magic      = "shalemfs"
	version    = 1
	headerSize = 16

	// MaxSize bounds an encoded manifest, in bytes: the longest record that a
	// frame describes.
	MaxSize = block.Size
)

// A State is what has become of a snapshot.
type State string

// The states. Snapshots that were never completed have no manifest.
const (
	Completed State = "completed"
	Binned    State = "recycle-bin"
	Deleted   State = "deleted"
)

// A Manifest describes one snapshot as it was after one change.
type Manifest struct {
	ID      string `json:"id"`
	Version int64  `json:"version"` // from 1, one more with each change
	State   State  `json:"state"`
	// Snapshot is nil if the state is Deleted, and only then.
	Snapshot *Snapshot `json:"snapshot,omitempty"`
}

// A Snapshot is what the catalog knows of one that is completed. Times are
// milliseconds since 1970 UTC, 0 for none.
type Snapshot struct {
	Key               int64   `json:"key"`
	Lineage           int64   `json:"lineage"` // key of the first ancestor
	Account           string  `json:"account"`
	AccountName       string  `json:"account_name"`
	Region            string  `json:"region"`
	ParentID          string  `json:"parent_id,omitempty"`
	Description       *string `json:"description,omitempty"`
	VolumeGiB         int64   `json:"volume_gib"`
	StartMS           int64   `json:"start_ms"`
	CompletedMS       int64   `json:"completed_ms"`
	TimeoutMS         int64   `json:"timeout_ms,omitempty"`
	CompletionMinutes int64   `json:"completion_minutes,omitempty"`

	Root   HexID `json:"root,omitzero"` // zero for a map without blocks
	Blocks int64 `json:"blocks"`
	// ClaimBlocks and ClaimChecksum are what CompleteSnapshot claimed, the
	// checksum as the catalog keeps it: of an encrypted snapshot a keyed hash.
	ClaimBlocks   int64  `json:"claim_blocks,omitempty"`
	ClaimChecksum *HexID `json:"claim_checksum,omitempty"`

	Domain    domain.Number `json:"domain,omitempty"`
	KMSKeyARN string        `json:"kms_key_arn,omitempty"`
	RootMAC   HexID         `json:"root_mac,omitzero"`

	BinEnterMS int64 `json:"bin_enter_ms,omitempty"`
	BinExitMS  int64 `json:"bin_exit_ms,omitempty"`

	Tags   []Tag    `json:"tags,omitempty"`
	Grants []string `json:"grants,omitempty"` // account numbers, or "all"
	Lock   *Lock    `json:"lock,omitempty"`
	// LockTimeMS is the latest time that locks had seen.
	LockTimeMS int64 `json:"lock_time_ms,omitempty"`
}

// A Tag is a tag of an account's view of the snapshot.
type Tag struct {
	Account  string `json:"account"`
	Position int64  `json:"position"`
	Key      string `json:"key"`
	Value    string `json:"value"`
}

// A Lock is the lock on a snapshot, with the numbers of the catalog's table.
type Lock struct {
	State        int64 `json:"state"` // 1 to 4
	CreatedMS    int64 `json:"created_ms"`
	Days         int64 `json:"days"`
	StartMS      int64 `json:"start_ms,omitempty"`
	ExpiresMS    int64 `json:"expires_ms,omitempty"`
	CoolOffHours int64 `json:"cooloff_hours,omitempty"`
	CoolOffMS    int64 `json:"cooloff_ms,omitempty"`
}

// A HexID is 32 bytes that are spelt in hex.
type HexID [sha256.Size]byte

// IsZero reports whether all bytes are zero.
func (h HexID) IsZero() bool { return h == HexID{} }

// MarshalText implements encoding.TextMarshaler.
func (h HexID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *HexID) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return fmt.Errorf("%d hex digits, not %d", len(text), hex.EncodedLen(len(h)))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Encode gives the bytes of the manifest and the id of its record. What does
// not fit into MaxSize is left out, from the end: tags that accounts other than
// the owner have put on the snapshot, then grants. dropped says how many.
func (m *Manifest) Encode() (id block.ID, data []byte, dropped int, err error) {
	for {
		text, err := json.Marshal(m)
		if err != nil {
			return block.ID{}, nil, 0, fmt.Errorf("encode manifest of %s: %w", m.ID, err)
		}
		if len(text) <= MaxSize-headerSize {
			data = make([]byte, headerSize, headerSize+len(text))
			copy(data, magic)
			binary.LittleEndian.PutUint16(data[8:], version)
			binary.LittleEndian.PutUint32(data[12:], uint32(len(text)))
			data = append(data, text...)
			return sha256.Sum256(data), data, dropped, nil
		}
		n := m.shrink()
		if n == 0 {
			return block.ID{}, nil, 0, fmt.Errorf("encode manifest of %s: %d bytes", m.ID, len(text))
		}
		dropped += n
	}
}

// shrink leaves out some of what there can be any number of.
func (m *Manifest) shrink() (dropped int) {
	if m.Snapshot == nil {
		return 0
	}
	s := *m.Snapshot // the caller's stays as it is
	own := slices.IndexFunc(s.Tags, func(t Tag) bool { return t.Account != s.Account })
	switch {
	case own >= 0:
		dropped = (len(s.Tags)-own)/8 + 1
		s.Tags = s.Tags[:len(s.Tags)-dropped]
	case len(s.Grants) > 0:
		dropped = len(s.Grants)/8 + 1
		s.Grants = s.Grants[:len(s.Grants)-dropped]
	}
	m.Snapshot = &s
	return dropped
}

// A VersionError says that a manifest has a format that this program does not
// know.
type VersionError struct{ Version uint16 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("manifest of format version %d, this program's is %d: use a newer shale", e.Version, version)
}

// Decode decodes a manifest and checks that it is one that a catalog can have
// written. The error is a *VersionError if it is of another version.
func Decode(data []byte) (*Manifest, error) {
	if len(data) < headerSize || len(data) > MaxSize || string(data[:8]) != magic {
		return nil, fmt.Errorf("no manifest in %d bytes", len(data))
	}
	if v := binary.LittleEndian.Uint16(data[8:]); v != version {
		return nil, &VersionError{v}
	}
	if n := binary.LittleEndian.Uint32(data[12:]); data[10] != 0 || data[11] != 0 || int64(n) != int64(len(data)-headerSize) {
		return nil, fmt.Errorf("manifest with a header that says %d of %d bytes", n, len(data)-headerSize)
	}
	d := json.NewDecoder(bytes.NewReader(data[headerSize:]))
	d.DisallowUnknownFields()
	m := new(Manifest)
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("manifest with %d bytes behind its end", int64(len(data)-headerSize)-d.InputOffset())
	}
	if why := m.check(); why != "" {
		return nil, fmt.Errorf("manifest of %.40q: %s", m.ID, why)
	}
	return m, nil
}

// check says what no catalog can have written.
func (m *Manifest) check() string {
	s := m.Snapshot
	switch {
	case len(m.ID) != len("snap-0123456789abcdef0") || m.ID[:5] != "snap-":
		return "no ID"
	case m.Version < 1:
		return "version"
	case m.State != Completed && m.State != Binned && m.State != Deleted:
		return "state"
	case (s == nil) != (m.State == Deleted):
		return "state and snapshot"
	case s == nil:
		return ""
	case s.Key < 1 || s.Lineage < 1:
		return "key or lineage"
	case len(s.Account) != 12 || s.Region == "":
		return "account or region"
	case s.VolumeGiB < 0 || s.VolumeGiB > block.MaxVolumeGiB || s.Blocks < 0 || s.Blocks > s.VolumeGiB*block.PerGiB:
		return "volume"
	case s.Root.IsZero() != (s.Blocks == 0):
		return "root and blocks"
	case (s.Domain == domain.Unencrypted) != s.RootMAC.IsZero() || (s.Domain == domain.Unencrypted) != (s.KMSKeyARN == ""):
		return "domain, key and MAC"
	case s.Lock != nil && (s.Lock.State < 1 || s.Lock.State > 4):
		return "lock"
	}
	for _, ms := range []int64{s.StartMS, s.CompletedMS, s.TimeoutMS, s.BinEnterMS, s.BinExitMS, s.LockTimeMS} {
		if ms < 0 || ms > maxMS {
			return "time"
		}
	}
	seen := make(map[[2]string]bool, len(s.Tags))
	for _, t := range s.Tags {
		if seen[[2]string{t.Account, t.Key}] {
			return "a tag that is there twice"
		}
		seen[[2]string{t.Account, t.Key}] = true
	}
	return ""
}

// maxMS is the year 9999, which no time of a snapshot is beyond.
const maxMS = 253_402_300_800_000

// Newer reports whether m says more recent things of a snapshot than o does.
// Of one version there are two only if nothing but time has passed between
// them; a deletion is final.
func (m *Manifest) Newer(o *Manifest) bool {
	switch {
	case m.Version != o.Version:
		return m.Version > o.Version
	case m.Snapshot == nil || o.Snapshot == nil:
		return m.Snapshot == nil
	}
	return m.Snapshot.LockTimeMS >= o.Snapshot.LockTimeMS
}
