package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"shale/shaletest"
)

// A tester is a server that misbehaves, and clients of it.
type tester struct {
	*shaletest.Server
	t        *testing.T
	ebs      *ebs.Client // with the SDK's own retries
	once     *ebs.Client // without
	ec2      *ec2.Client
	uploader uploader
}

func newTester(t *testing.T, flags ...string) *tester {
	t.Helper()
	s := shaletest.Start(t, flags...)
	c := s.AWSConfig()
	never := c.Copy()
	never.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	x := &tester{Server: s, t: t, ebs: ebs.NewFromConfig(c), once: ebs.NewFromConfig(never), ec2: ec2.NewFromConfig(c)}
	x.uploader = uploader{ebs: x.ebs, ec2: x.ec2}
	return x
}

// block gives the bytes of the n-th block that tests write.
func testBlock(n int) []byte {
	return bytes.Repeat([]byte{byte(n), byte(n >> 8), 'x', 'y'}, blockSize/4)
}

// start begins a snapshot.
func (x *tester) start() string {
	x.t.Helper()
	s, err := x.ebs.StartSnapshot(x.t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		x.t.Fatal(err)
	}
	return *s.SnapshotId
}

// complete completes a snapshot with so many blocks and waits for it.
func (x *tester) complete(id string, blocks int) {
	x.t.Helper()
	if _, err := x.ebs.CompleteSnapshot(x.t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(int32(blocks))}); err != nil {
		x.t.Fatal(err)
	}
	if err := x.wait(id); err != nil {
		x.t.Fatal(err)
	}
}

func (x *tester) wait(id string) error {
	return ec2.NewSnapshotCompletedWaiter(x.ec2, func(o *ec2.SnapshotCompletedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 100*time.Millisecond
	}).Wait(x.t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}}, time.Minute)
}

// make makes a completed snapshot of so many blocks.
func (x *tester) make(blocks int) string {
	x.t.Helper()
	id := x.start()
	for i := range blocks {
		if err := putBlock(x.t.Context(), x.ebs, id, i, testBlock(i)); err != nil {
			x.t.Fatal(err)
		}
	}
	x.complete(id, blocks)
	return id
}

// whole checks that a snapshot has the blocks that make gives it.
func (x *tester) whole(id string, blocks int) {
	x.t.Helper()
	got := make([][]byte, blocks)
	n := 0
	var listed []int32
	for token := (*string)(nil); ; {
		page, err := x.ebs.ListSnapshotBlocks(x.t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id, NextToken: token, MaxResults: aws.Int32(100)})
		if err != nil {
			x.t.Fatal(err)
		}
		for _, b := range page.Blocks {
			listed = append(listed, *b.BlockIndex)
			if n++; n > blocks {
				x.t.Fatalf("%d blocks are listed, and more: %v", blocks, listed)
			}
			if got[*b.BlockIndex], err = getBlock(x.t.Context(), x.ebs, id, *b.BlockIndex, *b.BlockToken); err != nil {
				x.t.Fatal(err)
			}
		}
		if token = page.NextToken; token == nil {
			break
		}
	}
	for i := range got {
		if !bytes.Equal(got[i], testBlock(i)) {
			x.t.Errorf("block %d of %s is not what was written", i, id)
		}
	}
}

// rule sets one rule.
func (x *tester) rule(operation, when, effect string) {
	x.t.Helper()
	if when != "" {
		when = `"when": ` + when + `, `
	}
	x.SetBehaviour(`{"rules": [{"operation": "` + operation + `", ` + when + `"effect": ` + effect + `}]}`)
}

// struck checks how often the rules have struck.
func (x *tester) struck(want ...int64) {
	x.t.Helper()
	got := x.Struck()
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			x.t.Fatalf("the rules struck %v times, want %v", got, want)
		}
	}
}

// errorOf takes an error of AWS's apart.
func errorOf(err error) (status int, code string) {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = e.HTTPStatusCode()
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code = e.ErrorCode()
	}
	return status, code
}

func (x *tester) refused(err error, status int, code string) {
	x.t.Helper()
	if s, c := errorOf(err); s != status || c != code {
		x.t.Errorf("got %d %s (%v), want %d %s", s, c, err, status, code)
	}
}

// Late consistency: a write right after StartSnapshot finds no snapshot.
// awslabs/coldsnap#43.
func TestBehaviourLateConsistency(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.rule("StartSnapshot", "", `{"lag_ms": 60000}`)
	id := x.start()
	x.refused(putBlock(t.Context(), x.ebs, id, 0, testBlock(0)), 404, "ResourceNotFoundException")
	_, err := x.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	x.refused(err, 400, "InvalidSnapshot.NotFound")
	if all, err := x.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{}); err != nil || len(all.Snapshots) != 0 {
		t.Errorf("it is listed: %v %v", all, err)
	}
	x.Advance(time.Minute)
	if err := putBlock(t.Context(), x.ebs, id, 0, testBlock(0)); err != nil {
		t.Fatal(err)
	}
	x.complete(id, 1)
	x.whole(id, 1)
}

// AccessDenied in the middle of an upload. awslabs/coldsnap#216.
func TestBehaviourAccessDenied(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.rule("PutSnapshotBlock", `{"after": 2}`, `{"error": "AccessDeniedException"}`)
	id := x.start()
	for i := range 2 {
		if err := putBlock(t.Context(), x.ebs, id, i, testBlock(i)); err != nil {
			t.Fatal(err)
		}
	}
	err := putBlock(t.Context(), x.ebs, id, 2, testBlock(2))
	x.refused(err, 403, "AccessDeniedException")
	if _, ok := errors.AsType[*ebstypes.AccessDeniedException](err); !ok {
		t.Errorf("the SDK does not know the error: %v", err)
	}
	x.struck(1) // it is not for retrying
	x.ClearBehaviour()
	if err := putBlock(t.Context(), x.ebs, id, 2, testBlock(2)); err != nil {
		t.Fatal(err)
	}
	x.complete(id, 3)
	x.whole(id, 3)
}

// A socket that says nothing. awslabs/coldsnap#437.
func TestBehaviourSilence(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.rule("PutSnapshotBlock", `{"first": 1}`, `{"silent_ms": 600000}`)
	id := x.start()
	impatient := ebs.NewFromConfig(x.AWSConfig(), func(o *ebs.Options) {
		o.HTTPClient = &http.Client{Timeout: 500 * time.Millisecond}
	})
	began := time.Now()
	if err := putBlock(t.Context(), impatient, id, 0, testBlock(0)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("it was not silent: %v", took)
	}
	x.struck(1)
	x.complete(id, 1)
	x.whole(id, 1)

	// The server's clock ends the silence, and then the connection.
	x.rule("PutSnapshotBlock", "", `{"silent_ms": 600000}`)
	id = x.start()
	failed := make(chan error, 1)
	go func() { failed <- putBlock(t.Context(), x.once, id, 0, testBlock(0)) }()
	for x.Struck()[0] == 0 {
		time.Sleep(time.Millisecond)
	}
	x.Advance(10 * time.Minute)
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
		t.Errorf("got %v, want a closed connection", err)
	}
}

// Throttling. awslabs/coldsnap#451.
func TestBehaviourThrottling(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	id := x.make(1)
	x.rule("GetSnapshotBlock", `{"first": 2}`, `{"error": "RequestThrottledException"}`)
	x.whole(id, 1) // with the third attempt
	x.struck(2)
	x.rule("GetSnapshotBlock", "", `{"error": "ThrottlingException"}`)
	page, err := x.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	if err != nil {
		t.Fatal(err)
	}
	_, err = getBlock(t.Context(), x.ebs, id, 0, *page.Blocks[0].BlockToken)
	x.refused(err, 400, "ThrottlingException")
	x.struck(3)
}

// A snapshot that ends in error. nanovms/ops#1268.
func TestBehaviourCompleteAsError(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.rule("CompleteSnapshot", "", `{"complete_as": "error"}`)
	id := x.start()
	if err := putBlock(t.Context(), x.ebs, id, 0, testBlock(0)); err != nil {
		t.Fatal(err)
	}
	done, err := x.ebs.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(1)})
	if err != nil || done.Status != ebstypes.StatusPending {
		t.Errorf("got %v %v", done, err)
	}
	if err := x.wait(id); err == nil {
		t.Error("the waiter saw no error")
	}
	x.ClearBehaviour()
	got, err := x.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil || got.Snapshots[0].State != ec2types.SnapshotStateError ||
		aws.ToString(got.Snapshots[0].StateMessage) != "Changed blocks count mismatch for snapshot" {
		t.Errorf("got %+v %v", got, err)
	}
}

// EC2 says completed while the blocks cannot be listed yet, and a snapshot that
// was deleted is still there.
func TestBehaviourLags(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.rule("CompleteSnapshot", "", `{"lag_ms": 3600000}`)
	id := x.start()
	if err := putBlock(t.Context(), x.ebs, id, 0, testBlock(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.ebs.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	x.Advance(2 * time.Second)
	if err := x.wait(id); err != nil {
		t.Fatal(err)
	}
	list := func() error {
		_, err := x.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
		return err
	}
	x.refused(list(), 404, "ResourceNotFoundException")
	_, err := x.ebs.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &id})
	x.refused(err, 400, "ValidationException")
	x.Advance(time.Hour)
	x.whole(id, 1)

	x.rule("ec2:DeleteSnapshot", "", `{"lag_ms": 60000}`)
	remove := func() error {
		_, err := x.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &id})
		return err
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	x.whole(id, 1)
	all, err := x.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{})
	if err != nil || len(all.Snapshots) != 1 || *all.Snapshots[0].SnapshotId != id {
		t.Errorf("a snapshot deleted a moment ago is not seen: %v %v", all, err)
	}
	x.refused(remove(), 400, "InvalidSnapshot.NotFound") // it is not there
	x.Advance(time.Minute)
	x.refused(list(), 404, "ResourceNotFoundException")
}

// Pages that are short, or empty, can be walked: every block is listed once.
func TestBehaviourPages(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	parent := x.make(150)
	for _, page := range []string{"short", "empty"} {
		x.rule("ListSnapshotBlocks", "", `{"page": "`+page+`"}`)
		x.whole(parent, 150)
		if n := x.Struck()[0]; n < 3 {
			t.Errorf("%s: %d pages, and two would do", page, n)
		}
	}
	// A token outlives its rule.
	first, err := x.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &parent})
	if err != nil || len(first.Blocks) != 0 || first.NextToken == nil {
		t.Fatalf("got %v %v, want an empty page with a token", first, err)
	}
	x.ClearBehaviour()
	rest, err := x.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &parent, NextToken: first.NextToken})
	if err != nil || len(rest.Blocks) != 150 || rest.NextToken != nil {
		t.Errorf("got %d blocks, %v", len(rest.Blocks), err)
	}

	started, err := x.ebs.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &parent})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if err := putBlock(t.Context(), x.ebs, *started.SnapshotId, 5*i, testBlock(1000+i)); err != nil {
			t.Fatal(err)
		}
	}
	x.complete(*started.SnapshotId, 30)
	for _, page := range []string{"short", "empty"} {
		x.rule("ListChangedBlocks", "", `{"page": "`+page+`"}`)
		if n := x.uploader.changedBlocks(t, parent, *started.SnapshotId); n != 30 {
			t.Errorf("%s: %d blocks are listed, want 30", page, n)
		}
	}
}

// Tokens that expire early say so.
func TestBehaviourTokens(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	id := x.make(1)
	x.rule("ListSnapshotBlocks", "", `{"token_life_s": 2}`)
	page, err := x.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(*page.ExpiryTime); left > 4*time.Second {
		t.Errorf("the tokens are said to live for %v", left)
	}
	x.Advance(4 * time.Second)
	_, err = getBlock(t.Context(), x.ebs, id, 0, *page.Blocks[0].BlockToken)
	x.refused(err, 400, "ValidationException")
	x.whole(id, 1)
}

// One bit of a block is wrong, and the header that would show it right.
func TestBehaviourCorrupt(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	id := x.make(1)
	page, err := x.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	if err != nil {
		t.Fatal(err)
	}
	x.rule("GetSnapshotBlock", `{"first": 1}`, `{"corrupt": true}`)
	got, err := x.ebs.GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: aws.Int32(0), BlockToken: page.Blocks[0].BlockToken})
	if err != nil {
		t.Fatal(err)
	}
	defer got.BlockData.Close()
	data, err := io.ReadAll(got.BlockData)
	if err != nil {
		t.Fatal(err)
	}
	want, bits := testBlock(0), 0
	for i := range want {
		for d := data[i] ^ want[i]; d != 0; d &= d - 1 {
			bits++
		}
	}
	sum := sha256.Sum256(want)
	if bits != 1 || *got.Checksum != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Errorf("%d bits are wrong, the checksum is said to be %s", bits, *got.Checksum)
	}
	x.whole(id, 1)
}

// A connection that ends in the middle of a request, or of an answer.
func TestBehaviourCut(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	id := x.start()
	x.rule("PutSnapshotBlock", "", `{"cut": "request"}`)
	if err := putBlock(t.Context(), x.once, id, 0, testBlock(0)); err == nil {
		t.Error("a cut request succeeded")
	}
	x.rule("PutSnapshotBlock", "", `{"cut": "response"}`)
	if err := putBlock(t.Context(), x.once, id, 1, testBlock(1)); err == nil {
		t.Error("a cut answer was whole")
	}
	x.ClearBehaviour()
	x.complete(id, 1) // of the two, one was written
	page, err := x.ebs.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	if err != nil || len(page.Blocks) != 1 || *page.Blocks[0].BlockIndex != 1 {
		t.Fatalf("got %+v %v", page, err)
	}
	x.rule("GetSnapshotBlock", "", `{"cut": "response"}`)
	got, err := x.once.GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: aws.Int32(1), BlockToken: page.Blocks[0].BlockToken})
	if err != nil {
		t.Fatal(err)
	}
	defer got.BlockData.Close()
	data, err := io.ReadAll(got.BlockData)
	if err == nil || len(data) > blockSize/2 || !bytes.HasPrefix(testBlock(1), data) {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
}

// A delay passes by the server's clock.
func TestBehaviourDelay(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.rule("StartSnapshot", "", `{"delay_ms": 300}`)
	began := time.Now()
	x.start()
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
	x.rule("StartSnapshot", "", `{"delay_ms": 3600000}`)
	started := make(chan error, 1)
	go func() {
		_, err := x.ebs.StartSnapshot(context.WithoutCancel(t.Context()), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
		started <- err
	}()
	for x.Struck()[0] == 0 {
		time.Sleep(time.Millisecond)
	}
	x.Advance(time.Hour)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

// The SDK's own retries get over the preset "hostile". What is stored is right
// all the while: without rules everything reads back.
func TestBehaviourHostile(t *testing.T) {
	t.Parallel()
	x := newTester(t, "--behave", writeRules(t, `{"preset": "hostile"}`))
	const blocks, snapshots = 250, 3
	var ids []string
	for range snapshots {
		id := x.start()
		ids = append(ids, id)
		group, ctx := errgroup.WithContext(t.Context())
		group.SetLimit(8)
		for i := range blocks {
			group.Go(func() error { return putBlock(ctx, x.ebs, id, i, testBlock(i)) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		x.complete(id, blocks)
		x.whole(id, blocks)
		if n := x.uploader.changedBlocks(t, ids[0], ids[0]); n != 0 {
			t.Errorf("a snapshot differs from itself in %d blocks", n)
		}
	}
	for i, n := range x.Struck() {
		if n == 0 {
			t.Logf("rule %d did not strike", i+1)
		}
	}
	x.ClearBehaviour()
	for _, id := range ids {
		x.whole(id, blocks)
	}
	x.SetBehaviour(`{"preset": "hostile"}`)
	for _, id := range ids {
		if _, err := x.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &id}); err != nil {
			t.Fatal(err)
		}
	}
}

func writeRules(t *testing.T, rules string) string {
	t.Helper()
	path := t.TempDir() + "/rules.json"
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The preset "aws-like" has AWS's lags, and throttles what is too fast for it.
func TestBehaviourAWSLike(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.SetBehaviour(`{"preset": "aws-like"}`)
	const many = 100 // and all at once: a slow machine might take its time for them
	var throttled atomic.Int64
	var starting errgroup.Group
	for range many {
		starting.Go(func() error {
			_, err := x.once.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
			if _, code := errorOf(err); code == "ThrottlingException" {
				throttled.Add(1)
				return nil
			}
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		t.Fatal(err)
	}
	if throttled.Load() == 0 {
		t.Errorf("%d snapshots were started at once", many)
	}
	x.Advance(2 * time.Second)
	id := x.start()
	x.refused(putBlock(t.Context(), x.once, id, 0, testBlock(0)), 404, "ResourceNotFoundException")
	x.Advance(time.Second)
	patient := ebs.NewFromConfig(x.AWSConfig(), func(o *ebs.Options) {
		o.Retryer = retry.AddWithMaxAttempts(retry.NewStandard(), 10)
	})
	if err := putBlock(t.Context(), patient, id, 0, testBlock(0)); err != nil {
		t.Fatal(err)
	}
}

// A rule may look at how many snapshots are pending.
func TestBehaviourPending(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	x.SetBehaviour(`{"rules": [{"operation": "StartSnapshot", "when": {"over_pending": 2}, "effect": {"error": "ConcurrentLimitExceededException"}}]}`)
	x.start()
	x.start()
	_, err := x.once.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	x.refused(err, 400, "ConcurrentLimitExceededException")
	x.Advance(61 * time.Minute) // both have timed out
	x.start()
}

// A server does not start with rules that it does not understand, nor without
// test controls; nor does it show any without them.
func TestBehaviourFlag(t *testing.T) {
	t.Parallel()
	bad, good := writeRules(t, `{"rules": [{"operation": "PutBlock", "effect": {"delay_ms": 1}}]}`), writeRules(t, `{"preset": "hostile"}`)
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--test-controls", "--behave", bad}, "rules.0.operation must be"},
		{[]string{"--test-controls", "--behave", bad + "-missing"}, "no such file"},
		{[]string{"--behave", good}, "needs --test-controls"},
	} {
		args := append([]string{"serve", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir() + "/data"}, tt.flags...)
		if _, stderr, status := runShale(t, args...); status == 0 || !strings.Contains(stderr, tt.want) {
			t.Errorf("%v: exit %d, %s", tt.flags, status, stderr)
		}
	}
	s := startServer(t, "--anonymous")
	r, err := http.Get("http://" + s.address + "/_test/behaviour")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusNotFound {
		t.Errorf("without test controls: %s", r.Status)
	}
}

// A page of another origin sets no rules.
func TestBehaviourForeignOrigin(t *testing.T) {
	t.Parallel()
	x := newTester(t)
	r, err := http.NewRequest(http.MethodPut, x.Endpoint+"/_test/behaviour", strings.NewReader(`{"preset": "hostile"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "https://elsewhere.example")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body struct{ Error struct{ Code string } }
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || answer.StatusCode != 403 || body.Error.Code != "ACCESS_DENIED" {
		t.Errorf("got %s %+v %v", answer.Status, body, err)
	}
	x.struck()
}
