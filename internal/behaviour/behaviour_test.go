package behaviour_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/behaviour"
	"shale/internal/rest"
)

// vocabulary is a small one: every operation can fail as Oops, and only
// PutSnapshotBlock as Full.
var vocabulary = &behaviour.Vocabulary{
	Operations: map[string]string{
		"StartSnapshot": "StartSnapshot", "PutSnapshotBlock": "PutSnapshotBlock", "CompleteSnapshot": "CompleteSnapshot",
		"ListSnapshotBlocks": "ListSnapshotBlocks", "ListChangedBlocks": "ListChangedBlocks", "GetSnapshotBlock": "GetSnapshotBlock",
		"ec2:DeleteSnapshot": "ec2:DeleteSnapshot", "DeleteSnapshot": "ec2:DeleteSnapshot", "ec2:DescribeSnapshots": "ec2:DescribeSnapshots",
		"kms:Decrypt": "kms:Decrypt",
	},
	HasError: func(op, name string) bool {
		return name == "Oops" || name == "Full" && op == "PutSnapshotBlock" || standard[name]
	},
}

// standard are the errors that presets name.
var standard = map[string]bool{
	"ThrottlingException": true, "RequestThrottledException": true, "InternalServerException": true,
	"RequestLimitExceeded": true, "Unavailable": true, "ConcurrentLimitExceededException": true,
}

func parse(t *testing.T, text string) *behaviour.Rules {
	t.Helper()
	r, err := behaviour.Parse([]byte(text), vocabulary)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

// request is a PutSnapshotBlock to snap-1 of an account.
func request(change func(*behaviour.Request)) *behaviour.Request {
	q := &behaviour.Request{Operation: "PutSnapshotBlock", Account: "111122223333", Snapshot: "snap-1", Now: time.Unix(0, 0)}
	q.Tells = func(string) bool { return true }
	if change != nil {
		change(q)
	}
	q.Names = func(id string) bool { return id == q.Snapshot }
	return q
}

// strikes tells which of the first n requests are struck.
func strikes(r *behaviour.Rules, n int) (struck []int) {
	for i := range n {
		if _, ok := r.Strike(request(nil)); ok {
			struck = append(struck, i+1)
		}
	}
	return struck
}

func TestWhen(t *testing.T) {
	for when, want := range map[string][]int{
		`{"first": 3}`:            {1, 2, 3},
		`{"every": 4}`:            {4, 8, 12},
		`{"after": 9}`:            {10, 11, 12},
		`{"every": 1}`:            {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		`{"probability": 1}`:      {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		`{"over_per_second": 10}`: {11, 12},
	} {
		r := parse(t, `{"rules": [{"operation": "PutSnapshotBlock", "when": `+when+`, "effect": {"delay_ms": 1}}]}`)
		if d := cmp.Diff(want, strikes(r, 12)); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
		if got := r.Counts()[0].Struck; got != int64(len(want)) {
			t.Errorf("%s: struck %d, want %d", when, got, len(want))
		}
	}
}

// What is struck at so many pending snapshots depends on how many there are.
func TestOverPending(t *testing.T) {
	r := parse(t, `{"rules": [{"operation": "StartSnapshot", "when": {"over_pending": 3}, "effect": {"error": "Oops"}}]}`)
	for n, want := range map[int64]bool{0: false, 2: false, 3: true, 4: true} {
		_, struck := r.Strike(request(func(q *behaviour.Request) {
			q.Operation, q.Pending = "StartSnapshot", func() int64 { return n }
		}))
		if struck != want {
			t.Errorf("at %d pending snapshots: %v", n, struck)
		}
	}
}

// The seed alone decides which requests a probability strikes.
func TestProbability(t *testing.T) {
	of := func(seed int) []int {
		return strikes(parse(t, fmt.Sprintf(`{"rules": [{"operation": "*", "when": {"probability": 0.05, "seed": %d}, "effect": {"error": "Oops"}}]}`, seed)), 10_000)
	}
	seven := of(7)
	if !slices.Equal(seven, of(7)) || slices.Equal(seven, of(8)) {
		t.Error("the strikes do not follow from the seed")
	}
	if n := len(seven); n < 400 || n > 600 {
		t.Errorf("%d of 10,000 were struck at 0.05", n)
	}
}

func TestRate(t *testing.T) {
	r := parse(t, `{"rules": [{"operation": "*", "when": {"over_per_second": 2, "each": "snapshot"}, "effect": {"error": "Oops"}}]}`)
	at := func(ms int64, snapshot string) bool {
		_, struck := r.Strike(request(func(q *behaviour.Request) { q.Snapshot, q.Now = snapshot, time.UnixMilli(ms) }))
		return struck
	}
	for i, tt := range []struct {
		ms       int64
		snapshot string
		struck   bool
	}{
		{0, "snap-1", false},
		{0, "snap-1", false},
		{0, "snap-1", true},
		{0, "snap-2", false},
		{500, "snap-1", false},
		{500, "snap-1", true},
		{2000, "snap-1", false},
		{2000, "snap-1", false},
		{2000, "snap-1", true},
	} {
		if got := at(tt.ms, tt.snapshot); got != tt.struck {
			t.Errorf("request %d: struck %v", i+1, got)
		}
	}
}

// The first rule that matches strikes, and the others do not count the request.
func TestMatch(t *testing.T) {
	r := parse(t, `{"rules": [
		{"operation": "PutSnapshotBlock", "account": "444455556666", "effect": {"delay_ms": 1}},
		{"operation": "PutSnapshotBlock", "snapshot": "snap-2", "effect": {"delay_ms": 2}},
		{"operation": "PutSnapshotBlock", "when": {"every": 2}, "effect": {"error": "Full"}},
		{"operation": "*", "when": {"first": 1}, "effect": {"lag_ms": 4}},
		{"operation": "*", "when": {"every": 2}, "effect": {"silent_ms": 5}},
		{"operation": "DeleteSnapshot", "effect": {"error": "Oops"}}]}`)
	for i, tt := range []struct {
		change func(*behaviour.Request)
		rule   int // 0 for none
	}{
		{nil, 0},
		{nil, 3},
		{func(q *behaviour.Request) { q.Account = "444455556666" }, 1},
		{func(q *behaviour.Request) { q.Snapshot = "snap-2" }, 2},
		{nil, 5},
		{nil, 3},
		{func(q *behaviour.Request) { q.Operation = "StartSnapshot" }, 4}, // a lag is for this one
		{func(q *behaviour.Request) { q.Operation = "ec2:DeleteSnapshot" }, 6},
		{func(q *behaviour.Request) { q.Tells = func(string) bool { return false } }, 5}, // rule 3 cannot
	} {
		got, struck := r.Strike(request(tt.change))
		if struck != (tt.rule > 0) || struck && got.Number != tt.rule {
			t.Errorf("request %d: rule %d, %v, want rule %d", i+1, got.Number, struck, tt.rule)
		}
	}
	var counts []int64
	for _, c := range r.Counts() {
		counts = append(counts, c.Struck)
	}
	if d := cmp.Diff([]int64{1, 1, 2, 1, 2, 1}, counts); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
}

func TestConcurrent(t *testing.T) {
	r := parse(t, `{"rules": [{"operation": "*", "when": {"every": 3}, "effect": {"delay_ms": 1}}, {"operation": "*", "when": {"over_per_second": 1}, "effect": {"delay_ms": 1}}]}`)
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 300 {
				r.Strike(request(nil))
			}
		})
	}
	g.Wait()
	if c := r.Counts(); c[0].Struck != 800 || c[1].Struck != 1599 {
		t.Errorf("got %v", c)
	}
}

func TestRefused(t *testing.T) {
	rule := func(text string) string { return `{"rules": [` + text + `]}` }
	with := func(members string) string {
		return rule(`{"operation": "PutSnapshotBlock", "effect": {"delay_ms": 1}, ` + members + `}`)
	}
	effect := func(text string) string { return rule(`{"operation": "PutSnapshotBlock", "effect": ` + text + `}`) }
	when := func(text string) string { return with(`"when": ` + text) }
	for text, member := range map[string]string{
		`{}`:                                 "",
		`{"preset": "hostile", "rules": []}`: "",
		`{"rulez": []}`:                      "",
		`{"preset": "gentle"}`:               "preset",
		`{"preset": 1}`:                      "preset",
		`{"preset": null}`:                   "preset",
		`{"rules": {}}`:                      "rules",
		`{"rules": null}`:                    "rules",
		rule(`1`):                            "rules.0",
		rule(`{"effect": {"delay_ms": 1}}`):  "rules.0.operation",
		rule(`{"operation": "PutBlock", "effect": {"delay_ms": 1}}`):                            "rules.0.operation",
		rule(`{"operation": "putsnapshotblock", "effect": {"delay_ms": 1}}`):                    "rules.0.operation",
		rule(`{"operation": 1, "effect": {"delay_ms": 1}}`):                                     "rules.0.operation",
		rule(`{"operation": "PutSnapshotBlock"}`):                                               "rules.0.effect",
		with(`"wen": {"first": 1}`):                                                             "rules.0",
		with(`"snapshot": "vol-1"`):                                                             "rules.0.snapshot",
		with(`"snapshot": ""`):                                                                  "rules.0.snapshot",
		with(`"snapshot": "snap-` + strings.Repeat("0", 60) + `"`):                              "rules.0.snapshot",
		with(`"account": "1"`):                                                                  "rules.0.account",
		with(`"account": 111122223333`):                                                         "rules.0.account",
		rule(`{"operation": "StartSnapshot", "snapshot": "snap-1", "effect": {"delay_ms": 1}}`): "rules.0.snapshot",
		rule(`{"operation": "kms:Decrypt", "snapshot": "snap-1", "effect": {"delay_ms": 1}}`):   "rules.0.snapshot",
		when(`{}`):                                 "rules.0.when",
		when(`null`):                               "rules.0.when",
		when(`3`):                                  "rules.0.when",
		when(`{"first": 1, "every": 2}`):           "rules.0.when",
		when(`{"last": 1}`):                        "rules.0.when",
		when(`{"first": 1, "seed": 2}`):            "rules.0.when",
		when(`{"seed": 2}`):                        "rules.0.when",
		when(`{"first": 0}`):                       "rules.0.when.first",
		when(`{"first": 1.5}`):                     "rules.0.when.first",
		when(`{"first": "1"}`):                     "rules.0.when.first",
		when(`{"every": 0}`):                       "rules.0.when.every",
		when(`{"every": 1000000001}`):              "rules.0.when.every",
		when(`{"after": -1}`):                      "rules.0.when.after",
		when(`{"probability": 0}`):                 "rules.0.when.probability",
		when(`{"probability": 1.1}`):               "rules.0.when.probability",
		when(`{"probability": "0.5"}`):             "rules.0.when.probability",
		when(`{"probability": 0.5, "seed": -1}`):   "rules.0.when.seed",
		when(`{"over_pending": 1}`):                "rules.0.operation",
		when(`{"over_per_second": 0}`):             "rules.0.when.over_per_second",
		when(`{"over_per_second": 1, "each": 2}`):  "rules.0.when.each",
		effect(`{}`):                               "rules.0.effect",
		effect(`"delay"`):                          "rules.0.effect",
		effect(`{"delay_ms": 1, "corrupt": true}`): "rules.0.effect",
		effect(`{"explode": true}`):                "rules.0.effect",
		effect(`{"Delay_ms": 1}`):                  "rules.0.effect",
		effect(`{"delay_ms": 0}`):                  "rules.0.effect.delay_ms",
		effect(`{"delay_ms": 3600001}`):            "rules.0.effect.delay_ms",
		effect(`{"silent_ms": -1}`):                "rules.0.effect.silent_ms",
		effect(`{"error": "Nope"}`):                "rules.0.effect.error",
		effect(`{"error": ""}`):                    "rules.0.effect.error",
		effect(`{"error": 400}`):                   "rules.0.effect.error",
		effect(`{"cut": "both"}`):                  "rules.0.effect.cut",
		effect(`{"lag_ms": 5}`):                    "rules.0.operation",
		effect(`{"complete_as": "error"}`):         "rules.0.operation",
		effect(`{"page": "short"}`):                "rules.0.operation",
		effect(`{"token_life_s": 1}`):              "rules.0.operation",
		effect(`{"corrupt": true}`):                "rules.0.operation",
		rule(`{"operation": "GetSnapshotBlock", "effect": {"corrupt": false}}`):           "rules.0.effect.corrupt",
		rule(`{"operation": "GetSnapshotBlock", "effect": {"error": "Full"}}`):            "rules.0.effect.error",
		rule(`{"operation": "CompleteSnapshot", "effect": {"complete_as": "pending"}}`):   "rules.0.effect.complete_as",
		rule(`{"operation": "CompleteSnapshot", "effect": {"lag_ms": 86400001}}`):         "rules.0.effect.lag_ms",
		rule(`{"operation": "ListSnapshotBlocks", "effect": {"page": "long"}}`):           "rules.0.effect.page",
		rule(`{"operation": "ListSnapshotBlocks", "effect": {"token_life_s": 604801}}`):   "rules.0.effect.token_life_s",
		rule(strings.Repeat(`{"operation": "*", "effect": {"delay_ms": 1}},`, 100) + `1`): "rules",
	} {
		_, err := behaviour.Parse([]byte(text), vocabulary)
		if e, ok := errors.AsType[*behaviour.Error](err); !ok || e.Member != member {
			t.Errorf("%.120s: got %v, want a complaint about %q", text, err, member)
		}
	}
	for _, text := range []string{
		``, `[]`, `null`, `{"rules": [}`, `{"rules": [], "rules": []}`, `{"rules": []} x`, "{\"rules\": [], \"\xff\": 1}",
		rule(`{"operation": "*", "effect": {"delay_ms": 1, "delay_ms": 2}}`),
	} {
		_, err := behaviour.Parse([]byte(text), vocabulary)
		if _, ok := errors.AsType[*rest.Error](err); !ok {
			t.Errorf("%s: got %v, want a *rest.Error", text, err)
		}
	}
}

// Who misspells an operation is told of all kinds that there are.
func TestRefusedOperation(t *testing.T) {
	for _, name := range []string{"PutBlock", "iam:MakeUser", "sts:", "s3:GetObject"} {
		_, err := behaviour.Parse(fmt.Appendf(nil, `{"rules": [{"operation": %q, "effect": {"delay_ms": 1}}]}`, name), vocabulary)
		want := fmt.Sprintf(`rules.0.operation must be an operation of the EBS direct APIs, "ec2:…", "kms:…", "iam:…", "sts:…" or "*"; it was %q`, name)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// What a rule's members are, Counts shows; no rules are rules, too.
func TestAccepted(t *testing.T) {
	r := parse(t, `{"rules": [{"operation": "ListChangedBlocks", "snapshot": "snap-0a", "account": "111122223333",
		"when": {"probability": 0.5, "seed": 7}, "effect": {"page": "empty"}}]}`)
	want := []behaviour.Count{{Rule: behaviour.Rule{
		Operation: "ListChangedBlocks", Snapshot: "snap-0a", Account: "111122223333",
		When: &behaviour.When{Probability: 0.5, Seed: 7}, Effect: behaviour.Effect{Page: "empty"},
	}}}
	if d := cmp.Diff(want, r.Counts()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := len(parse(t, `{"rules": []}`).Counts()); n != 0 {
		t.Errorf("%d rules", n)
	}
}

// The presets are rules as anybody could write them. Of the effects "hostile"
// has all but those that no client gets over.
func TestPresets(t *testing.T) {
	for _, preset := range []string{"aws-like", "hostile"} {
		r := parse(t, `{"preset": "`+preset+`"}`)
		if r.Preset != preset || len(r.Counts()) == 0 {
			t.Errorf("%s: %d rules of %q", preset, len(r.Counts()), r.Preset)
		}
	}
	var sum behaviour.Effect
	cuts := map[string]bool{}
	for _, c := range parse(t, `{"preset": "hostile"}`).Counts() {
		e := c.Effect
		cuts[e.Cut], cuts[e.Page] = true, true
		sum.DelayMS += e.DelayMS
		sum.Error += e.Error
		sum.SilentMS += e.SilentMS
		sum.LagMS += e.LagMS
		sum.TokenLifeS += e.TokenLifeS
		if e.Corrupt || e.CompleteAs != "" {
			t.Errorf("hostile has %+v", e)
		}
	}
	if sum.DelayMS == 0 || sum.Error == "" || sum.SilentMS == 0 || sum.LagMS == 0 || sum.TokenLifeS == 0 || len(cuts) != 5 {
		t.Errorf("hostile lacks an effect: %+v %v", sum, cuts)
	}
}

// Whatever is sent, it is refused as a *Error or *rest.Error, or becomes rules
// that can be asked.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"preset": "hostile"}`, `{"rules": []}`,
		`{"rules": [{"operation": "*", "snapshot": "snap-1", "account": "111122223333", "when": {"first": 3}, "effect": {"error": "Oops"}}]}`,
		`{"rules": [{"operation": "PutSnapshotBlock", "when": {"probability": 0.05, "seed": 7}, "effect": {"cut": "request"}}]}`,
		`{"rules": [{"operation": "ListSnapshotBlocks", "when": {"over_per_second": 5, "each": "snapshot"}, "effect": {"page": "short"}}]}`,
		`{"rules": [{"operation": "GetSnapshotBlock", "when": {"every": 1e3}, "effect": {"corrupt": true}}, null]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := behaviour.Parse(text, vocabulary)
		if err != nil {
			_, ours := errors.AsType[*behaviour.Error](err)
			_, general := errors.AsType[*rest.Error](err)
			if !ours && !general {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		for range 3 {
			if s, struck := r.Strike(request(nil)); struck && (s.Number < 1 || s.Number > len(r.Counts())) {
				t.Fatalf("rule %d of %d", s.Number, len(r.Counts()))
			}
		}
	})
}
