package keyring

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// golden is a file as docs/formats.md describes it.
const golden = "7368616c65646f6d" + "0100" + "0000" + "3d2c1b0a" + "0300" + "0400" + "61726e" + "01020304" + "e8e2d703"

func TestFileFormat(t *testing.T) {
	want, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	f := file{number: 0x0a1b2c3d, arn: "arn", wrapped: []byte{1, 2, 3, 4}}
	if got, err := f.encode(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("encode: got %x, %v, want %x", got, err, want)
	}
	got, err := decode("0a1b2c3d", want)
	if err != nil || got.number != f.number || got.arn != f.arn || !bytes.Equal(got.wrapped, f.wrapped) {
		t.Errorf("decode: got %+v, %v", got, err)
	}
	for name, f := range map[string]file{
		"no ARN": {number: 1, wrapped: []byte{1}}, "no key": {number: 1, arn: "a"},
		"long ARN": {number: 1, arn: string(make([]byte, maxARN+1)), wrapped: []byte{1}},
		"long key": {number: 1, arn: "a", wrapped: make([]byte, maxWrapped+1)},
	} {
		if _, err := f.encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// FuzzFile gives the decoder any bytes: it refuses them, or they are what
// encodes to the same.
func FuzzFile(f *testing.F) {
	seed, err := hex.DecodeString(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("0a1b2c3d", seed)
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		got, err := decode(name, b)
		if err != nil {
			return
		}
		if again, err := got.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("decoded file encodes to %x, %v", again, err)
		}
	})
}
