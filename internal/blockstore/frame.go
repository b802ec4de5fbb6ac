package blockstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"shale/internal/block"
	"shale/internal/domain"
)

// The layout of a batch (docs/formats.md, Batch): a frame of whole pages that
// describes it, then the payloads. Integers are little-endian.
//
//	offset  size  field
//	     0     8  magic "shalefrm"
//	     8     2  version, 2
//	    10     2  reserved, zero
//	    12     4  length of the frame in pages of 4,096 bytes
//	    16     4  number n of entries
//	    20     4  CRC-32C of the whole frame, this field taken as zero
//	    24     8  number of the container
//	    32     8  offset of the frame in the container
//	    40    16  salt of the container
//	    56     8  length of the batch in bytes, frame, payloads and padding
//	    64    16  reserved, zero
//	    80  160n  entries
//
// An entry:
//
//	  0     1  kind: 1 block, 2 map node, 3 manifest
//	  1     1  codec: 0 as it is, 1 zeros without a payload, 2 S2 (blocks only)
//	  2     1  cipher: 0 none, 1 AES-256-GCM
//	  3     1  reserved, zero
//	  4     4  domain: 0 for the unencrypted one
//	  8    32  id
//	 40     8  offset of the payload in the container
//	 48     4  stored length in bytes
//	 52     4  raw length in bytes
//	 56     8  CRC-64/NVME of the id and then the payload
//	 64    12  nonce (cipher 0: zero)
//	 76    12  reserved, zero
//	 88    60  sealed digest (domain 0: zero)
//	148    12  reserved, zero
const (
	frameMagic      = "shalefrm"
	frameVersion    = 2
	pageSize        = 4096
	frameHeaderSize = 80
	entrySize       = 160
)

// MaxEntries is how many records a frame describes at most; one that claims more
// is none.
const MaxEntries = 1 << 16

// A Kind says what a record is.
type Kind uint8

// The kinds of records.
const (
	KindBlock    Kind = 1
	KindNode     Kind = 2
	KindManifest Kind = 3
)

func (k Kind) String() string {
	switch k {
	case KindBlock:
		return "block"
	case KindNode:
		return "map node"
	case KindManifest:
		return "manifest"
	}
	return fmt.Sprintf("record of kind %d", uint8(k))
}

// A Codec says how a payload is kept.
type Codec uint8

// The codecs.
const (
	CodecRaw  Codec = 0 // as it is
	CodecZero Codec = 1 // zeros; there is no payload
	CodecS2   Codec = 2 // one block of S2 (github.com/klauspost/compress/s2)
)

// A Cipher says how a payload is sealed.
type Cipher uint8

// The ciphers.
const (
	CipherNone Cipher = 0
	CipherGCM  Cipher = 1 // AES-256-GCM; the stored payload ends in the tag
)

// A Sealing is what a record of an encrypted domain has beside the others.
// One of zeros has no payload, and so no cipher and no nonce.
type Sealing struct {
	Domain domain.Number
	Cipher Cipher
	Nonce  domain.Nonce
	Digest domain.SealedDigest
}

// An Entry describes one record of a batch.
type Entry struct {
	Kind    Kind
	Codec   Codec
	ID      block.ID
	Offset  int64  // of the payload in the container, bytes
	Length  uint32 // of the payload as stored, bytes
	Raw     uint32 // of the plain content, bytes
	CRC     uint64
	Sealing *Sealing // nil in the unencrypted domain
}

// A Frame is the header of a batch.
type Frame struct {
	Place   Place
	Length  int64 // of the batch in bytes
	Entries []Entry
}

// A CorruptError reports bytes in a container that are not those written.
type CorruptError struct {
	Container ContainerID
	Offset    int64
	Why       string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("container %d, offset %d: corrupt: %s", e.Container, e.Offset, e.Why)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// framePages is the length of a frame of n entries, in pages.
func framePages(n int) int64 {
	return (frameHeaderSize + int64(n)*entrySize + pageSize - 1) / pageSize
}

func pad(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// encode gives the bytes of the frame, whole pages.
func (f *Frame) encode() []byte {
	pages := framePages(len(f.Entries))
	b := make([]byte, pages*pageSize)
	copy(b, frameMagic)
	le := binary.LittleEndian
	le.PutUint16(b[8:], frameVersion)
	le.PutUint32(b[12:], uint32(pages))
	le.PutUint32(b[16:], uint32(len(f.Entries)))
	le.PutUint64(b[24:], uint64(f.Place.Container))
	le.PutUint64(b[32:], uint64(f.Place.Offset))
	copy(b[40:56], f.Place.Salt[:])
	le.PutUint64(b[56:], uint64(f.Length))
	for i := range f.Entries {
		e := &f.Entries[i]
		p := b[frameHeaderSize+i*entrySize:]
		p[0], p[1] = byte(e.Kind), byte(e.Codec)
		copy(p[8:40], e.ID[:])
		le.PutUint64(p[40:], uint64(e.Offset))
		le.PutUint32(p[48:], e.Length)
		le.PutUint32(p[52:], e.Raw)
		le.PutUint64(p[56:], e.CRC)
		if s := e.Sealing; s != nil {
			p[2] = byte(s.Cipher)
			le.PutUint32(p[4:], uint32(s.Domain))
			copy(p[64:76], s.Nonce[:])
			copy(p[88:148], s.Digest[:])
		}
	}
	le.PutUint32(b[20:], crc32.Checksum(b, castagnoli))
	return b
}

// FrameLength gives the length in bytes of the frame that starts with the
// page, before anything else in it is believed.
func FrameLength(at Place, page []byte) (int64, error) {
	corrupt := func(why string) (int64, error) { return 0, &CorruptError{at.Container, at.Offset, why} }
	if len(page) < pageSize {
		return corrupt("shorter than a page")
	}
	if string(page[:8]) != frameMagic {
		return corrupt("no frame")
	}
	if v := binary.LittleEndian.Uint16(page[8:]); v != frameVersion {
		return corrupt(fmt.Sprintf("unknown frame version %d", v))
	}
	n := binary.LittleEndian.Uint32(page[16:])
	pages := int64(binary.LittleEndian.Uint32(page[12:]))
	if n == 0 || n > MaxEntries || pages != framePages(int(n)) {
		return corrupt(fmt.Sprintf("%d entries in %d pages", n, pages))
	}
	return pages * pageSize, nil
}

// DecodeFrame decodes the frame that was read at the place, and checks all
// that encode guarantees. b must be as long as FrameLength says.
func DecodeFrame(at Place, b []byte) (Frame, error) {
	corrupt := func(why string) (Frame, error) { return Frame{}, &CorruptError{at.Container, at.Offset, why} }
	length, err := FrameLength(at, b)
	if err != nil {
		return Frame{}, err
	}
	if int64(len(b)) != length {
		return corrupt(fmt.Sprintf("%d bytes of a frame of %d", len(b), length))
	}
	le := binary.LittleEndian
	var zero [4]byte
	sum := crc32.Checksum(b[:20], castagnoli)
	sum = crc32.Update(sum, castagnoli, zero[:])
	if sum = crc32.Update(sum, castagnoli, b[24:]); sum != le.Uint32(b[20:]) {
		return corrupt("frame checksum mismatch")
	}
	switch {
	case le.Uint64(b[24:]) != uint64(at.Container) || le.Uint64(b[32:]) != uint64(at.Offset) || [16]byte(b[40:56]) != at.Salt:
		return corrupt("a frame of another place")
	case !isZero(b[10:12]) || !isZero(b[64:80]):
		return corrupt("reserved bytes are set")
	}
	f := Frame{Place: at, Length: int64(le.Uint64(b[56:])), Entries: make([]Entry, le.Uint32(b[16:]))}
	if f.Length < length || f.Length%pageSize != 0 || f.Length > 1<<40 {
		return corrupt(fmt.Sprintf("batch length %d", f.Length))
	}
	from := at.Offset + length // the end of the entry before
	for i := range f.Entries {
		p := b[frameHeaderSize+i*entrySize:][:entrySize]
		e := Entry{
			Kind: Kind(p[0]), Codec: Codec(p[1]), ID: block.ID(p[8:40]),
			Offset: int64(le.Uint64(p[40:])), Length: le.Uint32(p[48:]), Raw: le.Uint32(p[52:]), CRC: le.Uint64(p[56:]),
		}
		if d := domain.Number(le.Uint32(p[4:])); d != domain.Unencrypted {
			e.Sealing = &Sealing{Domain: d, Cipher: Cipher(p[2]), Nonce: domain.Nonce(p[64:76]), Digest: domain.SealedDigest(p[88:148])}
		}
		switch {
		case e.Kind < KindBlock || e.Kind > KindManifest || e.Codec > CodecS2 || e.Codec == CodecS2 && e.Kind != KindBlock:
			return corrupt(fmt.Sprintf("entry %d: kind %d, codec %d", i, e.Kind, e.Codec))
		case p[3] != 0 || !isZero(p[76:88]) || !isZero(p[148:]):
			return corrupt(fmt.Sprintf("entry %d: reserved bytes are set", i))
		case e.Sealing == nil && (p[2] != 0 || !isZero(p[64:])):
			return corrupt(fmt.Sprintf("entry %d: sealed without a domain", i))
		case e.Sealing != nil && (e.Kind != KindBlock || e.Sealing.Cipher != cipherFor(e.Codec) || e.Codec == CodecZero && !isZero(p[64:76])):
			return corrupt(fmt.Sprintf("entry %d: kind %d, codec %d, cipher %d", i, e.Kind, e.Codec, e.Sealing.Cipher))
		case !validLength(e.Codec, e.Raw, e.Length, e.Sealing):
			return corrupt(fmt.Sprintf("entry %d: stored length %d", i, e.Length))
		case e.Raw == 0 || e.Raw > block.Size || e.Kind == KindBlock && e.Raw != block.Size:
			return corrupt(fmt.Sprintf("entry %d: raw length %d", i, e.Raw))
		case e.Offset < from || e.Offset > at.Offset+f.Length-int64(e.Length):
			return corrupt(fmt.Sprintf("entry %d: outside its batch, or not behind the one before", i))
		}
		from = e.Offset + int64(e.Length)
		f.Entries[i] = e
	}
	if !isZero(b[frameHeaderSize+len(f.Entries)*entrySize:]) {
		return corrupt("bytes after the last entry")
	}
	return f, nil
}

// cipherFor is the cipher of a record of an encrypted domain in the codec.
func cipherFor(c Codec) Cipher {
	if c == CodecZero {
		return CipherNone
	}
	return CipherGCM
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
