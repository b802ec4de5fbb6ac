package domain_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"shale/internal/block"
	"shale/internal/domain"
)

// The vectors were made by another implementation (pyca/cryptography) from
// what docs/formats.md says.
const (
	vectorID      = "1c34516f4e11238252df92321105b22330f251e623ff5236971f1490727090a5"
	vectorDigest  = "5f7a26e1d78cd171b1aab0208da133e996c75285b94aa8ef06c6578ea0b26903" // 524,288 × "A"
	vectorSealed  = "6465666768696a6b6c6d6e6f56c207fc499cf42180e4935888d7483ed4f005aae8bae66350562b0ed21acae29c268467af4702cc102fe35e2534a261"
	vectorPayload = "785274aed7a5d5460346405f21037c24921e0ffb28" // "shale", codec 0
	vectorCodec1  = "785274aed78a799931e4a4ac7800c595b1344ebcb3" // "shale", codec 1
	vectorMAC     = "13b949c283785f44ae867ebd4fdcbefd57781200b9c226936a24d14749cbb51f"
	vectorBaseMAC = "d2f9d16da74b74b6694d8c6d2111f594256bcf884fd3ff909f5fb275d6e02def"
	vectorClaim   = "fb0a089743e0c6a17fc612ee84eb8363aac40aa6a5d69c502f7ef593e38002e3"

	vectorNumber domain.Number = 0x0a1b2c3d
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dataKey is 00 01 02 …, each byte moved by the seed.
func dataKey(seed byte) *[domain.KeySize]byte {
	var k [domain.KeySize]byte
	for i := range k {
		k[i] = byte(i) + seed
	}
	return &k
}

func vectorNonce() (n domain.Nonce) {
	for i := range n {
		n[i] = byte(200 + i)
	}
	return n
}

func TestVectors(t *testing.T) {
	k := domain.New(vectorNumber, dataKey(0))
	digest := block.Digest(unhex(t, vectorDigest))
	id := k.ID(digest)
	if id.String() != vectorID {
		t.Errorf("ID: got %v, want %s", id, vectorID)
	}
	if got := k.Claim("snap-0123456789abcdef0", digest); hex.EncodeToString(got[:]) != vectorClaim {
		t.Errorf("Claim: got %x, want %s", got, vectorClaim)
	}
	sealed := domain.SealedDigest(unhex(t, vectorSealed))
	if got, err := k.OpenDigest(id, &sealed); err != nil || got != digest {
		t.Errorf("OpenDigest: got %x, %v, want %s", got, err, vectorDigest)
	}
	nonce := vectorNonce()
	for codec, payload := range []string{vectorPayload, vectorCodec1} {
		if got, err := k.OpenPayload(id, byte(codec), &nonce, unhex(t, payload)); err != nil || string(got) != "shale" {
			t.Errorf("OpenPayload, codec %d: got %q, %v", codec, got, err)
		}
	}
	for kind, want := range map[domain.MapKind]string{domain.OwnMap: vectorMAC, domain.BaseMap: vectorBaseMAC} {
		m := k.MAC(kind, "snap-00123456789abcdef", 65536, id)
		if hex.EncodeToString(m[:]) != want {
			t.Errorf("MAC %d: got %x, want %s", kind, m, want)
		}
		if err := k.Verify(m, kind, "snap-00123456789abcdef", 65536, id); err != nil {
			t.Errorf("Verify %d: %v", kind, err)
		}
	}
	var none *domain.Key
	if none.ID(digest) != block.ID(digest) || none.Number() != domain.Unencrypted || k.Number() != vectorNumber {
		t.Error("the unencrypted domain has ids of its own, or a number")
	}
	if got := vectorNumber.String(); got != "0a1b2c3d" {
		t.Errorf("number: got %s", got)
	}
}

func TestRoundTrip(t *testing.T) {
	k := domain.New(7, dataKey(1))
	id := k.ID(block.ZeroDigest)
	sealed := k.SealDigest(id, block.ZeroDigest)
	if again := k.SealDigest(id, block.ZeroDigest); again == sealed {
		t.Error("a digest was sealed twice with one nonce")
	}
	if got, err := k.OpenDigest(id, &sealed); err != nil || got != block.ZeroDigest {
		t.Errorf("OpenDigest: got %x, %v", got, err)
	}
	plain := bytes.Repeat([]byte("plain"), 1000)
	for name, room := range map[string]int{"in place": domain.Overhead, "copied": 0} {
		buf := append(make([]byte, 0, len(plain)+room), plain...)
		buf = buf[: len(plain) : len(plain)+room]
		nonce, sealed := k.SealPayload(id, 0, buf)
		if len(sealed) != len(plain)+domain.Overhead || bytes.Contains(sealed, []byte("plain")) {
			t.Fatalf("%s: %d bytes sealed to %d", name, len(plain), len(sealed))
		}
		if inPlace := &sealed[0] == &buf[0]; inPlace != (room > 0) {
			t.Errorf("%s: sealed in place: %v", name, inPlace)
		}
		if got, err := k.OpenPayload(id, 0, &nonce, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: OpenPayload: got %d bytes, %v", name, len(got), err)
		}
	}
}

// What was sealed opens only as it was, where it belongs, under its key.
func TestTampering(t *testing.T) {
	k := domain.New(vectorNumber, dataKey(0))
	id := k.ID(block.ZeroDigest)
	digest := k.SealDigest(id, block.ZeroDigest)
	for bit := range len(digest) * 8 {
		bad := digest
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := k.OpenDigest(id, &bad); !errors.Is(err, domain.ErrTampered) {
			t.Fatalf("digest with bit %d flipped: got %v, want ErrTampered", bit, err)
		}
	}
	nonce, payload := k.SealPayload(id, 0, []byte("payload"))
	for bit := range len(payload) * 8 {
		bad := slices.Clone(payload)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := k.OpenPayload(id, 0, &nonce, bad); !errors.Is(err, domain.ErrTampered) {
			t.Fatalf("payload with bit %d flipped: got %v, want ErrTampered", bit, err)
		}
	}
	other := id
	other[31] ^= 1
	for name, at := range map[string]struct {
		key   *domain.Key
		id    block.ID
		codec byte
		nonce domain.Nonce
	}{
		"key":    {domain.New(vectorNumber, dataKey(1)), id, 0, nonce},
		"domain": {domain.New(vectorNumber+1, dataKey(0)), id, 0, nonce},
		"id":     {k, other, 0, nonce},
		"codec":  {k, id, 1, nonce},
		"nonce":  {k, id, 0, domain.Nonce{}},
	} {
		if _, err := at.key.OpenPayload(at.id, at.codec, &at.nonce, slices.Clone(payload)); !errors.Is(err, domain.ErrTampered) {
			t.Errorf("payload with another %s: got %v, want ErrTampered", name, err)
		}
		if at.codec != 0 || at.nonce != nonce {
			continue
		}
		if _, err := at.key.OpenDigest(at.id, &digest); !errors.Is(err, domain.ErrTampered) {
			t.Errorf("digest with another %s: got %v, want ErrTampered", name, err)
		}
	}
	mac := k.MAC(domain.OwnMap, "snap-0", 1, id)
	for name, err := range map[string]error{
		"kind":     k.Verify(mac, domain.BaseMap, "snap-0", 1, id),
		"snapshot": k.Verify(mac, domain.OwnMap, "snap-1", 1, id),
		"size":     k.Verify(mac, domain.OwnMap, "snap-0", 2, id),
		"root":     k.Verify(mac, domain.OwnMap, "snap-0", 1, other),
		"key":      domain.New(vectorNumber, dataKey(1)).Verify(mac, domain.OwnMap, "snap-0", 1, id),
	} {
		if !errors.Is(err, domain.ErrTampered) {
			t.Errorf("map of another %s: got %v, want ErrTampered", name, err)
		}
	}
}

// The same block has other ids and other bytes in every domain.
func TestDomainsShareNothing(t *testing.T) {
	a, b := domain.New(1, dataKey(0)), domain.New(2, dataKey(1))
	if a.ID(block.ZeroDigest) == b.ID(block.ZeroDigest) || a.ID(block.ZeroDigest) == block.ID(block.ZeroDigest) {
		t.Error("one block has the same id in two domains")
	}
}

// FuzzOpen gives both seals any bytes: nothing but what was sealed opens.
func FuzzOpen(f *testing.F) {
	f.Add(unhex(f, vectorID), unhex(f, vectorSealed), unhex(f, vectorPayload), byte(0))
	k := domain.New(vectorNumber, dataKey(0))
	f.Fuzz(func(t *testing.T, id, sealed, payload []byte, codec byte) {
		if len(id) != len(block.ID{}) || len(sealed) != len(domain.SealedDigest{}) {
			return
		}
		at, digest := block.ID(id), domain.SealedDigest(sealed)
		if got, err := k.OpenDigest(at, &digest); err == nil && hex.EncodeToString(got[:]) != vectorDigest {
			t.Errorf("a digest that nobody sealed was opened: %x", got)
		}
		nonce := vectorNonce()
		if got, err := k.OpenPayload(at, codec, &nonce, slices.Clone(payload)); err == nil && string(got) != "shale" {
			t.Errorf("a payload that nobody sealed was opened: %q", got)
		}
	})
}
