package kms

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/go-json-experiment/json"

	"shale/internal/vfs"
)

// The files of KMS keys. Integers are little-endian. Format: docs/formats.md,
// KMS keys.
//
//	offset  size  field
//	     0     8  magic "shalekms"
//	     8     2  version, 1
//	    10     2  kind: 1 a key, 2 the aliases, 3 the roots
//	    12     4  length n of the JSON
//	    16    16  id of the root key that wraps; zero but for a live key
//	    32    60  the wrapped backing key: nonce, ciphertext, tag; likewise
//	    92     4  CRC-32C of bytes 0 to 31 and of the JSON
//	    96     n  JSON
//
// The wrapped key has a place of its own, inside one sector of the disk, and is
// outside the checksum: a deletion overwrites it where it stands, and leaves a
// file that still says what it was. It has its own tag.
const (
	fileMagic   = "shalekms"
	fileVersion = 1
	headerSize  = 96
	rootOffset  = 16
	keyOffset   = 32
)

// Kinds of file.
const (
	keyKind = iota + 1
	aliasKind
	rootsKind
)

// Limits on the length of files, in bytes. A key's policy of 32 KiB and its
// description of 8,192 characters take at most six bytes a byte in JSON.
const (
	maxKeyFile   = 1 << 20
	maxAliasFile = 32 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A file is what is in one.
type file struct {
	root RootID
	key  wrapped
	json []byte
}

func encodeFile(kind uint16, f file, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b := make([]byte, headerSize, headerSize+len(text))
	copy(b, fileMagic)
	binary.LittleEndian.PutUint16(b[8:], fileVersion)
	binary.LittleEndian.PutUint16(b[10:], kind)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(text)))
	copy(b[rootOffset:], f.root[:])
	copy(b[keyOffset:], f.key[:])
	binary.LittleEndian.PutUint32(b[92:], fileSum(b, text))
	return append(b, text...), nil
}

func fileSum(header, text []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:keyOffset], castagnoli), castagnoli, text)
}

// decodeFile reads b, a file of the kind, and its JSON into v. An error means
// that the bytes are not those that were written.
func decodeFile(kind uint16, b []byte, v any) (file, error) {
	switch {
	case len(b) < headerSize || string(b[:8]) != fileMagic:
		return file{}, errors.New("it is no file of KMS keys")
	case binary.LittleEndian.Uint16(b[8:]) != fileVersion:
		return file{}, fmt.Errorf("it has the version %d, and this program knows %d", binary.LittleEndian.Uint16(b[8:]), fileVersion)
	case binary.LittleEndian.Uint16(b[10:]) != kind:
		return file{}, fmt.Errorf("it is of the kind %d, not %d", binary.LittleEndian.Uint16(b[10:]), kind)
	case int64(binary.LittleEndian.Uint32(b[12:])) != int64(len(b)-headerSize):
		return file{}, errors.New("its length is not the one that was written")
	case binary.LittleEndian.Uint32(b[92:]) != fileSum(b, b[headerSize:]):
		return file{}, errors.New("its checksum is wrong")
	}
	f := file{root: RootID(b[rootOffset:]), key: wrapped(b[keyOffset:]), json: b[headerSize:]}
	if err := json.Unmarshal(f.json, v, json.RejectUnknownMembers(true)); err != nil {
		return file{}, fmt.Errorf("its JSON: %w", err)
	}
	return f, nil
}

// readFile reads and decodes a file.
func readFile(fs vfs.FS, name string, kind uint16, limit int64, v any) (file, error) {
	b, err := vfs.ReadAll(fs, name, limit)
	if err != nil {
		return file{}, err
	}
	return decodeFile(kind, b, v)
}

// wipeKey overwrites the wrapped key in a key's file where it stands.
func wipeKey(f vfs.File) error {
	if err := f.WriteAt([][]byte{make([]byte, wrappedSize)}, keyOffset); err != nil {
		return err
	}
	return f.Sync()
}
