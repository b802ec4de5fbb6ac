package snapshot

import (
	"context"
	"errors"
	"iter"
	"time"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/domain"
	"shale/internal/quota"
	"shale/internal/seat"
)

// imageWindow is how many blocks of an image are in memory at a time: the one
// being sent and those being read ahead of it.
const imageWindow = 8

// An Image is the volume of a completed snapshot as bytes, from the first to
// the last; holes are zeros. It holds nothing that has to be given back, and
// may be read any number of times, concurrently. A snapshot that is deleted
// meanwhile can be read to the end of the range that was begun.
// Spec: plain-json, What this dialect adds.
type Image struct {
	// Root is the root of the block map: images of one size and root have
	// equal bytes.
	Root block.ID

	service *Service
	caller  Caller
	snap    Snapshot
}

// OpenImage finds the image of a completed snapshot that the caller may read.
func (s *Service) OpenImage(ctx context.Context, c Caller, id string) (*Image, error) {
	var v violations
	v.snapshotID("snapshotId", id)
	if err := v.err(); err != nil {
		return nil, err
	}
	snap, err := s.readable(ctx, c, id)
	if err != nil {
		return nil, s.storeError(err)
	}
	if err := s.admit(ctx, c, &snap, need{action: ListSnapshotBlocks}, need{action: GetSnapshotBlock}); err != nil {
		return nil, err
	}
	i := &Image{Root: snap.Root, service: s, caller: c, snap: snap}
	if _, err := i.key(ctx); err != nil {
		return nil, err
	}
	return i, nil
}

// key gives the key of the image's blocks, nil without encryption. It is asked
// for each block: a key that is disabled, and a share that is taken back, end
// what has been begun.
func (i *Image) key(ctx context.Context) (*domain.Key, error) {
	return i.service.keyNow(ctx, i.caller, &i.snap)
}

// keyNow is readKey for a snapshot that was readable before, and may be another's
// who has taken the share back since.
func (s *Service) keyNow(ctx context.Context, c Caller, snap *Snapshot) (*domain.Key, error) {
	if snap.Account != c.Account {
		if _, err := s.readable(ctx, c, snap.ID); err != nil {
			return nil, s.storeError(err)
		}
	}
	key, err := s.readKey(ctx, c, snap)
	return key, s.storeError(err)
}

// Size is the size of the volume in bytes, a multiple of block.Size.
func (i *Image) Size() int64 { return i.snap.VolumeSize << 30 }

// Read gives length bytes of the image from the offset on, in pieces of at
// most block.Size, in order. The range must lie in the image. A piece belongs
// to the caller until it asks for the next one.
//
// Up to imageWindow blocks are read ahead, each in its own goroutine and in a
// buffer of those that all reads share. Only the block that is needed next is
// waited for; ahead of it are taken what more than half of the buffers leave.
// All images together have at most maxImaging, so that they never starve the
// reading of single blocks, however slowly their callers go on. While others wait
// for a buffer, a caller that keeps a piece for takeWithin has its client
// interrupted, if that is not nil. All goroutines have ended when the iterator
// returns.
//
// The first error ends it: every byte given before it is right. A block whose
// bytes are not those written is an *Error of code Damaged. Throttled can come
// in the place of the first piece only; later ones are waited for until ctx
// ends. Blocks count for the quotas of single reads, and wait for them.
func (i *Image) Read(ctx context.Context, client seat.Client, offset, length int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if !i.Root.IsZero() { // which has nothing below it
			defer i.service.store.Pin(i.Root)()
		}
		ctx, cancel := context.WithCancel(ctx)
		r := imageReader{ctx: ctx, image: i, client: client}
		var stop func()
		r.next, stop = iter.Pull2(blockmap.Walk(ctx, i.service.store.NodeReader(), i.snap.Root, block.Index(offset/block.Size)))
		defer func() {
			cancel()
			stop()
			r.drop()
		}()
		r.end = offset + length
		for offset < r.end {
			at := offset / block.Size
			piece, err := r.block(block.Index(at))
			if err != nil {
				yield(nil, i.service.imageError(&i.snap, err))
				return
			}
			from := offset - at*block.Size
			to := min(r.end-at*block.Size, block.Size)
			if !yield(piece[from:to], nil) {
				return
			}
			offset += to - from
		}
	}
}

// zeros is what holes are read as.
var zeros [block.Size]byte

// An imageReader is one Read of an image. One goroutine owns it.
type imageReader struct {
	ctx    context.Context //nolint:containedctx // lives for one call of Image.Read
	image  *Image
	client seat.Client
	end    int64 // of the range, bytes

	next   func() (blockmap.Entry, error, bool) // of the blocks, by index
	entry  blockmap.Entry                       // the next one to be read, if peeked
	peeked bool
	done   bool // there are no more
	err    error

	begun   bool          // a buffer has been had
	current *imageBlock   // being sent
	ahead   []*imageBlock // by index
}

// An imageBlock is a block being read.
type imageBlock struct {
	index block.Index
	out   *outgoing
	err   error
	read  chan struct{} // closed once out's buffer is filled, or err is set
}

// block gives the bytes at the index, which must be past that of the call
// before. They are the reader's from the next call on.
func (r *imageReader) block(index block.Index) ([]byte, error) {
	if r.current != nil {
		r.current.out.release()
		r.current = nil
	}
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if err := r.fill(index); err != nil {
		return nil, err
	}
	if len(r.ahead) == 0 || r.ahead[0].index != index {
		return zeros[:], nil
	}
	r.current, r.ahead = r.ahead[0], r.ahead[1:]
	<-r.current.read
	r.current.out.send()
	return r.current.out.buf.Block(), r.current.err
}

// fill starts reading the block that is needed, if it is not a hole, and as
// many of those after it as may be.
func (r *imageReader) fill(needed block.Index) error {
	for len(r.ahead) < imageWindow {
		entry, found := r.peek()
		if !found {
			if len(r.ahead) > 0 { // what was read before the error is right
				return nil
			}
			return r.err
		}
		out, err := r.buffer(entry.Index == needed)
		if err != nil {
			return err
		}
		if out == nil {
			return nil
		}
		r.peeked = false
		b := &imageBlock{index: entry.Index, out: out, read: make(chan struct{})}
		r.ahead = append(r.ahead, b)
		go func() {
			defer close(b.read)
			b.err = r.image.readBlock(r.ctx, entry, b.out.buf.Block())
		}()
	}
	return nil
}

// peek gives the next block of the range that is not being read yet.
func (r *imageReader) peek() (blockmap.Entry, bool) {
	if !r.peeked && !r.done {
		entry, err, more := r.next()
		r.entry, r.peeked = entry, more && err == nil
		r.done, r.err = !r.peeked, err
	}
	if r.peeked && int64(r.entry.Index)*block.Size >= r.end {
		r.peeked, r.done = false, true
	}
	return r.entry, r.peeked
}

// turnEvery is how often a block that comes too soon for a quota asks again.
const turnEvery = 10 * time.Millisecond

// buffer takes a buffer for the block that is needed, or, if there is plenty,
// for one ahead of it; else it returns nil. The blocks of an image count as
// single reads do: one that would be refused waits, without a buffer.
func (r *imageReader) buffer(must bool) (*outgoing, error) {
	s := r.image.service
	if !must {
		out := s.spareOutgoing(r.client)
		if out != nil && r.image.throttle() != nil {
			out.release()
			out = nil
		}
		return out, nil
	}
	for r.image.throttle() != nil {
		select {
		case <-time.After(turnEvery):
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		}
	}
	out, err := s.imageOutgoing(r.ctx, r.client)
	for r.begun && err != nil && r.ctx.Err() == nil {
		out, err = s.imageOutgoing(r.ctx, r.client) // half of it has been sent: wait
	}
	r.begun = r.begun || err == nil
	return out, err
}

// drop waits for what is being read and gives all buffers back.
func (r *imageReader) drop() {
	if r.current != nil {
		r.current.out.release()
	}
	for _, b := range r.ahead {
		<-b.read
		b.out.release()
	}
}

func (i *Image) throttle() error {
	return i.service.throttle(i.caller, quota.GetRate, i.snap.ID)
}

func (i *Image) readBlock(ctx context.Context, entry blockmap.Entry, buf []byte) error {
	key, err := i.key(ctx)
	if err == nil {
		_, err = i.service.readBlock(ctx, &i.snap, key, entry, buf)
	}
	return err
}

// readBlock reads a block of the snapshot's into buf, opened and checked.
func (s *Service) readBlock(ctx context.Context, snap *Snapshot, key *domain.Key, entry blockmap.Entry, buf []byte) (block.Digest, error) {
	digest, err := s.store.Read(ctx, key, entry.ID, buf)
	if err == nil {
		return digest, nil
	}
	var damaged *blockstore.DamagedError
	if errors.As(err, &damaged) || errors.Is(err, blockstore.ErrNotFound) {
		return block.Digest{}, &Error{Code: Damaged, Snapshot: snap.ID, Index: entry.Index, Err: err}
	}
	return digest, s.storeError(err)
}

// imageError gives the service's error for one met while reading an image.
func (s *Service) imageError(snap *Snapshot, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	return s.mapError(snap, err)
}
