package transfer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"

	"shale/internal/block"
)

// A digest list says what a snapshot holds: the digest of each of its blocks,
// inherited ones included, by ascending index. It spares the upload of a child
// the reading of its parent. A list that is not exactly as it was written is
// no list: a wrong digest would leave a changed block out of a child.
//
// Integers are little-endian, reserved bytes zero.
//
//	header, 16 bytes
//	offset  size  field
//	     0     8  magic "shaledgl"
//	     8     4  version, 1
//	    12     4  block size, 524288
//
//	record, 36 bytes, one for each block
//	     0     4  block index, greater than the record's before
//	     4    32  digest
//
//	trailer, 80 bytes, at the end of the file
//	     0     4  0xffffffff, no block index
//	     4     4  reserved
//	     8     8  number of records
//	    16    32  key: SHA-256 of what the list is of (listKey)
//	    48    32  SHA-256 of all bytes before it
//
// The key stands at the end because it is known last: an upload is entitled to
// it only once its snapshot is completed.
const (
	listMagic       = "shaledgl"
	listVersion     = 1
	listHeaderSize  = 16
	listRecordSize  = 36
	listTrailerSize = 80
	listEnd         = 1<<32 - 1
)

// A listKey identifies the snapshot that a list is of, so that a list never
// serves another one.
type listKey [sha256.Size]byte

// A CorruptListError reports a file that is not the digest list asked for.
type CorruptListError struct {
	Path string
	Why  string
}

func (e *CorruptListError) Error() string {
	return fmt.Sprintf("digest list %s: %s", e.Path, e.Why)
}

// A known is one block of a snapshot and its digest.
type known struct {
	index  block.Index
	digest block.Digest
}

// A listWriter writes a digest list. Add must be called by ascending index.
// Errors stick: the first is returned by finish.
type listWriter struct {
	buf   *bufio.Writer
	sum   hash.Hash
	count uint64
	last  int64 // index of the last record, -1 before the first
	err   error
}

func newListWriter(w io.Writer) *listWriter {
	sum := sha256.New()
	l := &listWriter{buf: bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10), sum: sum, last: -1}
	var h [listHeaderSize]byte
	copy(h[:], listMagic)
	binary.LittleEndian.PutUint32(h[8:], listVersion)
	binary.LittleEndian.PutUint32(h[12:], block.Size)
	l.write(h[:])
	return l
}

func (l *listWriter) add(k known) {
	if l.err == nil && int64(k.index) <= l.last {
		l.err = fmt.Errorf("digest list: block %d after block %d", k.index, l.last)
	}
	var r [listRecordSize]byte
	binary.LittleEndian.PutUint32(r[:], uint32(k.index))
	copy(r[4:], k.digest[:])
	l.write(r[:])
	l.last = int64(k.index)
	l.count++
}

// finish writes the trailer and reports the first error of all. It syncs
// nothing.
func (l *listWriter) finish(key listKey) error {
	var t [listTrailerSize - sha256.Size]byte
	binary.LittleEndian.PutUint32(t[:], listEnd)
	binary.LittleEndian.PutUint64(t[8:], l.count)
	copy(t[16:], key[:])
	l.write(t[:])
	if l.err == nil {
		l.err = l.buf.Flush() // brings the sum up to here
	}
	l.write(l.sum.Sum(nil))
	if l.err == nil {
		l.err = l.buf.Flush()
	}
	return l.err
}

func (l *listWriter) write(p []byte) {
	if l.err == nil {
		_, l.err = l.buf.Write(p)
	}
}

// A digestList is a verified list in an open file.
type digestList struct {
	f     *os.File
	count uint64
}

// readList verifies the whole of f, which stays the caller's until it
// succeeds; then Close closes it. Anything but the complete list of the key's
// snapshot is a *CorruptListError.
func readList(f *os.File, key listKey) (*digestList, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	count, err := verifyList(bufio.NewReaderSize(f, 64<<10), info.Size(), key)
	if bad := (*CorruptListError)(nil); errors.As(err, &bad) {
		bad.Path = f.Name()
	}
	if err != nil {
		return nil, err
	}
	return &digestList{f: f, count: count}, nil
}

// verifyList reads a list of the given size in bytes from its first to its
// last and returns the number of its records.
func verifyList(r io.Reader, size int64, key listKey) (uint64, error) {
	corrupt := func(format string, args ...any) (uint64, error) {
		return 0, &CorruptListError{Why: fmt.Sprintf(format, args...)}
	}
	records := size - listHeaderSize - listTrailerSize
	if records < 0 || records%listRecordSize != 0 || records/listRecordSize > int64(block.MaxIndex)+1 {
		return corrupt("%d bytes long, which no list is", size)
	}
	count := uint64(records / listRecordSize)
	sum := sha256.New()
	summed := io.TeeReader(r, sum)
	var h [listHeaderSize]byte
	if _, err := io.ReadFull(summed, h[:]); err != nil {
		return corrupt("header: %v", err)
	}
	switch {
	case string(h[:8]) != listMagic:
		return corrupt("bad magic")
	case binary.LittleEndian.Uint32(h[8:]) != listVersion:
		return corrupt("unknown version %d", binary.LittleEndian.Uint32(h[8:]))
	case binary.LittleEndian.Uint32(h[12:]) != block.Size:
		return corrupt("block size %d", binary.LittleEndian.Uint32(h[12:]))
	}
	last := int64(-1)
	var rec [listRecordSize]byte
	for range count {
		if _, err := io.ReadFull(summed, rec[:]); err != nil {
			return corrupt("record: %v", err)
		}
		index := binary.LittleEndian.Uint32(rec[:])
		if int64(index) <= last || index > uint32(block.MaxIndex) {
			return corrupt("block %d after block %d", index, last)
		}
		last = int64(index)
	}
	var t [listTrailerSize]byte
	fields, seal := t[:listTrailerSize-sha256.Size], t[listTrailerSize-sha256.Size:]
	if _, err := io.ReadFull(summed, fields); err != nil {
		return corrupt("trailer: %v", err)
	}
	want := sum.Sum(nil)
	if _, err := io.ReadFull(r, seal); err != nil {
		return corrupt("trailer: %v", err)
	}
	switch {
	case !bytes.Equal(seal, want):
		return corrupt("checksum mismatch")
	case binary.LittleEndian.Uint32(t[:]) != listEnd, binary.LittleEndian.Uint32(t[4:]) != 0,
		binary.LittleEndian.Uint64(t[8:]) != count:
		return corrupt("bad trailer")
	case listKey(t[16:48]) != key:
		return corrupt("it is of another snapshot")
	}
	return count, nil
}

// all gives the list's records from the first. Only one pass at a time.
func (l *digestList) all() iter.Seq2[known, error] {
	return func(yield func(known, error) bool) {
		r := bufio.NewReaderSize(io.NewSectionReader(l.f, listHeaderSize, int64(l.count)*listRecordSize), 64<<10)
		var rec [listRecordSize]byte
		for range l.count {
			if _, err := io.ReadFull(r, rec[:]); err != nil {
				yield(known{}, fmt.Errorf("digest list: %w", err))
				return
			}
			k := known{index: block.Index(binary.LittleEndian.Uint32(rec[:])), digest: block.Digest(rec[4:])}
			if !yield(k, nil) {
				return
			}
		}
	}
}

// Close closes the file.
func (l *digestList) Close() error { return l.f.Close() }
