package quota_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shale/internal/quota"
)

func parse(t *testing.T, settings ...string) quota.Config {
	t.Helper()
	c, err := quota.Parse(settings)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// AWS's quotas are those of the table. Spec: ebs-direct §10.
func TestAWS(t *testing.T) {
	c := parse(t, "aws")
	want := map[quota.Name]int64{
		quota.StartRate: 10, quota.CompleteRate: 10, quota.PutRate: 1000, quota.PutRatePerSnapshot: 1000, quota.GetRate: 1000,
		quota.GetRatePerSnapshot: 1000, quota.ListRate: 50, quota.ListChangedRate: 50, quota.EC2Rate: 0, quota.KMSRate: 0,
		quota.IAMRate: 0, quota.Pending: 100, quota.Snapshots: 100_000, quota.Copies: 20,
	}
	for _, n := range quota.Names() {
		limit, known := want[n]
		if got := c.Limit(n, "eu-central-1"); !known || got != limit {
			t.Errorf("%v is %d, want %d", n, got, limit)
		}
	}
	for _, region := range []string{"us-east-1", "us-east-2", "us-west-2", "eu-west-1", "ap-southeast-1"} {
		for _, n := range []quota.Name{quota.PutRate, quota.GetRate} {
			if got := c.Limit(n, region); got != 5000 {
				t.Errorf("%v in %s is %d, want 5000", n, region, got)
			}
		}
		if got := c.Limit(quota.PutRatePerSnapshot, region); got != 1000 {
			t.Errorf("%v in %s is %d, want 1000", quota.PutRatePerSnapshot, region, got)
		}
	}
}

// Nothing is limited unless it is asked for, but copies.
func TestDefaults(t *testing.T) {
	var c quota.Config
	for _, n := range quota.Names() {
		want := int64(0)
		if n == quota.Copies {
			want = 20
		}
		if got := c.Limit(n, "us-east-1"); got != want {
			t.Errorf("%v is %d, want %d", n, got, want)
		}
	}
}

func TestNameWinsOverAWS(t *testing.T) {
	for _, settings := range [][]string{{"aws", "put-block-rate=7"}, {"put-block-rate=7", "aws"}} {
		c := parse(t, settings...)
		if got := c.Limit(quota.PutRate, "us-east-1"); got != 7 {
			t.Errorf("%q: %d, want 7", settings, got)
		}
		if got := c.Limit(quota.GetRate, "us-east-1"); got != 5000 {
			t.Errorf("%q: others are %d, want 5000", settings, got)
		}
	}
}

// Each name can be set, and is in the help.
func TestNames(t *testing.T) {
	for _, n := range quota.Names() {
		c := parse(t, n.String()+"=3")
		if got := c.Limit(n, "us-east-1"); got != 3 {
			t.Errorf("%v=3 gives %d", n, got)
		}
		if !strings.Contains(quota.Help(), "    "+n.String()+" ") {
			t.Errorf("the help does not have %v", n)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for setting, want := range map[string]string{
		"":                               "neither aws nor NAME=N",
		"AWS":                            "neither aws nor NAME=N",
		"snapshots":                      "start-snapshot-rate, complete-snapshot-rate",
		"snapshot=3":                     `"snapshot" is the name of no quota; those are start-snapshot-rate`,
		"Snapshots=3":                    "is the name of no quota",
		"=3":                             "is the name of no quota",
		"snapshots=":                     "not a number from 1 to 1000000000",
		"snapshots=0":                    "not a number",
		"snapshots=-1":                   "not a number",
		"snapshots=1.5":                  "not a number",
		"snapshots=1000000001":           "not a number",
		"snapshots=10 ":                  "not a number",
		"snapshots=1=2":                  "not a number",
		"snapshots=99999999999999999999": "not a number",
	} {
		if _, err := quota.Parse([]string{setting}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", setting, err, want)
		}
	}
	if _, err := quota.Parse([]string{"copies=1", "aws", "copies=1"}); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("twice: got %v", err)
	}
}

// A clock that is moved by hand.
type clock struct{ now atomic.Pointer[time.Time] }

func newClock() *clock {
	var c clock
	c.set(time.Date(2026, 9, 25, 12, 0, 0, 0, time.UTC))
	return &c
}

func (c *clock) set(t time.Time)         { c.now.Store(&t) }
func (c *clock) Now() time.Time          { return *c.now.Load() }
func (c *clock) advance(d time.Duration) { c.set(c.Now().Add(d)) }

// drain takes until nothing is left and says how many there were, at most most.
func drain(q *quota.Quotas, n quota.Name, region, of string, most int) (taken int) {
	for taken < most && q.Take(n, region, of) {
		taken++
	}
	return taken
}

func TestTake(t *testing.T) {
	c := newClock()
	q := quota.New(parse(t, "put-block-rate=5", "get-block-rate-per-snapshot=2"), c.Now)
	if got := drain(q, quota.PutRate, "us-east-1", "a", 100); got != 5 {
		t.Errorf("at once: %d, want 5", got)
	}
	for of, region := range map[string]string{"b": "us-east-1", "a": "eu-west-1"} {
		if got := drain(q, quota.PutRate, region, of, 100); got != 5 {
			t.Errorf("of %s in %s: %d, want 5", of, region, got)
		}
	}
	if got := drain(q, quota.GetRate, "us-east-1", "a", 100); got != 100 {
		t.Errorf("of what is not limited: %d, want 100", got)
	}
	if got := drain(q, quota.GetRatePerSnapshot, "us-east-1", "a", 100); got != 2 {
		t.Errorf("of another rate: %d, want 2", got)
	}
	c.advance(400 * time.Millisecond)
	if got := drain(q, quota.PutRate, "us-east-1", "a", 100); got != 2 {
		t.Errorf("after 0.4 s: %d, want 2", got)
	}
	c.advance(time.Hour)
	if got := drain(q, quota.PutRate, "us-east-1", "a", 100); got != 5 {
		t.Errorf("after an hour: %d, want 5", got)
	}
}

// Of many that take at once as many get something as there is.
func TestTakeTogether(t *testing.T) {
	q := quota.New(parse(t, "put-block-rate=100"), newClock().Now)
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { taken.Add(int64(drain(q, quota.PutRate, "us-east-1", "a", 1000))) })
	}
	all.Wait()
	if taken.Load() != 100 {
		t.Errorf("%d were taken, want 100", taken.Load())
	}
}

// A bucket that is asked for all the time is kept, however many others there
// are besides.
func TestManyBuckets(t *testing.T) {
	q := quota.New(parse(t, "put-block-rate=50", "put-block-rate-per-snapshot=1"), newClock().Now)
	taken := 0
	for i := range 40_000 {
		q.Take(quota.PutRatePerSnapshot, "us-east-1", fmt.Sprintf("snap-%d", i))
		if q.Take(quota.PutRate, "us-east-1", "a") {
			taken++
		}
	}
	if taken != 50 {
		t.Errorf("%d were taken, want 50", taken)
	}
}

func BenchmarkTake(b *testing.B) {
	c, err := quota.Parse([]string{"put-block-rate=1000000000"})
	if err != nil {
		b.Fatal(err)
	}
	q := quota.New(c, time.Now)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			q.Take(quota.PutRate, "us-east-1", "111122223333")
		}
	})
}
