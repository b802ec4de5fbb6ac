// Package resttest runs wire goldens: scripts in testdata/*.txtar that send
// requests to a door over the real service and compare what comes back, byte
// for byte. Only the caller is given; how requests are authenticated is tested
// where that is done.
//
// The first line of a script names the section of the specification that it
// shows. Sections named setup, request and response follow in any number and
// are played in order, against one fresh service.
//
// A setup has one command in a line; see setup.go. A request is a request line
// without a version, headers, an empty line and a body; Host and Content-Length
// are added unless they are there. Two headers are not for the door: Caller is
// the account that calls, Signed-Digest the letter of the block whose digest
// the signature is to cover. A response is a status, all headers but Date,
// Content-Length and x-amzn-RequestId in alphabetical order, an empty line and
// the body. Newlines at the end of a section belong to the script.
//
// In requests and responses {{…}} stands for something else: see template.go.
package resttest

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shale/internal/block"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// A Door is what is tested.
type Door interface {
	Serve(w http.ResponseWriter, r *http.Request, c snapshot.Caller, signed *block.Digest) error
	Refuse(w http.ResponseWriter, r *http.Request, err error)
}

var sourceLine = regexp.MustCompile(`^(ebs-direct|ec2-snapshots) §\d.*: |^plain-json, .*: |^(kms|iam|sts), .*: `)

// Run plays every script of the folder testdata against a door of its own.
func Run(t *testing.T, newDoor func(*snapshot.Service) Door) {
	t.Helper()
	RunEnv(t, func(_ *testing.T, e *snapshottest.Env) Door { return newDoor(e.Service) })
}

// RunEnv is Run for doors over more than the service.
func RunEnv(t *testing.T, newDoor func(*testing.T, *snapshottest.Env) Door) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			play(t, string(b), newDoor)
		})
	}
}

// marker begins a section. The format is that of txtar.
var marker = regexp.MustCompile(`(?m)^-- (\w+) --\n`)

func play(t *testing.T, script string, newDoor func(*testing.T, *snapshottest.Env) Door) {
	if !sourceLine.MatchString(script) {
		t.Fatal("the first line does not name its specification")
	}
	env := snapshottest.New(t)
	p := &player{t: t, env: env, vars: vars{"request-id": requestID, "crlf": "\r\n", "lf": "\n"}, newDoor: newDoor, server: serve(t, newDoor(t, env))}
	markers := marker.FindAllStringSubmatchIndex(script, -1)
	for i, m := range markers {
		end := len(script)
		if i+1 < len(markers) {
			end = markers[i+1][0]
		}
		name, text := script[m[2]:m[3]], script[m[1]:end]
		p.line = 1 + strings.Count(script[:m[0]], "\n")
		switch name {
		case "setup":
			for line := range strings.Lines(text) {
				p.setup(strings.TrimSpace(line))
			}
		case "request":
			p.request(text)
		case "response":
			p.response(text)
		default:
			t.Fatalf("line %d: there is no section %s", p.line, name)
		}
	}
	if p.answer != "" {
		t.Error("the last request has no response")
	}
}

// A player is one script being played.
type player struct {
	t       *testing.T
	env     *snapshottest.Env
	newDoor func(*testing.T, *snapshottest.Env) Door
	server  string // host and port
	vars    vars
	line    int    // where the section begins, from 1
	answer  string // to the last request, until it has been compared
}
