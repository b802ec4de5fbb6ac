package blockstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/minio/crc64nvme"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/domain"
)

// sealer is the key of the domain of the number.
func sealer(n domain.Number) *domain.Key {
	return domain.New(n, &[domain.KeySize]byte{byte(n)})
}

// writeSealed writes a block in the key's domain, from a buffer that has room
// for sealing it in place, and returns its id.
func (f *fixture) writeSealed(key *domain.Key, index block.Index, b []byte) block.ID {
	f.Helper()
	w := blockstore.Write{Snapshot: f.key, Index: index, Digest: sha256.Sum256(b), Key: key}
	if w.Digest != block.ZeroDigest {
		w.Data = append(make([]byte, 0, block.Size+domain.Overhead), b...)
	}
	if err := f.Store.Write(f.Context(), w); err != nil {
		f.Fatalf("Write(%d): %v", index, err)
	}
	return key.ID(w.Digest)
}

// readSealed reads the block twice, with and without room to open it in place,
// and checks that it is the one.
func (f *fixture) readSealed(key *domain.Key, id block.ID, want []byte) error {
	f.Helper()
	for _, room := range []int{domain.Overhead, 0} {
		buf := make([]byte, block.Size, block.Size+room)
		digest, err := f.Store.Read(f.Context(), key, id, buf)
		if err != nil {
			return err
		}
		if !bytes.Equal(buf, want) || digest != sha256.Sum256(want) {
			f.Errorf("with room for %d bytes: Read gave wrong bytes or digest", room)
		}
	}
	return nil
}

// Blocks of a domain read back as they were, are deduplicated inside it, and
// share nothing with other domains.
func TestSealedBlocks(t *testing.T) {
	f := newFixture(t)
	a, b := sealer(1), sealer(2)
	want := data(1)
	for _, content := range [][]byte{want, make([]byte, block.Size)} {
		stats := f.Store.Stats()
		stored, hits := stats.BlocksStored.Load(), stats.DedupHits.Load()
		f.mustWrite(0, content)
		first := f.writeSealed(a, 1, content)
		second := f.writeSealed(b, 2, content)
		if first == second || first == sha256.Sum256(content) {
			t.Error("two domains share an id")
		}
		if n := stats.BlocksStored.Load() - stored; n != 3 {
			t.Errorf("one content in three domains was stored %d times, want 3", n)
		}
		f.writeSealed(a, 3, content)
		if n := stats.DedupHits.Load() - hits; n != 1 {
			t.Errorf("written again in its domain: %d hits, want 1", n)
		}
		for range 2 { // from memory, then from the disk
			for key, id := range map[*domain.Key]block.ID{a: first, b: second} {
				if err := f.readSealed(key, id, content); err != nil {
					t.Errorf("Read: %v", err)
				}
				if digest, err := f.Store.Digest(t.Context(), key, id); err != nil || digest != sha256.Sum256(content) {
					t.Errorf("Digest: got %x, %v", digest, err)
				}
			}
			f.Restart(t)
		}
		// Nobody else's key opens it, and that is no damage.
		for _, key := range []*domain.Key{b, nil} {
			var wrong *blockstore.DamagedError
			if err := f.readSealed(key, first, content); !errors.As(err, &wrong) {
				t.Errorf("with another domain's key: got %v, want *DamagedError", err)
			}
		}
		if err := f.readSealed(a, first, content); err != nil {
			t.Errorf("after another's attempt: %v", err)
		}
	}
}

// Equal blocks of one domain, written at once, are stored once or found to be.
func TestParallelWritersOfEqualSealedBlocks(t *testing.T) {
	f := newFixture(t)
	key := sealer(1)
	var wg sync.WaitGroup
	for i := range block.Index(32) {
		wg.Go(func() { f.writeSealed(key, i, data(uint64(i%4)+1)) })
	}
	wg.Wait()
	for i := range uint64(4) {
		if err := f.readSealed(key, key.ID(sha256.Sum256(data(i+1))), data(i+1)); err != nil {
			t.Error(err)
		}
	}
}

// Damage in a sealed payload is noticed, recorded, and healed by the next write
// of the same content.
func TestDamageInASealedBlock(t *testing.T) {
	f := newFixture(t)
	key := sealer(1)
	id := f.writeSealed(key, 0, data(1))
	f.flip(blockstore.PageSize + 1000) // behind the payload is the page of its tag
	var damaged *blockstore.DamagedError
	if err := f.readSealed(key, id, data(1)); !errors.As(err, &damaged) || damaged.Why != "checksum mismatch" {
		t.Fatalf("Read: got %v, want a checksum mismatch", err)
	}
	f.writeSealed(key, 1, data(1))
	for range 2 { // from memory, then from the disk
		if err := f.readSealed(key, id, data(1)); err != nil {
			t.Errorf("stored anew: %v", err)
		}
		f.Restart(t)
	}
}

// A dedup hit that is none is stored from what the writer still holds, which
// was sealed once.
func TestSealedHitThatIsNone(t *testing.T) {
	f := newFixture(t)
	f = f.over(t, medium(t), &forgetful{Index: f.Catalog})
	key := sealer(1)
	id := f.writeSealed(key, 0, data(1))
	if err := f.readSealed(key, id, data(1)); err != nil {
		t.Error(err)
	}
}

// lying is the real index, but says what it is told to.
type lying struct {
	blockstore.Index
	change func(*blockstore.Location)
}

func (x *lying) Locate(ctx context.Context, id block.ID) (blockstore.Location, bool, error) {
	loc, found, err := x.Index.Locate(ctx, id)
	if found {
		x.change(&loc)
	}
	return loc, found, err
}

// Whoever changes the index, and makes checksums fit, gets no other bytes out
// of it.
func TestTamperedIndex(t *testing.T) {
	f := newFixture(t)
	key := sealer(1)
	id := f.writeSealed(key, 0, data(1))
	other, found, err := f.Catalog.Locate(t.Context(), f.writeSealed(key, 1, data(2)))
	if !found || err != nil {
		t.Fatal(found, err)
	}
	for name, change := range map[string]func(*blockstore.Location){
		"zeros": func(l *blockstore.Location) {
			l.Codec, l.Length, l.CRC = blockstore.CodecZero, 0, crc64nvme.Checksum(id[:])
			l.Sealing.Cipher, l.Sealing.Nonce = blockstore.CipherNone, domain.Nonce{}
		},
		"the digest of another":   func(l *blockstore.Location) { l.Sealing.Digest = other.Sealing.Digest },
		"another nonce":           func(l *blockstore.Location) { l.Sealing.Nonce = other.Sealing.Nonce },
		"no cipher":               func(l *blockstore.Location) { l.Sealing.Cipher = blockstore.CipherNone },
		"another domain":          func(l *blockstore.Location) { l.Sealing.Domain++ },
		"no domain":               func(l *blockstore.Location) { l.Sealing = nil },
		"the length of plain one": func(l *blockstore.Location) { l.Length = block.Size },
		"a huge length":           func(l *blockstore.Location) { l.Length = 1 << 31 },
	} {
		t.Run(name, func(t *testing.T) {
			e := f.over(t, shared{f}, &lying{f.Catalog, change})
			var damaged *blockstore.DamagedError
			if err := e.readSealed(key, id, data(1)); !errors.As(err, &damaged) {
				t.Errorf("Read: got %v, want *DamagedError", err)
			}
		})
	}
	if err := f.readSealed(key, id, data(1)); err != nil {
		t.Errorf("in truth: %v", err)
	}
}

// over is the fixture with a store of its own.
func (f *fixture) over(t testing.TB, m blockstore.Medium, x blockstore.Index) *fixture {
	env := *f.Env
	env.Store = blockstore.New(blockstore.Options{Medium: m, Index: x, NodeLength: blockmap.Length})
	t.Cleanup(func() { _ = env.Store.Close() })
	return &fixture{Env: &env, TB: t, key: f.key}
}

// shared reads the one segment of a fixture.
type shared struct{ f *fixture }

func (s shared) Append(context.Context, int64, int64, func(blockstore.Place) [][]byte) (blockstore.Place, error) {
	return blockstore.Place{}, blockstore.ErrFull
}

func (s shared) ReadAt(_ context.Context, _ blockstore.ContainerID, p []byte, off int64) error {
	file, err := os.Open(s.f.segments()[0])
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.ReadAt(p, off)
	return err
}

func (s shared) ReadAtSource(ctx context.Context, c blockstore.ContainerID, p []byte, off int64) error {
	return s.ReadAt(ctx, c, p, off)
}

func (s shared) First(context.Context, blockstore.ContainerID) (blockstore.Place, error) {
	return blockstore.Place{}, blockstore.ErrNotFound
}

func (s shared) Short(context.Context, map[blockstore.ContainerID]int64) (map[blockstore.ContainerID]int64, error) {
	return map[blockstore.ContainerID]int64{}, nil
}

func (s shared) Rotate(context.Context) (blockstore.Place, error) {
	return blockstore.Place{}, blockstore.ErrFull
}

func (s shared) Drop(context.Context, blockstore.ContainerID) error { return nil }

func (s shared) Close() error { return nil }

// What does not open though its checksum is right is damage, too: here under
// another data key for the same domain.
func TestSealThatDoesNotOpen(t *testing.T) {
	f := newFixture(t)
	key := sealer(1)
	id := f.writeSealed(key, 0, data(1))
	other := domain.New(1, &[domain.KeySize]byte{99})
	var damaged *blockstore.DamagedError
	if err := f.readSealed(other, id, data(1)); !errors.As(err, &damaged) || damaged.Why != "digest: "+domain.ErrTampered.Error() {
		t.Fatalf("Read: got %v, want one that does not open", err)
	}
	if err := f.readSealed(key, id, data(1)); err != nil {
		t.Errorf("with the right key: %v", err)
	}
}

// With the key a segment can be read without the catalog: the frame has all
// that it takes.
func TestFrameOfASealedBlock(t *testing.T) {
	f := newFixture(t)
	key := sealer(0x0a0b0c0d)
	id := f.writeSealed(key, 0, data(1))
	zero := f.writeSealed(key, 1, make([]byte, block.Size))
	segments := f.segments()
	b, err := os.ReadFile(segments[len(segments)-1])
	if err != nil {
		t.Fatal(err)
	}
	var entries []blockstore.Entry
	for at := int64(blockstore.PageSize); at < int64(len(b)); {
		place := blockstore.Place{Container: 1, Offset: at, Salt: [16]byte(b[24:40])}
		n, err := blockstore.FrameLength(place, b[at:])
		if err != nil {
			t.Fatal(err)
		}
		frame, err := blockstore.DecodeFrame(place, b[at:at+n])
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, frame.Entries...)
		at += frame.Length
	}
	if len(entries) != 2 {
		t.Fatalf("%d entries, want 2", len(entries))
	}
	for i, want := range []struct {
		id     block.ID
		cipher blockstore.Cipher
		length uint32
		digest block.Digest
	}{{id, blockstore.CipherGCM, block.Size + domain.Overhead, sha256.Sum256(data(1))}, {zero, blockstore.CipherNone, 0, block.ZeroDigest}} {
		e := entries[i]
		if e.ID != want.id || e.Sealing == nil || e.Sealing.Domain != key.Number() || e.Sealing.Cipher != want.cipher || e.Length != want.length {
			t.Errorf("entry %d: got %+v", i, e)
			continue
		}
		// The frame alone and the key tell what the block is.
		if d, err := key.OpenDigest(e.ID, &e.Sealing.Digest); err != nil || d != want.digest {
			t.Errorf("entry %d: digest %x, %v", i, d, err)
		}
	}
	payload := b[entries[0].Offset:][:entries[0].Length]
	if got, err := key.OpenPayload(id, 0, &entries[0].Sealing.Nonce, payload); err != nil || !bytes.Equal(got, data(1)) {
		t.Errorf("payload: %v", err)
	}
}
