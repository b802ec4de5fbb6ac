package bearer_test

import (
	"strings"
	"testing"

	"shale/internal/bearer"
)

func TestNew(t *testing.T) {
	token, id, sum := bearer.New()
	gotID, gotSum, ok := bearer.Parse(token)
	if !ok || gotID != id || !gotSum.Equal(sum) || len(token) != 66 {
		t.Errorf("got %q, %v", gotID, ok)
	}
	if strings.Contains(token, string(sum[:])) {
		t.Error("the sum is in the token")
	}
	other, otherID, otherSum := bearer.New()
	if other == token || otherID == id || otherSum.Equal(sum) {
		t.Error("two tokens have something in common")
	}
}

// Any one character that is changed makes another token, or none.
func TestParseChanged(t *testing.T) {
	token, id, sum := bearer.New()
	for i := range token {
		for _, c := range []byte("aZ2_-=. \n\x00") {
			changed := token[:i] + string(c) + token[i+1:]
			if changed == token {
				continue
			}
			if gotID, gotSum, ok := bearer.Parse(changed); ok && gotID == id && gotSum.Equal(sum) {
				t.Errorf("character %d as %q: the same token", i, c)
			}
		}
	}
}

// What is accepted has exactly one spelling.
func FuzzParse(f *testing.F) {
	f.Add("shale_aaaaaaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("shale_")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, _, ok := bearer.Parse(s)
		if !ok {
			return
		}
		if len(s) != 66 || !strings.HasPrefix(s, "shale_"+id+"_") || strings.ContainsAny(s, "\r\n= ") {
			t.Errorf("%q was accepted", s)
		}
	})
}
