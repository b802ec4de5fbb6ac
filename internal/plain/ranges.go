package plain

import (
	"fmt"
	"slices"
	"strings"
)

// maxRanges is the most ranges that one request may ask for. A range of one
// byte costs the reading of a block, and some 200 bytes of answer.
const maxRanges = 64

// A byteRange is a part of an image, in bytes. It is never empty.
type byteRange struct{ offset, length int64 }

func (r byteRange) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", r.offset, r.offset+r.length-1, size)
}

// A rangeError is a Range that cannot be served, or will not be.
type rangeError struct {
	size int64 // of the image, bytes
	text string
}

func (e *rangeError) Error() string { return e.text }

// parseRanges gives the parts of size bytes that the value of a Range header
// asks for, in its order, and none if it is in another unit than bytes, which
// is as if there were no header. Parts past the end are cut or left out.
// Otherwise the error is a *rangeError: for a value that is malformed (to
// ignore it, as RFC 9110 would also let us, could mean to send 64 TiB to
// somebody who wanted a few bytes), for one that has no part of the image, and
// for one that asks for more than maxRanges parts or for more than two that
// overlap, so that no answer is much longer than the image.
// Spec: plain-json, What this dialect adds; RFC 9110 §14.1.2, §14.2.
func parseRanges(value string, size int64) ([]byteRange, error) {
	refuse := func(format string, args ...any) ([]byteRange, error) {
		return nil, &rangeError{size, fmt.Sprintf(format, args...)}
	}
	unit, set, found := strings.Cut(value, "=")
	if found && isToken(unit) && !strings.EqualFold(unit, "bytes") {
		return nil, nil
	}
	if !found || !strings.EqualFold(unit, "bytes") {
		return refuse("the header Range is malformed; it should look like bytes=0-1048575")
	}
	var ranges []byteRange
	count := 0
	for spec := range strings.SplitSeq(set, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue // a list may have empty elements
		}
		if count++; count > maxRanges {
			return refuse("the header Range asks for more than %d ranges; send more requests", maxRanges)
		}
		r, ok := parseRange(spec, size)
		if !ok {
			return refuse("the header Range is malformed; it should look like bytes=0-1048575")
		}
		if r.length > 0 {
			ranges = append(ranges, r)
		}
	}
	switch {
	case count == 0:
		return refuse("the header Range is malformed; it should look like bytes=0-1048575")
	case len(ranges) == 0:
		return refuse("the header Range is past the end of the image, which has %d bytes", size)
	case overlaps(ranges) > 1:
		return refuse("the header Range asks for more than two ranges that overlap")
	}
	return ranges, nil
}

// parseRange parses one range: first-last, first- or -length. It reports false
// if it is none; a range with nothing of the image is empty.
func parseRange(spec string, size int64) (byteRange, bool) {
	first, last, found := strings.Cut(spec, "-")
	if !found || first == "" && last == "" {
		return byteRange{}, false
	}
	if first == "" {
		n, ok := position(last, size)
		return byteRange{size - n, n}, ok
	}
	from, ok := position(first, size)
	if !ok {
		return byteRange{}, false
	}
	to := size - 1
	if last != "" {
		if to, ok = position(last, size); !ok || less(last, first) {
			return byteRange{}, false
		}
		to = min(to, size-1)
	}
	return byteRange{from, max(to-from+1, 0)}, true
}

// position parses a number that counts bytes; what is larger than size is size.
func position(s string, size int64) (int64, bool) {
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), size) // size is at most 1<<46
	}
	return n, true
}

// less compares two numbers in decimal digits, of any length.
func less(a, b string) bool {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return len(a) < len(b) || len(a) == len(b) && a < b
}

// overlaps counts the ranges that begin inside of one that begins before them.
func overlaps(ranges []byteRange) int {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b byteRange) int {
		if a.offset != b.offset {
			return int(min(max(a.offset-b.offset, -1), 1))
		}
		return int(min(max(a.length-b.length, -1), 1))
	})
	n, end := 0, int64(0)
	for _, r := range sorted {
		if r.offset < end {
			n++
		}
		end = max(end, r.offset+r.length)
	}
	return n
}

// isToken reports whether s is a token of HTTP. Spec: RFC 9110 §5.6.2.
func isToken(s string) bool {
	return s != "" && strings.Trim(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// matchesTag reports whether a list of entity tags, the value of an
// If-None-Match header, has the tag or is *. Tags are compared weakly.
// Spec: RFC 9110 §8.8.3.2, §13.1.2.
func matchesTag(list, tag string) bool {
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	for list != "" {
		list = strings.TrimLeft(list, " \t,")
		list = strings.TrimPrefix(list, "W/")
		if list == "" || list[0] != '"' {
			return false // malformed: no tag can be told from here on
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		if list[:end+2] == tag {
			return true
		}
		list = list[end+2:]
	}
	return false
}
