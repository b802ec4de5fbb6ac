package plain_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/block"
	"shale/internal/plain"
	"shale/internal/rest"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// An openAPI is what these tests look at of the document.
type openAPI struct {
	Paths map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Responses   map[string]struct {
			Content map[string]struct {
				Examples map[string]struct {
					Request exampleRequest  `json:"x-request"`
					Value   json.RawMessage `json:"value"`
				} `json:"examples"`
			} `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
}

type exampleRequest struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
	Block   string            `json:"block"` // a body of so many of the letter
}

func readOpenAPI(t *testing.T) openAPI {
	t.Helper()
	b, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc openAPI
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// The document has every route, under the operation's name, and no other.
// Spec: plain-json, What this dialect adds.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	var described []string
	for path, operations := range readOpenAPI(t).Paths {
		for method, o := range operations {
			if !slices.Contains([]string{"get", "head", "put", "post", "delete"}, method) {
				continue // what all operations of the path have
			}
			example := strings.NewReplacer("{id}", "snap-0", "{index}", "0").Replace(path)
			rt, err := rest.Plain.Match(httptest.NewRequest(strings.ToUpper(method), example, http.NoBody))
			if err != nil {
				t.Errorf("%s %s: %v", method, path, err)
				continue
			}
			name := rt.Op.String()
			if method == "head" {
				name = strings.Replace(name, "Get", "Head", 1)
			}
			if name != o.OperationID {
				t.Errorf("%s %s is called %s, and is %s", method, path, o.OperationID, name)
			}
			described = append(described, name)
		}
	}
	for o := rest.StartSnapshot; o.String() != "unknown"; o++ {
		if !slices.Contains(described, o.String()) {
			t.Errorf("%v is not described", o)
		}
	}
	if !slices.Contains(described, "HeadImage") {
		t.Error("HEAD of an image is not described")
	}
}

// What stands in the examples for what is another each time.
const (
	exampleID        = "snap-0123456789abcdef0"
	exampleChild     = "snap-0fedcba9876543210"
	examplePending   = "snap-00000000000000001"
	exampleDeleted   = "snap-00000000000000002"
	exampleSealed    = "snap-00000000000000003"
	exampleTagged    = "snap-00000000000000004"
	exampleLocked    = "snap-00000000000000005"
	exampleGone      = "snap-0999999999999999f"
	exampleToken     = "AlMBexampleBlockToken"
	exampleRequestID = "49d7e0de-d1a7-4c17-8dbd-32d924b40643"
)

// An exampleServer has the snapshots that the examples are about.
type exampleServer struct {
	*httptest.Server
	real  map[string]string // by what stands in the examples
	start time.Time
}

func newExampleServer(t *testing.T) *exampleServer {
	t.Helper()
	e := snapshottest.New(t)
	h := plain.New(e.Service)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Requestid", exampleRequestID)
		if err := h.Serve(w, r, snapshottest.Caller, nil); err != nil {
			io.CopyN(io.Discard, r.Body, block.Size)
			h.Refuse(w, r, err)
		}
	}))
	t.Cleanup(server.Close)
	s := &exampleServer{server, map[string]string{exampleGone: exampleGone}, e.Clock.Now()}
	start := func(name string, change func(*snapshot.StartRequest)) {
		t.Helper()
		req := snapshot.StartRequest{VolumeSize: new(int64(1))}
		if change != nil {
			change(&req)
		}
		made, err := e.Service.Start(t.Context(), snapshottest.Caller, req)
		if err != nil {
			t.Fatal(err)
		}
		s.real[name] = made.ID
		e.Clock.Advance(time.Millisecond) // or lists would be in any order
	}
	put := func(name string, index int64, letter byte) {
		t.Helper()
		if _, err := e.Service.PutBlock(t.Context(), snapshottest.Caller, snapshot.PutBlockRequest{
			SnapshotID: s.real[name], Index: index, ChecksumOptional: true, Body: bytes.NewReader(bytes.Repeat([]byte{letter}, block.Size)),
		}); err != nil {
			t.Fatal(err)
		}
	}
	complete := func(name string, count int64) {
		t.Helper()
		if _, err := e.Service.Complete(t.Context(), snapshottest.Caller, snapshot.CompleteRequest{SnapshotID: s.real[name], ChangedBlocks: &count}); err != nil {
			t.Fatal(err)
		}
		if err := e.Service.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	start(exampleID, func(r *snapshot.StartRequest) {
		r.Description, r.Tags = new("the root disk"), []snapshot.Tag{{Key: "env", Value: "prod"}}
	})
	put(exampleID, 0, 'A')
	put(exampleID, 1, 0)
	put(exampleID, 2, 'B')
	complete(exampleID, 3)
	start(exampleChild, func(r *snapshot.StartRequest) { r.ParentSnapshotID = new(s.real[exampleID]) })
	put(exampleChild, 2, 0)
	put(exampleChild, 9, 'C')
	complete(exampleChild, 2)
	start(examplePending, nil)
	put(examplePending, 0, 'A')
	start(exampleDeleted, nil)
	start(exampleSealed, nil)
	start(exampleTagged, func(r *snapshot.StartRequest) {
		r.Tags = []snapshot.Tag{{Key: "env", Value: "test"}, {Key: "owner", Value: "me"}}
	})
	start(exampleLocked, nil)
	if _, err := e.Service.Lock(t.Context(), snapshottest.Caller, snapshot.LockRequest{
		SnapshotID: s.real[exampleLocked], Days: new(int64(1)),
	}); err != nil {
		t.Fatal(err)
	}
	start("bound", func(r *snapshot.StartRequest) { r.ClientToken = new("2024-12-31") })
	if err := e.Service.CountUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, err := e.Service.ListBlocks(t.Context(), snapshottest.Caller, snapshot.ListBlocksRequest{SnapshotID: s.real[exampleID]})
	if err != nil {
		t.Fatal(err)
	}
	s.real[exampleToken] = page.Blocks[0].Token
	return s
}

// send sends an example's request and gives the answer's body with what stands
// in the examples put for what is another each time.
func (s *exampleServer) send(t *testing.T, q exampleRequest) (*http.Response, string) {
	t.Helper()
	toReal := func(text string) string {
		for example, real := range s.real {
			text = strings.ReplaceAll(text, example, real)
		}
		return text
	}
	body := toReal(string(q.Body))
	if q.Block != "" {
		body = strings.Repeat(q.Block, block.Size)
	}
	r, err := http.NewRequestWithContext(t.Context(), q.Method, s.URL+toReal(q.Path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range q.Headers {
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for example, real := range s.real {
		text = strings.ReplaceAll(text, real, example)
	}
	const form = "2006-01-02T15:04:05" // and some milliseconds
	text = milliseconds.ReplaceAllString(text, "${1}")
	text = strings.ReplaceAll(text, s.start.Format(form), "2025-01-01T00:00:00.000Z")
	text = strings.ReplaceAll(text, s.start.Add(7*24*time.Hour).Format(form), "2025-01-08T00:00:00.000Z")
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.example)
	}
	text = someID.ReplaceAllStringFunc(text, func(id string) string {
		if _, known := s.real[id]; known {
			return id
		}
		return examplePending // which has just been made
	})
	return answer, text
}

var milliseconds = regexp.MustCompile(`(T[0-9:]{8})\.[0-9]{3}Z`)

var someID = regexp.MustCompile(`snap-0[0-9a-f]{16}`)

var volatile = []struct {
	pattern *regexp.Regexp
	example string
}{
	{regexp.MustCompile(`(block_token":")[^"]+`), "${1}" + exampleToken},
	{regexp.MustCompile(`(next_cursor":")[^"]+`), "${1}AlMCexamplePageToken"},
	{regexp.MustCompile(`(root":")[0-9a-f]{64}`), "${1}" + strings.Repeat("f", 63) + "0"},
}

// Every example of an answer is what its request gets from a real server.
func TestOpenAPIExamples(t *testing.T) {
	played := 0
	for path, operations := range readOpenAPI(t).Paths {
		for method, o := range operations {
			for status, response := range o.Responses {
				for contentType, content := range response.Content {
					for name, example := range content.Examples {
						played++
						t.Run(o.OperationID+"/"+status+"/"+name, func(t *testing.T) {
							q := example.Request
							if !strings.EqualFold(q.Method, method) {
								t.Fatalf("the example of %s %s sends %s", method, path, q.Method)
							}
							answer, body := newExampleServer(t).send(t, q)
							if got := strconv.Itoa(answer.StatusCode); got != status || answer.Header.Get("Content-Type") != contentType {
								t.Fatalf("got %s %s, want %s %s: %.500s", got, answer.Header.Get("Content-Type"), status, contentType, body)
							}
							compareExample(t, contentType, example.Value, body)
						})
					}
				}
			}
		}
	}
	if played < 40 {
		t.Errorf("%d examples were found", played)
	}
}

func compareExample(t *testing.T, contentType string, value json.RawMessage, body string) {
	t.Helper()
	if value == nil { // a block of the letter
		if body != strings.Repeat("A", block.Size) {
			t.Errorf("the body has %d other bytes", len(body))
		}
		return
	}
	var want, got any
	if contentType != "application/json" {
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		if want != body {
			t.Errorf("got %q, want %q", body, want)
		}
		return
	}
	if err := json.Unmarshal(value, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-example +got):\n%s", d)
	}
}
