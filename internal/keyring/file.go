package keyring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"shale/internal/domain"
)

// The file of a domain. Integers are little-endian. Its name is the number, in
// 8 hex digits. Format: docs/formats.md, Encryption domains.
//
//	offset  size  field
//	     0     8  magic "shaledom"
//	     8     2  version, 1
//	    10     2  reserved, zero
//	    12     4  number of the domain, not 0
//	    16     2  length a of the ARN, 1 to 2,048
//	    18     2  length w of the wrapped data key, 1 to 6,144
//	    20     a  ARN of the KMS key
//	  20+a     w  data key, wrapped by the KMS key
//	20+a+w     4  CRC-32C of all before
const (
	fileMagic   = "shaledom"
	fileVersion = 1
	headerSize  = 20
	maxARN      = 2048
	maxWrapped  = 6144
	maxFile     = headerSize + maxARN + maxWrapped + 4
)

// A file is what the file of a domain says.
type file struct {
	number  domain.Number
	arn     string
	wrapped []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (f *file) encode() ([]byte, error) {
	if !plausible(len(f.arn), len(f.wrapped)) {
		return nil, fmt.Errorf("encryption domain with an ARN of %d and a wrapped key of %d bytes", len(f.arn), len(f.wrapped))
	}
	le := binary.LittleEndian
	b := append(make([]byte, 0, maxFile), fileMagic...)
	b = le.AppendUint16(b, fileVersion)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, uint32(f.number))
	b = le.AppendUint16(b, uint16(len(f.arn)))
	b = le.AppendUint16(b, uint16(len(f.wrapped)))
	b = append(b, f.arn...)
	b = append(b, f.wrapped...)
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// plausible reports whether an ARN and a wrapped key can have the lengths.
func plausible(arn, wrapped int) bool {
	return arn > 0 && arn <= maxARN && wrapped > 0 && wrapped <= maxWrapped
}

// decode reads the file of the name. An error says what is wrong with it; it
// keeps no reference to b.
func decode(name string, b []byte) (file, error) {
	le := binary.LittleEndian
	if len(b) < headerSize+4 || string(b[:8]) != fileMagic {
		return file{}, errors.New("it is no file of an encryption domain")
	}
	if v := le.Uint16(b[8:]); v != fileVersion {
		return file{}, fmt.Errorf("it has the version %d, and this program knows %d", v, fileVersion)
	}
	arn, wrapped := int(le.Uint16(b[16:])), int(le.Uint16(b[18:]))
	end := headerSize + arn + wrapped
	switch {
	case !plausible(arn, wrapped) || len(b) != end+4:
		return file{}, errors.New("its lengths are not those that were written")
	case le.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli):
		return file{}, errors.New("its checksum is wrong")
	case le.Uint16(b[10:]) != 0:
		return file{}, errors.New("its reserved bytes are set")
	}
	f := file{
		number: domain.Number(le.Uint32(b[12:])), arn: string(b[headerSize : headerSize+arn]),
		wrapped: append([]byte(nil), b[headerSize+arn:end]...),
	}
	if f.number == domain.Unencrypted || f.number.String() != name {
		return file{}, fmt.Errorf("it is that of domain %v", f.number)
	}
	return f, nil
}
