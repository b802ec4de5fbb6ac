package transfer_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"shale/internal/block"
	"shale/internal/transfer"
)

// A fakeServer answers as the API does as far as package transfer can tell,
// and misbehaves on demand, which the real server does not. It verifies no
// signatures.
type fakeServer struct {
	*httptest.Server
	// misbehave, if set, sees each request first and reports whether it has
	// dealt with it.
	misbehave func(w http.ResponseWriter, r *http.Request) bool
	pageSize  int // entries of a page; 0 means all

	mu       sync.Mutex
	snaps    map[string]*fakeSnapshot
	issued   int
	requests map[string]int // by operation
}

type fakeSnapshot struct {
	id, state, message, parent string
	volumeSize                 int64
	tags                       []tag
	started                    time.Time
	token                      string
	blocks                     map[block.Index][]byte // inherited ones included
	written                    map[block.Index]bool
}

type tag struct{ Key, Value string }

func newFake(t *testing.T) *fakeServer {
	f := &fakeServer{snaps: map[string]*fakeSnapshot{}, requests: map[string]int{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// client returns a client of the server that keeps digest lists in folder.
func (f *fakeServer) client(t *testing.T, folder string) *transfer.Client {
	t.Helper()
	return newClient(t, f.URL, folder)
}

func newClient(t *testing.T, url, folder string) *transfer.Client {
	t.Helper()
	keys := credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")
	c, err := transfer.New(t.Context(), transfer.Options{
		EBS: ebs.New(ebs.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: keys, Retryer: aws.NopRetryer{}}),
		EC2: ec2.New(ec2.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: keys, Retryer: aws.NopRetryer{}}),
		// Digest lists of fake servers must not outlive the test.
		Digests:  folder,
		Parallel: 4,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// count returns how often an operation was asked for.
func (f *fakeServer) count(operation string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[operation]
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := operation(r)
	f.mu.Lock()
	f.requests[op]++
	f.mu.Unlock()
	if f.misbehave != nil && f.misbehave(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := r.PathValue("id")
	if parts := strings.Split(r.URL.Path, "/"); len(parts) > 2 && parts[2] != "completion" {
		id = parts[2]
	} else if len(parts) > 3 {
		id = parts[3]
	}
	switch op {
	case "StartSnapshot":
		f.start(w, body)
	case "PutSnapshotBlock":
		f.put(w, r, id, body)
	case "CompleteSnapshot":
		f.complete(w, r, id)
	case "ListSnapshotBlocks", "GetSnapshotBlock":
		f.read(w, r, op, id)
	case "ListChangedBlocks":
		f.changed(w, r, id)
	case "DescribeSnapshots", "DeleteSnapshot":
		f.ec2(w, op, body)
	default:
		http.NotFound(w, r)
	}
}

func operation(r *http.Request) string {
	switch path := r.URL.Path; {
	case path == "/":
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		for _, op := range []string{"DescribeSnapshots", "DeleteSnapshot"} {
			if strings.Contains(string(body), "Action="+op) {
				return op
			}
		}
		return "?"
	case path == "/snapshots":
		return "StartSnapshot"
	case strings.HasPrefix(path, "/snapshots/completion/"):
		return "CompleteSnapshot"
	case strings.HasSuffix(path, "/changedblocks"):
		return "ListChangedBlocks"
	case strings.HasSuffix(path, "/blocks"):
		return "ListSnapshotBlocks"
	case r.Method == http.MethodPut:
		return "PutSnapshotBlock"
	}
	return "GetSnapshotBlock"
}

func refuse(w http.ResponseWriter, status int, code, reason, message string) {
	w.Header().Set("x-amzn-ErrorType", code)
	w.Header().Set("x-amzn-RequestId", "test-request")
	answer(w, status, map[string]string{"Message": message, "Reason": reason})
}

func refuseEC2(w http.ResponseWriter, code, message string) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>test-request</RequestID></Response>`, code, message)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s", must(json.Marshal(v)))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (f *fakeServer) start(w http.ResponseWriter, body []byte) {
	var in struct {
		VolumeSize       int64
		ParentSnapshotId string
		ClientToken      string
		Tags             []tag
	}
	if err := json.Unmarshal(body, &in); err != nil {
		refuse(w, http.StatusBadRequest, "SerializationException", "", err.Error())
		return
	}
	for _, s := range f.snaps {
		if s.token == in.ClientToken {
			answer(w, http.StatusCreated, map[string]any{"SnapshotId": s.id, "BlockSize": block.Size})
			return
		}
	}
	f.issued++
	s := &fakeSnapshot{
		id: fmt.Sprintf("snap-0%016x", f.issued), state: "pending", parent: in.ParentSnapshotId,
		volumeSize: in.VolumeSize, tags: in.Tags, started: time.Now(), token: in.ClientToken,
		blocks: map[block.Index][]byte{}, written: map[block.Index]bool{},
	}
	if parent := f.snaps[in.ParentSnapshotId]; parent != nil {
		maps.Copy(s.blocks, parent.blocks)
	}
	f.snaps[s.id] = s
	answer(w, http.StatusCreated, map[string]any{"SnapshotId": s.id, "BlockSize": block.Size})
}

func (f *fakeServer) put(w http.ResponseWriter, r *http.Request, id string, body []byte) {
	s := f.snaps[id]
	if s == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", "The snapshot '"+id+"' does not exist.")
		return
	}
	i := indexIn(r)
	sum := sha256.Sum256(body)
	if len(body) != block.Size || base64.StdEncoding.EncodeToString(sum[:]) != r.Header.Get("x-amz-Checksum") {
		refuse(w, http.StatusBadRequest, "ValidationException", "INVALID_PARAMETER_VALUE", "bad block")
		return
	}
	s.blocks[i], s.written[i] = body, true
	answer(w, http.StatusCreated, struct{}{})
}

func (f *fakeServer) complete(w http.ResponseWriter, r *http.Request, id string) {
	s := f.snaps[id]
	s.state = "completed"
	sum := sha256.New()
	for _, i := range slices.Sorted(maps.Keys(s.written)) {
		d := sha256.Sum256(s.blocks[i])
		sum.Write(d[:])
	}
	if base64.StdEncoding.EncodeToString(sum.Sum(nil)) != r.Header.Get("x-amz-Checksum") {
		s.state, s.message = "error", "Checksum mismatch for snapshot"
	}
	if strconv.Itoa(len(s.written)) != r.Header.Get("x-amz-ChangedBlocksCount") {
		s.state, s.message = "error", "Changed blocks count mismatch for snapshot"
	}
	answer(w, http.StatusAccepted, map[string]string{"Status": "pending"})
}

func (f *fakeServer) read(w http.ResponseWriter, r *http.Request, op, id string) {
	s := f.snaps[id]
	if s == nil || s.state != "completed" {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", "The snapshot '"+id+"' does not exist.")
		return
	}
	if op == "ListSnapshotBlocks" {
		indexes, next := f.page(r, slices.Sorted(maps.Keys(s.blocks)))
		list := []map[string]any{}
		for _, i := range indexes {
			list = append(list, map[string]any{"BlockIndex": i, "BlockToken": fmt.Sprintf("%s-%d", id, i)})
		}
		answer(w, http.StatusOK, map[string]any{"BlockSize": block.Size, "VolumeSize": s.volumeSize, "Blocks": list, "NextToken": next})
		return
	}
	i := indexIn(r)
	if r.URL.Query().Get("blockToken") != fmt.Sprintf("%s-%d", id, i) {
		refuse(w, http.StatusBadRequest, "ValidationException", "INVALID_BLOCK_TOKEN", "The block token is invalid.")
		return
	}
	sum := sha256.Sum256(s.blocks[i])
	w.Header().Set("x-amz-Checksum", base64.StdEncoding.EncodeToString(sum[:]))
	w.Header().Set("x-amz-Checksum-Algorithm", "SHA256")
	w.Header().Set("x-amz-Data-Length", strconv.Itoa(block.Size))
	fmt.Fprintf(w, "%s", s.blocks[i])
}

func (f *fakeServer) changed(w http.ResponseWriter, r *http.Request, id string) {
	first, second := f.snaps[r.URL.Query().Get("firstSnapshotId")], f.snaps[id]
	if first == nil || second == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", "One of the snapshots does not exist.")
		return
	}
	var differ []block.Index
	for i := range block.Index(second.volumeSize * block.PerGiB) {
		if a, b := first.blocks[i], second.blocks[i]; (a == nil) != (b == nil) || string(a) != string(b) {
			differ = append(differ, i)
		}
	}
	indexes, next := f.page(r, differ)
	list := []map[string]any{}
	for _, i := range indexes {
		entry := map[string]any{"BlockIndex": i, "FirstBlockToken": nil, "SecondBlockToken": nil}
		if first.blocks[i] != nil {
			entry["FirstBlockToken"] = "one"
		}
		if second.blocks[i] != nil {
			entry["SecondBlockToken"] = "two"
		}
		list = append(list, entry)
	}
	answer(w, http.StatusOK, map[string]any{"BlockSize": block.Size, "ChangedBlocks": list, "NextToken": next})
}

// page cuts a listing by the request's parameters and the server's page size.
func (f *fakeServer) page(r *http.Request, all []block.Index) ([]block.Index, any) {
	from, _ := strconv.Atoi(cmp.Or(r.URL.Query().Get("pageToken"), r.URL.Query().Get("startingBlockIndex"), "0"))
	all = slices.DeleteFunc(all, func(i block.Index) bool { return int(i) < from })
	if f.pageSize == 0 || len(all) <= f.pageSize {
		return all, nil
	}
	return all[:f.pageSize], strconv.Itoa(int(all[f.pageSize]))
}

func (f *fakeServer) ec2(w http.ResponseWriter, op string, body []byte) {
	var wanted []*fakeSnapshot
	for _, id := range slices.Sorted(maps.Keys(f.snaps)) {
		if !strings.Contains(string(body), "SnapshotId") || strings.Contains(string(body), id) {
			wanted = append(wanted, f.snaps[id])
		}
	}
	if len(wanted) == 0 && strings.Contains(string(body), "SnapshotId") {
		refuseEC2(w, "InvalidSnapshot.NotFound", "The snapshot does not exist.")
		return
	}
	if op == "DeleteSnapshot" {
		delete(f.snaps, wanted[0].id)
		fmt.Fprint(w, `<DeleteSnapshotResponse><return>true</return></DeleteSnapshotResponse>`)
		return
	}
	fmt.Fprint(w, `<DescribeSnapshotsResponse><snapshotSet>`)
	for _, s := range wanted {
		fmt.Fprintf(w, `<item><snapshotId>%s</snapshotId><status>%s</status><statusMessage>%s</statusMessage><volumeSize>%d</volumeSize><startTime>%s</startTime>`,
			s.id, s.state, s.message, s.volumeSize, s.started.UTC().Format("2006-01-02T15:04:05.000Z"))
		if s.state == "completed" {
			fmt.Fprintf(w, `<fullSnapshotSizeInBytes>%d</fullSnapshotSizeInBytes>`, len(s.blocks)*block.Size)
		}
		fmt.Fprint(w, `<tagSet>`)
		for _, t := range s.tags {
			fmt.Fprintf(w, `<item><key>%s</key><value>%s</value></item>`, t.Key, t.Value)
		}
		fmt.Fprint(w, `</tagSet></item>`)
	}
	fmt.Fprint(w, `</snapshotSet></DescribeSnapshotsResponse>`)
}

func indexIn(r *http.Request) block.Index {
	parts := strings.Split(r.URL.Path, "/")
	n, _ := strconv.Atoi(parts[len(parts)-1])
	return block.Index(n)
}
