package plain_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"shale/internal/plain"
)

// Ranges that are accepted lie in the image, are not empty, and ask for little
// more than the whole; net/http, asked the same, agrees about each of them.
func FuzzParseRanges(f *testing.F) {
	for _, v := range []string{
		"bytes=0-0", "bytes=-1", "bytes=5-", "bytes=0-5,3-9", "bytes=0-,0-,0-", "bytes=1-0", "bytes=, ,0-1", "Bytes=0-18446744073709551616",
		"items=0-5", "bytes 0-1", "=", "bytes=-0", "bytes=00000000000000000000000000000001-2", "bytes=\t0-1 ",
	} {
		f.Add(v, int64(1<<30))
	}
	f.Fuzz(func(t *testing.T, value string, size int64) {
		if size < 1 || size > 1<<46 {
			return
		}
		ranges, err := plain.ParseRanges(value, size)
		if err != nil {
			if !errors.As(err, new(*plain.RangeError)) {
				t.Errorf("%q: got %v, want a *rangeError", value, err)
			}
			return
		}
		var total int64
		for _, r := range ranges {
			if r.Offset() < 0 || r.Length() < 1 || r.Offset()+r.Length() > size {
				t.Errorf("%q of %d bytes: got %v", value, size, r)
			}
			total += r.Length()
		}
		if total > 2*size || len(ranges) > 64 {
			t.Errorf("%q of %d bytes: %d ranges, %d bytes", value, size, len(ranges), total)
		}
		if len(ranges) != 1 || strings.Contains(value, ",") || strings.ContainsAny(value, "\r\n\x00") {
			return
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodHead, "/", http.NoBody)
		w.Header().Set("Content-Type", "x/y") // or it would look at the bytes
		r.Header.Set("Range", "bytes"+value[len("bytes"):])
		http.ServeContent(w, r, "", time.Time{}, sized(size))
		want := fmt.Sprintf("bytes %d-%d/%d", ranges[0].Offset(), ranges[0].Offset()+ranges[0].Length()-1, size)
		if got := w.Header().Get("Content-Range"); got != want && !hugeNumber(value) {
			t.Errorf("%q of %d bytes: got %s, net/http says %s", value, size, want, got)
		}
	})
}

// hugeNumber reports whether there are numbers that net/http cannot parse.
func hugeNumber(value string) bool {
	digits := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			digits = 0
		} else if digits++; digits > 18 {
			return true
		}
	}
	return false
}

// sized is so many bytes that are never read.
type sized int64

func (s sized) Read([]byte) (int, error) { panic("read") }

func (s sized) Seek(offset int64, whence int) (int64, error) {
	if whence == 2 {
		return int64(s) + offset, nil
	}
	return offset, nil
}

func TestMatchesTag(t *testing.T) {
	const tag = `"abc"`
	for list, want := range map[string]bool{
		`"abc"`: true, `W/"abc"`: true, `"x", "abc"`: true, `"x",W/"abc","y"`: true, `*`: true, ` * `: true, `,, "abc"`: true,
		``: false, `abc`: false, `"ab"`: false, `"abc`: false, `"x" y "abc"`: false, `w/"abc"`: false, `"abcd"`: false, `"x","`: false,
	} {
		if got := plain.MatchesTag(list, tag); got != want {
			t.Errorf("%s: got %v, want %v", list, got, want)
		}
	}
}
