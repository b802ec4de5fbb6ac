package test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"shale/shaletest"
)

// The snippets of docs/testing-your-tool.md are run as they stand there.
const testingDoc = "../docs/testing-your-tool.md"

func TestThrottled(t *testing.T) {
	s := shaletest.Start(t)
	s.SetBehaviour(`{"rules": [{"operation": "StartSnapshot", "when": {"first": 2}, "effect": {"error": "RequestThrottledException"}}]}`)
	client := ebs.NewFromConfig(s.AWSConfig())
	if _, err := client.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}); err != nil {
		t.Fatal(err) // it did not try a third time
	}
	if got := s.Struck(); got[0] != 2 {
		t.Errorf("the rule struck %d times", got[0])
	}
	s.Advance(2 * time.Hour) // the snapshot times out
}

// snippets gives the blocks of code of the document in the language.
func snippets(t *testing.T, language string) (blocks []string) {
	t.Helper()
	rest := string(readFile(t, testingDoc))
	for {
		_, after, found := strings.Cut(rest, "```"+language+"\n")
		if !found {
			if blocks == nil {
				t.Fatalf("the document has no code in %s", language)
			}
			return blocks
		}
		var block string
		block, rest, _ = strings.Cut(after, "```\n")
		blocks = append(blocks, block)
	}
}

// TestThrottled above, and its like in Python, are what the document shows.
func TestDocumentedCode(t *testing.T) {
	for language, file := range map[string]string{"go": "testing_doc_test.go", "python": "clients/test_testing_doc.py"} {
		text := string(readFile(t, file))
		for _, s := range snippets(t, language) {
			if !strings.Contains(text, s) {
				t.Errorf("%s has not what the document shows:\n%s", file, s)
			}
		}
	}
}

// The document's rules are rules.
func TestDocumentedRules(t *testing.T) {
	t.Parallel()
	s := shaletest.Start(t)
	rules, effects, whens := 0, 0, 0
	for line := range strings.Lines(string(readFile(t, testingDoc))) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		for i, code := range strings.Split(line, "`") {
			switch {
			case i%2 == 0 || !strings.HasPrefix(code, "{"):
			case strings.HasPrefix(code, `{"operation"`):
				rules++
				s.SetBehaviour(`{"rules": [` + code + `]}`)
			case strings.ContainsAny(code, "_") && !strings.Contains(code, "over_") || strings.Contains(code, "cut") || strings.Contains(code, "error") || strings.Contains(code, "page") || strings.Contains(code, "corrupt"):
				effects++
				s.SetBehaviour(`{"rules": [{"operation": "*", "effect": ` + code + `}]}`)
			default:
				whens++
				s.SetBehaviour(`{"rules": [{"operation": "StartSnapshot", "when": ` + code + `, "effect": {"delay_ms": 1}}]}`)
			}
		}
	}
	if rules != 5 || effects < 10 || whens != 6 {
		t.Errorf("found %d rules, %d effects, %d whens", rules, effects, whens)
	}
}

// freePort is a port that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// What the document has a shell do, and a job of GitHub's, starts a server that
// the environment afterwards leads to.
func TestDocumentedShell(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	path, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(bin, "shale")); err != nil {
		t.Fatal(err)
	}
	run := func(script string) {
		t.Helper()
		dir := t.TempDir()
		// Any free port in place of the one shown; the server is ended by its id.
		port := freePort(t)
		script = strings.ReplaceAll(script, "127.0.0.1:8484", "127.0.0.1:"+port) + `
[ -z "$GITHUB_ENV" ] || { set -a; . "$GITHUB_ENV"; set +a; }
timeout 10 sh -c 'until curl -fs http://127.0.0.1:` + port + `/readyz >/dev/null; do sleep 0.1; done'
env | grep '^AWS_' | sort
kill "$!"; wait "$!"`
		cmd := exec.CommandContext(t.Context(), "bash", "-ec", script)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "RUNNER_TEMP=" + dir}
		if strings.Contains(script, "RUNNER_TEMP") {
			cmd.Env = append(cmd.Env, "GITHUB_ENV="+filepath.Join(dir, "env"))
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "AWS_") {
			t.Errorf("%s\n%v\n%s", script, err, out)
		}
	}
	run(snippets(t, "sh")[0])
	_, step, found := strings.Cut(snippets(t, "yaml")[0], "run: |\n")
	if !found {
		t.Fatal("the job has no script")
	}
	step, _, _ = strings.Cut(step, "      - name")
	run(step)
}
