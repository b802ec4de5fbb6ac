package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"strconv"

	"shale/internal/block"
	"shale/internal/blockstore"
	"shale/internal/buffer"
	"shale/internal/quota"
	"shale/internal/seat"
)

const (
	// hashChunk is how much of a body is read before it is hashed, while it
	// is still in the processor's cache.
	hashChunk = 64 << 10

	sha256Name = "SHA256"
	linearName = "LINEAR"
)

// PutBlock writes one block of a pending snapshot and returns its digest. On
// return the block survives a crash. Of writes to one index the last to be
// committed wins. Spec: ebs-direct §4.
func (s *Service) PutBlock(ctx context.Context, c Caller, r PutBlockRequest) (block.Digest, error) {
	if err := r.check(); err != nil {
		return block.Digest{}, err
	}
	snap, err := s.ownToWrite(ctx, c, r.SnapshotID)
	if err != nil {
		return block.Digest{}, s.storeError(err)
	}
	if err := s.admit(ctx, c, &snap, need{action: PutSnapshotBlock}); err != nil {
		return block.Digest{}, err
	}
	if err := s.throttle(c, quota.PutRate, snap.ID); err != nil {
		return block.Digest{}, err
	}
	switch snap.State {
	case Open:
	case Completing, Completed:
		return block.Digest{}, &Error{Code: AlreadyCompleted, Snapshot: snap.ID}
	default:
		return block.Digest{}, &Error{Code: NotFound, Snapshot: snap.ID}
	}
	key, err := s.writeKey(ctx, c, &snap)
	if err != nil {
		return block.Digest{}, s.storeError(err)
	}
	if err := s.store.Err(); err != nil {
		return block.Digest{}, s.storeError(err)
	}
	var begin opening
	if err := begin.read(r.Body); err != nil {
		return block.Digest{}, err
	}
	client, _ := r.Body.(seat.Client)
	place, err := s.writing.Take(ctx, client)
	if err != nil {
		return block.Digest{}, noRoom(err)
	}
	defer place.Leave()
	buf := buffer.Get()
	defer buffer.Put(buf)
	digest, err := readBlock(io.MultiReader(bytes.NewReader(begin.bytes()), place.Receive(r.Body)), buf.Block())
	if !place.Settle() {
		return block.Digest{}, &Error{Code: Throttled}
	}
	if err != nil {
		return block.Digest{}, err
	}
	if err := r.checkBlock(&snap, digest); err != nil {
		return block.Digest{}, err
	}
	w := blockstore.Write{Snapshot: snap.Key, Index: block.Index(r.Index), Digest: digest, Key: key}
	if digest != block.ZeroDigest {
		w.Data = buf.Block()
	}
	if err := s.store.Write(ctx, w); err != nil {
		return block.Digest{}, s.storeError(err)
	}
	return digest, nil
}

// An opening is the first part of a body, which has to be there before the
// block gets a buffer: a body that does not begin must not keep one from others.
type opening struct {
	buf [4 << 10]byte
	n   int
}

// read reads until the opening is whole, or the body at its end.
func (o *opening) read(body io.Reader) error {
	n, err := io.ReadFull(body, o.buf[:])
	o.n = n
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Code: BodyIncomplete, Err: err}
	}
	return nil
}

func (o *opening) bytes() []byte { return o.buf[:o.n] }

// check refuses values outside the model's constraints.
func (r *PutBlockRequest) check() error {
	var v violations
	v.snapshotID("snapshotId", r.SnapshotID)
	v.number("blockIndex", &r.Index, 0, 1<<31-1)
	if !r.ChecksumOptional {
		if r.DataLength == nil {
			v.missing("dataLength")
		}
		if r.Checksum == nil {
			v.missing("checksum")
		}
		if r.Algorithm == nil {
			v.missing("checksumAlgorithm")
		}
	}
	v.text("checksum", r.Checksum, 64, checksumPattern)
	v.text("checksumAlgorithm", r.Algorithm, 32, pattern{})
	v.number("progress", r.Progress, 0, 100)
	return v.err()
}

// readBlock fills buf, of block.Size bytes, with the body and returns its
// digest.
func readBlock(body io.Reader, buf []byte) (block.Digest, error) {
	h := sha256.New()
	for n := 0; n < block.Size; {
		end := min(n+hashChunk, block.Size)
		m, err := io.ReadFull(body, buf[n:end])
		if err != nil {
			return block.Digest{}, &Error{Code: BodyIncomplete, Err: err}
		}
		h.Write(buf[n:end])
		n += m
	}
	var more [1]byte
	switch n, err := io.ReadFull(body, more[:]); {
	case n > 0:
		return block.Digest{}, &Error{Code: BodyTooLong}
	case !errors.Is(err, io.EOF):
		return block.Digest{}, &Error{Code: BodyIncomplete, Err: err}
	}
	return block.Digest(h.Sum(nil)), nil
}

// checkBlock checks the request against the snapshot and the body.
func (r *PutBlockRequest) checkBlock(snap *Snapshot, digest block.Digest) error {
	if r.DataLength != nil && *r.DataLength != block.Size {
		return &Error{Code: DataLengthInvalid, Field: "dataLength", Value: strconv.FormatInt(*r.DataLength, 10)}
	}
	if last := snap.VolumeSize*block.PerGiB - 1; r.Index > last {
		return &Error{
			Code: BlockBeyondVolume, Snapshot: snap.ID, Field: "blockIndex",
			Index: block.Index(r.Index), Expected: strconv.FormatInt(last, 10),
		}
	}
	if r.Algorithm != nil && *r.Algorithm != sha256Name {
		return &Error{Code: AlgorithmUnsupported, Field: "checksumAlgorithm", Value: *r.Algorithm}
	}
	if r.SignedDigest != nil && subtle.ConstantTimeCompare(r.SignedDigest[:], digest[:]) != 1 {
		return &Error{Code: SignedDigestMismatch}
	}
	if r.Checksum != nil && !sameDigest(*r.Checksum, digest) {
		return &Error{Code: ChecksumMismatch, Field: "checksum", Computed: digest.Base64(), Expected: *r.Checksum}
	}
	return nil
}

// sameDigest reports whether a checksum as sent, in base64 with or without
// padding, is the digest. Spec: ebs-direct §7.1.
func sameDigest(sent string, d block.Digest) bool {
	got, ok := parseDigest(sent)
	return ok && got == d
}

// parseDigest decodes a checksum as sent.
func parseDigest(sent string) (block.Digest, bool) {
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
		if b, err := encoding.DecodeString(sent); err == nil && len(b) == len(block.Digest{}) {
			return block.Digest(b), true
		}
	}
	return block.Digest{}, false
}
