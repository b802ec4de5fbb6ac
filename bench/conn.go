package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"time"

	"shale/internal/block"
)

// A conn is one keep-alive connection to a server: a client of HTTP/1.1 that
// does nothing but what these servers need, so that on a small machine it is
// the servers that are measured. It sends one request at a time and checks the
// status and the checksum of every answer.
type conn struct {
	tcp    *net.TCPConn
	in     *bufio.Reader
	signer *signer
	body   []byte // of the last answer; reused
}

func dial(s *signer) (*conn, error) {
	c, err := net.DialTimeout("tcp", s.host, 5*time.Second)
	if err != nil {
		return nil, err
	}
	// The reader is smaller than a block, so that bodies go past it.
	return &conn{tcp: c.(*net.TCPConn), in: bufio.NewReaderSize(c, 4<<10), signer: s}, nil
}

func (c *conn) close() { c.tcp.Close() }

// requestTimeout bounds one request, so that a silent server ends the run.
const requestTimeout = time.Minute

// An answer is what a server said, apart from the body, which is in conn.body
// until the next request.
type answer struct {
	status   int
	checksum string // x-amz-checksum
}

// do sends a request whose body is the concatenation of parts and reads the
// whole answer.
func (c *conn) do(r requestHead, parts ...[]byte) (answer, error) {
	if err := c.tcp.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return answer{}, err
	}
	bufs := append(net.Buffers{c.signer.head(r)}, parts...)
	if _, err := bufs.WriteTo(c.tcp); err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	a, err := c.read()
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	return a, nil
}

func (c *conn) read() (answer, error) {
	line, err := c.line()
	if err != nil {
		return answer{}, err
	}
	var a answer
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return answer{}, fmt.Errorf("status line %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return answer{}, fmt.Errorf("status line %q", line)
	}
	length := -1
	for {
		line, err := c.line()
		if err != nil {
			return answer{}, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return answer{}, fmt.Errorf("content-length %q", value)
			}
		case bytes.EqualFold(name, []byte("x-amz-checksum")):
			a.checksum = string(value)
		}
	}
	if length < 0 {
		return answer{}, errors.New("answer without content-length")
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err := io.ReadFull(c.in, c.body); err != nil {
		return answer{}, fmt.Errorf("read body: %w", err)
	}
	return a, nil
}

// line returns the next line without its end.
func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// want turns an unexpected status into an error that shows the answer.
func (c *conn) want(status int, a answer) error {
	if a.status == status {
		return nil
	}
	return fmt.Errorf("status %d, want %d: %.300q", a.status, status, c.body)
}

func blockPath(snapshot string, index int) string {
	return "/snapshots/" + snapshot + "/blocks/" + strconv.Itoa(index)
}

// put writes a block and returns once the server has acknowledged it.
func (c *conn) put(snapshot string, index int, b *testBlock) error {
	checksum := b.digest.Base64()
	a, err := c.do(requestHead{
		method: "PUT",
		path:   blockPath(snapshot, index),
		headers: []header{
			{"x-amz-checksum", checksum},
			{"x-amz-checksum-algorithm", "SHA256"},
			{"x-amz-content-sha256", unsignedPayload},
			{"x-amz-data-length", strconv.Itoa(block.Size)},
		},
		payloadHash:   unsignedPayload,
		contentLength: block.Size,
	}, b.prefix, b.tail[:])
	if err != nil {
		return err
	}
	if err := c.want(201, a); err != nil {
		return fmt.Errorf("put block %d of %s: %w", index, snapshot, err)
	}
	if a.checksum != checksum {
		return fmt.Errorf("put block %d of %s: checksum %s came back for %s", index, snapshot, a.checksum, checksum)
	}
	return nil
}

// verifyEvery is how many reads pass between two whose every byte is compared;
// the checksum header is compared always.
const verifyEvery = 32

// get reads a block that should equal b.
func (c *conn) get(snapshot string, index int, token string, b *testBlock, compare bool) error {
	a, err := c.do(requestHead{
		method:      "GET",
		path:        blockPath(snapshot, index),
		query:       "blockToken=" + token,
		payloadHash: emptyHash,
	})
	if err != nil {
		return err
	}
	if err := c.want(200, a); err != nil {
		return fmt.Errorf("get block %d of %s: %w", index, snapshot, err)
	}
	if a.checksum != b.digest.Base64() || len(c.body) != block.Size || compare && !b.equals(c.body) {
		return fmt.Errorf("get block %d of %s: not the bytes that were written", index, snapshot)
	}
	return nil
}

var emptyHash = hexHash(nil)

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// start makes a snapshot, a child if parent is not empty.
func (c *conn) start(sizeGiB int, parent string) (string, error) {
	req := map[string]any{"VolumeSize": sizeGiB, "Timeout": 4320}
	if parent != "" {
		req["ParentSnapshotId"] = parent
	}
	return c.startWith(req)
}

// startEncrypted starts a snapshot under the account's default key.
func (c *conn) startEncrypted(sizeGiB int) (string, error) {
	return c.startWith(map[string]any{"VolumeSize": sizeGiB, "Timeout": 4320, "Encrypted": true})
}

func (c *conn) startWith(req map[string]any) (string, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return "", err
	}
	a, err := c.do(requestHead{
		method:        "POST",
		path:          "/snapshots",
		headers:       []header{{"content-type", "application/json"}},
		payloadHash:   hexHash(body),
		contentLength: len(body),
	}, body)
	if err != nil {
		return "", err
	}
	if err := c.want(201, a); err != nil {
		return "", fmt.Errorf("start snapshot: %w", err)
	}
	var got struct{ SnapshotId string }
	err = json.Unmarshal(c.body, &got)
	return got.SnapshotId, err
}

// complete seals a snapshot and waits until it can be read.
func (c *conn) complete(snapshot string, changed int) error {
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		a, err := c.do(requestHead{
			method:      "POST",
			path:        "/snapshots/completion/" + snapshot,
			headers:     []header{{"x-amz-changedblockscount", strconv.Itoa(changed)}},
			payloadHash: emptyHash,
		})
		if err != nil {
			return err
		}
		if err := c.want(202, a); err != nil {
			return fmt.Errorf("complete %s: %w", snapshot, err)
		}
		var got struct{ Status string }
		if err := json.Unmarshal(c.body, &got); err != nil {
			return err
		}
		switch {
		case got.Status == "completed":
			return nil
		case got.Status != "pending":
			return fmt.Errorf("snapshot %s ended in state %s", snapshot, got.Status)
		case time.Now().After(deadline):
			return fmt.Errorf("snapshot %s is still pending", snapshot)
		}
	}
}

// list goes through the pages of a listing (path ends in /blocks or
// /changedblocks) with the given parameters and calls page with the bytes of
// each, which are valid during the call.
func (c *conn) list(path string, params url.Values, page func([]byte) error) error {
	params.Set("maxResults", "10000")
	for {
		a, err := c.do(requestHead{method: "GET", path: path, query: params.Encode(), payloadHash: emptyHash})
		if err != nil {
			return err
		}
		if err := c.want(200, a); err != nil {
			return fmt.Errorf("list %s: %w", path, err)
		}
		next := nextToken(c.body)
		if err := page(c.body); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		params.Set("pageToken", next)
	}
}

// nextToken finds the page token in a listing without decoding it all; empty
// on the last page. Base64url cannot hold a quote.
func nextToken(listing []byte) string {
	_, rest, ok := bytes.Cut(listing, []byte(`"NextToken":"`))
	if !ok {
		return ""
	}
	token, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(token)
}

// blockTokens lists a snapshot and returns the token of each index.
func (c *conn) blockTokens(snapshot string) (map[int]string, error) {
	tokens := make(map[int]string)
	err := c.list("/snapshots/"+snapshot+"/blocks", url.Values{}, func(page []byte) error {
		var got struct {
			Blocks []struct {
				BlockIndex int
				BlockToken string
			}
		}
		if err := json.Unmarshal(page, &got); err != nil {
			return err
		}
		for _, b := range got.Blocks {
			tokens[b.BlockIndex] = b.BlockToken
		}
		return nil
	})
	return tokens, err
}
