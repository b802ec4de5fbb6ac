// Package token makes and opens the opaque tokens of the API: block tokens,
// which permit one block to be read, and page tokens, which mark a place in a
// listing. They are stateless: all they say stands in them, under a MAC
// (AES-256-CMAC) with a key that only the server has. Nothing in them is
// secret.
//
// A Codec is safe for concurrent use. Spec: ebs-direct §8.5.
package token

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"shale/internal/block"
)

const (
	// KeySize is the length of the MAC key in bytes.
	KeySize = 32
	// MaxLength bounds the tokens that are looked at, in characters.
	MaxLength = 256
	// BlockLength is the length of a block token in characters.
	BlockLength = BlockScratch / 3 * 4
	// BlockScratch is what it is made of, in bytes.
	BlockScratch = blockLength + macSize

	macSize = aes.BlockSize
)

// A Kind says what a token is for. Its three bytes begin the token, so that
// those of AWS's block and page tokens (AlMB, AlMC, AlMD) are recognised by
// eye.
type Kind [3]byte

// The kinds.
var (
	kindBlock   = Kind{2, 0x53, 1}
	KindBlocks  = Kind{2, 0x53, 2}  // page of ListSnapshotBlocks
	KindChanged = Kind{2, 0x53, 3}  // page of ListChangedBlocks
	KindList    = Kind{2, 0x53, 4}  // page of a list of snapshots
	KindTags    = Kind{2, 0x53, 5}  // page of a list of tags
	KindPending = Kind{2, 0x53, 16} // page of the blocks of a pending snapshot
)

// ErrInvalid says that a token is not one of this server's, is altered, is of
// another kind, or has expired.
var ErrInvalid = errors.New("invalid token")

// A Block is what a block token says.
//
//	offset  size  field (integers big-endian)
//	     0     3  kind
//	     3     8  snapshot
//	    11     4  block index
//	    15     6  expiry, seconds since 1970
//	    21    32  block id
//	    53    16  MAC of bytes 0 to 52
type Block struct {
	Snapshot uint64 // the number in the snapshot's ID
	Index    block.Index
	ID       block.ID
	Expiry   time.Time // whole seconds
}

const blockLength = 53

// A Page is what a page token says.
//
//	offset  size  field (integers big-endian)
//	     0     3  kind
//	     3     8  first
//	    11     8  second
//	    19     8  cursor
//	    27     6  expiry, seconds since 1970
//	    33    16  MAC of bytes 0 to 32
type Page struct {
	Kind Kind
	// First and Second bind the token to what is listed: the numbers of the
	// snapshots. For KindList and KindTags they hold the place in the list.
	First, Second uint64
	Cursor        uint64
	Expiry        time.Time
}

const pageLength = 33

// A Codec makes and opens tokens under one key.
type Codec struct{ mac *cmac }

// New returns a Codec for the key, of KeySize random bytes.
func New(key []byte) *Codec {
	return &Codec{newCMAC(key)}
}

// AppendBlock appends the token to buf. It allocates nothing if buf has room for
// the token and for BlockScratch bytes after it.
func (c *Codec) AppendBlock(buf []byte, b Block) []byte {
	buf = slices.Grow(buf, BlockLength+BlockScratch)
	begin := len(buf) + BlockLength
	t := buf[begin : begin+BlockScratch : begin+BlockScratch]
	copy(t, kindBlock[:])
	binary.BigEndian.PutUint64(t[3:], b.Snapshot)
	binary.BigEndian.PutUint32(t[11:], uint32(b.Index))
	putExpiry(t[15:], b.Expiry)
	copy(t[21:], b.ID[:])
	c.seal(t)
	return base64.RawURLEncoding.AppendEncode(buf, t)
}

// OpenBlock opens a block token that has not expired. The error is ErrInvalid.
func (c *Codec) OpenBlock(token string, now time.Time) (Block, error) {
	t, err := c.open(token, kindBlock, blockLength)
	if err != nil {
		return Block{}, err
	}
	b := Block{
		Snapshot: binary.BigEndian.Uint64(t[3:]),
		Index:    block.Index(binary.BigEndian.Uint32(t[11:])),
		ID:       block.ID(t[21:53]),
		Expiry:   expiry(t[15:]),
	}
	if !now.Before(b.Expiry) {
		return Block{}, ErrInvalid
	}
	return b, nil
}

// Page makes a page token.
func (c *Codec) Page(p Page) string {
	var t [pageLength + macSize]byte
	copy(t[:], p.Kind[:])
	binary.BigEndian.PutUint64(t[3:], p.First)
	binary.BigEndian.PutUint64(t[11:], p.Second)
	binary.BigEndian.PutUint64(t[19:], p.Cursor)
	putExpiry(t[27:], p.Expiry)
	c.seal(t[:])
	return base64.RawURLEncoding.EncodeToString(t[:])
}

// OpenPage opens a page token of the kind that has not expired. The error is
// ErrInvalid.
func (c *Codec) OpenPage(kind Kind, token string, now time.Time) (Page, error) {
	t, err := c.open(token, kind, pageLength)
	if err != nil {
		return Page{}, err
	}
	p := Page{
		Kind:   kind,
		First:  binary.BigEndian.Uint64(t[3:]),
		Second: binary.BigEndian.Uint64(t[11:]),
		Cursor: binary.BigEndian.Uint64(t[19:]),
		Expiry: expiry(t[27:]),
	}
	if !now.Before(p.Expiry) {
		return Page{}, ErrInvalid
	}
	return p, nil
}

func putExpiry(b []byte, t time.Time) {
	var s [8]byte
	binary.BigEndian.PutUint64(s[:], uint64(max(t.Unix(), 0)))
	copy(b[:6], s[2:])
}

func expiry(b []byte) time.Time {
	var s [8]byte
	copy(s[2:], b[:6])
	return time.Unix(int64(binary.BigEndian.Uint64(s[:])), 0).UTC()
}

// seal puts the MAC of all but the last macSize bytes of t into those.
func (c *Codec) seal(t []byte) {
	message := t[:len(t)-macSize]
	c.mac.sum((*[macSize]byte)(t[len(message):]), message)
}

// strict takes each token for one text only.
var strict = base64.RawURLEncoding.Strict()

// standardToURL lets tokens through that came back in the other alphabet.
var standardToURL = strings.NewReplacer("+", "-", "/", "_")

// open decodes a token of the kind and checks its MAC.
func (c *Codec) open(token string, kind Kind, length int) ([]byte, error) {
	if len(token) > MaxLength {
		return nil, ErrInvalid
	}
	t, err := strict.DecodeString(standardToURL.Replace(strings.TrimRight(token, "=")))
	if err != nil || len(t) != length+macSize || Kind(t) != kind {
		return nil, ErrInvalid
	}
	var mac [macSize]byte
	c.mac.sum(&mac, t[:length])
	if subtle.ConstantTimeCompare(t[length:], mac[:]) != 1 {
		return nil, ErrInvalid
	}
	return t, nil
}
