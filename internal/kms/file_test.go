package kms_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"shale/internal/kms"
)

// A key's file from the disk is read without a panic, and one that is believed
// is written again as it was.
func FuzzKeyFile(f *testing.F) {
	folder := newFolder(f)
	k, err := folder.CreateKey(f.Context(), alice, kms.CreateRequest{Description: "d", Tags: []kms.Tag{{Key: "a", Value: "b"}}})
	must(f, err)
	f.Add(must2(os.ReadFile(filepath.Join(folder.path, k.ID))))
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := kms.DecodeKeyFile(b)
		if err != nil {
			return
		}
		if twice, err := kms.DecodeKeyFile(again); err != nil || !bytes.Equal(again, twice) {
			t.Errorf("%v", err)
		}
	})
}

// A blob from the network is opened or refused, and only what was sealed opens.
func FuzzBlob(f *testing.F) {
	folder := newFolder(f)
	k := folder.create(f, kms.CreateRequest{})
	d := must2(folder.GenerateDataKey(f.Context(), alice, k.ARN, volume))
	f.Add(d.Wrapped)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		opened, err := folder.Open(t.Context(), alice, b, kms.Request{Encryption: volume})
		if err == nil && (!bytes.Equal(b, d.Wrapped) || !bytes.Equal(opened.Plaintext, d.Plaintext[:])) {
			t.Errorf("opened %x", b)
		}
	})
}

// A blob that was made by an earlier version stays readable.
func TestBlobFormat(t *testing.T) {
	b := must2(hex.DecodeString("01" + "00112233445546678899aabbccddeeff" + "000000000000000000000000" + "00000000000000000000000000000000"))
	id, ok := kms.BlobKey(b)
	if !ok || id != "00112233-4455-4667-8899-aabbccddeeff" {
		t.Errorf("%s, %v", id, ok)
	}
	for _, bad := range [][]byte{nil, b[:44], append([]byte{2}, b[1:]...), make([]byte, 6145)} {
		if _, ok := kms.BlobKey(bad); ok {
			t.Errorf("%x was taken for a blob", bad)
		}
	}
}
