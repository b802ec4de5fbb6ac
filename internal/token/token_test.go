package token_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"shale/internal/block"
	"shale/internal/token"
)

var (
	now   = time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC)
	codec = token.New(bytes.Repeat([]byte{1}, token.KeySize))
	other = token.New(bytes.Repeat([]byte{2}, token.KeySize))

	aBlock = token.Block{Snapshot: 0x33d116c0448c309d, Index: block.MaxIndex, ID: block.ID{1, 2, 3}, Expiry: now.Add(time.Hour)}
	aPage  = token.Page{Kind: token.KindChanged, First: 1, Second: 1 << 63, Cursor: 77, Expiry: now.Add(time.Hour)}
)

func TestRoundTrip(t *testing.T) {
	b := string(codec.AppendBlock(nil, aBlock))
	if got, err := codec.OpenBlock(b, now); err != nil || got != aBlock {
		t.Errorf("OpenBlock: got %+v, %v, want %+v", got, err, aBlock)
	}
	p := codec.Page(aPage)
	if got, err := codec.OpenPage(token.KindChanged, p, now); err != nil || got != aPage {
		t.Errorf("OpenPage: got %+v, %v, want %+v", got, err, aPage)
	}
	// As AWS's begin; clients must be able to put them into a query as they are.
	for _, tt := range []struct{ text, prefix string }{{b, "AlMB"}, {p, "AlMD"}} {
		if !strings.HasPrefix(tt.text, tt.prefix) || strings.ContainsAny(tt.text, "+/=") || len(tt.text) > token.MaxLength {
			t.Errorf("token %s: want prefix %s, the URL alphabet and at most %d characters", tt.text, tt.prefix, token.MaxLength)
		}
	}
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(b)
	if got, err := codec.OpenBlock(standard, now); err != nil || got != aBlock {
		t.Errorf("in the standard alphabet: got %+v, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	b, p := string(codec.AppendBlock(nil, aBlock)), codec.Page(aPage)
	refuse := func(name string, c *token.Codec, text string, at time.Time) {
		t.Helper()
		if _, err := c.OpenBlock(text, at); err == nil {
			t.Errorf("%s was opened as a block token", name)
		}
		for _, kind := range []token.Kind{token.KindBlocks, token.KindChanged, token.KindList} {
			if _, err := c.OpenPage(kind, text, at); err == nil {
				t.Errorf("%s was opened as a page token of kind %v", name, kind)
			}
		}
	}
	refuse("another server's block token", other, b, now)
	refuse("another server's page token", other, p, now)
	refuse("an expired block token", codec, b, aBlock.Expiry)
	refuse("an expired page token", codec, p, aPage.Expiry)
	refuse("nothing", codec, "", now)
	refuse("a long text", codec, strings.Repeat("A", 1000), now)
	if _, err := codec.OpenPage(token.KindBlocks, p, now); err == nil {
		t.Error("a page token of one listing was opened for another")
	}
	if _, err := codec.OpenBlock(p, now); err == nil {
		t.Error("a page token was opened as a block token")
	}
	for _, text := range []string{b, p} {
		raw, _ := base64.RawURLEncoding.DecodeString(text)
		for bit := range len(raw) * 8 {
			bad := bytes.Clone(raw)
			bad[bit/8] ^= 1 << (bit % 8)
			refuse("a token with a flipped bit", codec, base64.RawURLEncoding.EncodeToString(bad), now)
		}
		refuse("a token cut short", codec, text[:len(text)-2], now)
		refuse("a token with more behind it", codec, text+"AA", now)
	}
}

// FuzzOpen gives Open any text: only tokens that this server made may open.
func FuzzOpen(f *testing.F) {
	b, p := string(codec.AppendBlock(nil, aBlock)), codec.Page(aPage)
	f.Add(b)
	f.Add(p)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := codec.OpenBlock(text, now); err == nil && got != aBlock {
			t.Errorf("opened a block token that was never made: %+v", got)
		}
		if got, err := codec.OpenPage(token.KindChanged, text, now); err == nil && got != aPage {
			t.Errorf("opened a page token that was never made: %+v", got)
		}
	})
}

func BenchmarkAppendBlock(b *testing.B) {
	var buf []byte
	for b.Loop() {
		buf = codec.AppendBlock(buf[:0], aBlock)
	}
}
