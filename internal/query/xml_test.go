package query_test

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"shale/internal/query"
)

// What a parser gets out of escaped text is the text, but for characters that
// XML cannot carry.
func FuzzAppendText(f *testing.F) {
	f.Add("<a href=\"x\">&amp;'\r\n\t\x00\ufffe\U0010ffff\xff")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		doc := fmt.Sprintf("<x>%s</x>", query.AppendText(nil, s))
		if err := xml.Unmarshal([]byte(doc), &got); err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		want := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
				return '\ufffd'
			}
			return r
		}, strings.ToValidUTF8(s, "\x00"))
		// ToValidUTF8 makes one of a run of bad bytes, ranging one of each.
		if squeeze(got) != squeeze(want) {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}

func squeeze(s string) string {
	for strings.Contains(s, "\ufffd\ufffd") {
		s = strings.ReplaceAll(s, "\ufffd\ufffd", "\ufffd")
	}
	return s
}
