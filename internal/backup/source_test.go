package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
)

// failing cannot read some pages.
type failing struct {
	*bytes.Reader
	pages []int64
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	for _, n := range f.pages {
		if off < (n+1)*page && n*page < off+int64(len(p)) {
			return 0, syscall.EIO
		}
	}
	return f.Reader.ReadAt(p, off)
}

// Of what the disk cannot read the copy has what it had before, or zeros, and all
// the rest.
func TestUnreadablePages(t *testing.T) {
	const size = 10*page + 100
	whole := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(whole)
	for _, before := range []int{0, 5*page + 10, size} { // how long the earlier copy is
		var r Report
		s := source{
			ReaderAt: failing{bytes.NewReader(whole), []int64{0, 5, 6, 10}},
			lost:     func(off, n int64) { r.lost(7, off, n) },
		}
		if before > 0 {
			s.before = bytes.NewReader(whole[:before])
		}
		got := make([]byte, size)
		if n, err := s.ReadAt(got, 0); n != size || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("got %d bytes, %v", n, err)
		}
		want := slices.Clone(whole)
		for _, n := range []int{0, 5, 6, 10} {
			for i := max(n*page, before); i < min((n+1)*page, size); i++ {
				want[i] = 0
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("with an earlier copy of %d bytes the copy is not what can be had", before)
		}
		if gaps := []Gap{{7, 0, page}, {7, 5 * page, 2 * page}, {7, 10 * page, 100}}; !slices.Equal(r.Unreadable, gaps) {
			t.Errorf("got the gaps %v, want %v", r.Unreadable, gaps)
		}
	}
}
