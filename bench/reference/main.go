// Command reference is the yardstick that bench holds shale against: a block
// server that does the least possible honest work. A write is read into a
// pooled buffer, hashed, compared with its checksum, appended to one file and
// acknowledged after an fdatasync that it shares with whoever wrote at the same
// time. A read is one pread and one write.
//
// It has no snapshots, no map, no signatures, no deduplication, no checksum on
// disk and no way to start again from its file. What a real server costs more
// than this is the price of those.
package main

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"shale/internal/block"
)

// maxBatch is how many writes share one sync at most: 32 MiB.
const maxBatch = 64

func main() {
	file := flag.String("file", "", "file to append blocks to; it is created")
	listen := flag.String("listen", "127.0.0.1:0", "address to serve")
	flag.Parse()
	if err := run(*file, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(file, listen string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	s := &server{
		file:   f,
		queue:  make(chan *write, maxBatch),
		places: make(map[place]stored),
	}
	go s.commit()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /snapshots/{snapshot}/blocks/{index}", s.put)
	mux.HandleFunc("GET /snapshots/{snapshot}/blocks/{index}", s.get)
	fmt.Printf("reference ready on %s\n", l.Addr())
	hs := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return hs.Serve(l)
}

// A place is where a client put a block, stored is where the file has it.
type (
	place struct {
		snapshot string
		index    int
	}
	stored struct {
		offset int64
		digest [sha256.Size]byte
	}
)

// A write waits in the queue until the batch that holds it is durable.
type write struct {
	at     place
	body   []byte
	digest [sha256.Size]byte
	done   chan error // buffered, one result
}

type server struct {
	file  *os.File
	queue chan *write

	mu     sync.RWMutex
	places map[place]stored // guarded by mu
}

var writes = sync.Pool{New: func() any {
	return &write{body: make([]byte, block.Size), done: make(chan error, 1)}
}}

func (s *server) put(w http.ResponseWriter, r *http.Request) {
	at, err := parsePlace(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	wr := writes.Get().(*write)
	defer writes.Put(wr)
	if _, err := io.ReadFull(r.Body, wr.body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	wr.at, wr.digest = at, sha256.Sum256(wr.body)
	checksum := base64.StdEncoding.EncodeToString(wr.digest[:])
	if checksum != r.Header.Get("x-amz-Checksum") {
		http.Error(w, "checksum mismatch", http.StatusForbidden)
		return
	}
	s.queue <- wr
	if err := <-wr.done; err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("x-amz-Checksum", checksum)
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, "{}") //nolint:errcheck // the client is gone, nobody is left to tell
}

// commit is the only writer of the file. While it syncs one batch, the next
// gathers in the queue; a lone write never waits for company.
func (s *server) commit() {
	var (
		end   int64
		batch = make([]*write, 0, maxBatch)
		iovec = make([][]byte, 0, maxBatch)
	)
	for first := range s.queue {
		batch = append(batch[:0], first)
	gather:
		for len(batch) < maxBatch {
			select {
			case wr := <-s.queue:
				batch = append(batch, wr)
			default:
				break gather
			}
		}
		iovec = iovec[:0]
		for _, wr := range batch {
			iovec = append(iovec, wr.body)
		}
		err := s.append(iovec, end)
		if err == nil {
			s.mu.Lock()
			for i, wr := range batch {
				s.places[wr.at] = stored{offset: end + int64(i)*block.Size, digest: wr.digest}
			}
			s.mu.Unlock()
		}
		end += int64(len(batch)) * block.Size
		for _, wr := range batch {
			wr.done <- err
		}
	}
}

// append writes bufs at offset and returns once they are on the disk.
func (s *server) append(bufs [][]byte, offset int64) error {
	want := len(bufs) * block.Size
	n, err := unix.Pwritev(int(s.file.Fd()), bufs, offset)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if n != want {
		return io.ErrShortWrite
	}
	if err := unix.Fdatasync(int(s.file.Fd())); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

var buffers = sync.Pool{New: func() any {
	b := make([]byte, block.Size)
	return &b
}}

func (s *server) get(w http.ResponseWriter, r *http.Request) {
	at, err := parsePlace(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.RLock()
	st, ok := s.places[at]
	s.mu.RUnlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	if _, err := s.file.ReadAt(*b, st.offset); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(block.Size))
	h.Set("x-amz-Data-Length", strconv.Itoa(block.Size))
	h.Set("x-amz-Checksum-Algorithm", "SHA256")
	h.Set("x-amz-Checksum", base64.StdEncoding.EncodeToString(st.digest[:]))
	w.Write(*b) // the client is gone, nobody is left to tell
}

func parsePlace(r *http.Request) (place, error) {
	index, err := strconv.Atoi(r.PathValue("index"))
	if err != nil || index < 0 {
		return place{}, errors.New("index is no block index")
	}
	return place{snapshot: r.PathValue("snapshot"), index: index}, nil
}
