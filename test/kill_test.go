package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"
)

// TestKill kills the server again and again while clients write, and holds it
// to every answer that it gave: a snapshot that was started is there, with its
// tags, bound to its token; a block that was acknowledged has its bytes; a
// snapshot that was sealed completes; one that was deleted stays so; a copy that
// was asked for has what its source has, under its own key; a KMS key that was
// made is there. What was in doubt when the server died is asked for once more,
// as clients do, and nothing is there that nobody asked for.
//
// SHALE_KILLS is how many times the server is killed, 10 without it.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 10
	if v := os.Getenv("SHALE_KILLS"); v != "" {
		var err error
		if kills, err = strconv.Atoi(v); err != nil {
			t.Fatalf("SHALE_KILLS: %v", err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	s := startServer(t)
	l := &ledger{deleted: make(map[string]bool)}
	l.connect(t, s)
	l.makeKey(t)
	l.makeLarge(t)
	for range kills {
		l.connect(t, s)
		l.makeKey(t)
		l.run(t, s, time.Duration(100+rng.IntN(900))*time.Millisecond, time.Duration(rng.IntN(150))*time.Millisecond)
		s.start(t)
		l.connect(t, s)
		l.settle(t)
	}
	l.checkAll(t)
	blocks, encrypted, copies, failed := 0, 0, 0, 0
	for _, j := range l.jobs {
		if j.failed {
			failed++
			continue
		}
		blocks += len(j.written)
		if j.key != "" {
			encrypted++
		}
		if j.source != nil {
			copies++
		}
	}
	t.Logf("%d blocks in %d snapshots compared, %d of them encrypted, %d copies; %d copies outlived a kill, of %d nobody was told, %d failed; %d more snapshots deleted",
		blocks, len(l.jobs)-failed, encrypted, copies, l.outlived.Load(), l.found, failed, len(l.deleted))
	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
}

// clients is how many clients write at once, putters how many blocks each of
// them has in flight.
const (
	clients = 8
	putters = 4
)

// A ledger is all that the server has acknowledged.
type ledger struct {
	ebs *ebs.Client
	ec2 *ec2.Client
	kms *kms.Client

	keys  []string // ARNs, the newest last
	large *job

	next   atomic.Uint64 // number of the next job
	killed atomic.Bool

	outlived atomic.Int64 // copies that were in progress still when the server was back
	found    int          // copies of which nobody was told

	mu      sync.Mutex      // guards the following
	jobs    []*job          // that are not known to be deleted
	copies  []*job          // that were asked for
	deleted map[string]bool // snapshot IDs
}

// A job is one snapshot on its way. One goroutine owns it at a time.
type job struct {
	number   uint64
	key      string         // ARN of its KMS key, empty for none
	source   *job           // what it is a copy of, nil if it is none
	snapshot string         // once StartSnapshot or CopySnapshot was acknowledged
	written  map[int]uint64 // by index, the version whose write was acknowledged
	inDoubt  map[int]uint64 // likewise, sent but not acknowledged
	sealed   bool           // CompleteSnapshot was acknowledged
	doomed   bool           // DeleteSnapshot was sent
	kept     bool           // and never will be
	checked  bool           // it was completed and read back
	failed   bool           // or else, as the source of the copy was deleted
}

func (l *ledger) connect(t *testing.T, s *server) {
	l.ebs, l.ec2, l.kms = s.ebs(t), s.ec2(t), kms.NewFromConfig(s.config(t))
	l.killed.Store(false)
}

// makeKey makes the KMS key that is the newest until the next kill.
func (l *ledger) makeKey(t *testing.T) {
	t.Helper()
	made, err := l.kms.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	l.keys = append(l.keys, *made.KeyMetadata.Arn)
}

// makeLarge makes the snapshot that takes a while to be copied. It stays.
func (l *ledger) makeLarge(t *testing.T) {
	t.Helper()
	l.large = l.newJob()
	l.large.key, l.large.kept = "", true
	blocks := make(map[int]uint64)
	for i := range 128 {
		blocks[9*i] = 1
	}
	err := l.startJob(t.Context(), l.large)
	if err == nil {
		err = l.putAll(t.Context(), l.large, []map[int]uint64{blocks})
	}
	if err == nil {
		err = l.finish(t.Context(), l.large)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.jobs = append(l.jobs, l.large)
}

// run lets the clients work for a while, asks for a copy that takes long, and
// a moment later kills the server.
func (l *ledger) run(t *testing.T, s *server, d, moment time.Duration) {
	var working sync.WaitGroup
	for range clients {
		working.Go(func() {
			for !l.killed.Load() {
				j := l.newJob()
				err := l.work(t.Context(), j)
				if j.source == nil || j.snapshot != "" { // a copy in doubt is not asked for again
					l.mu.Lock()
					l.jobs = append(l.jobs, j)
					l.mu.Unlock()
				}
				if err != nil && !l.killed.Load() {
					t.Errorf("job %d: %v", j.number, err)
					return
				}
			}
		})
	}
	time.Sleep(d)
	j := &job{number: l.next.Add(1), key: l.keys[len(l.keys)-1], source: l.large, written: maps.Clone(l.large.written)}
	if err := l.copyJob(t.Context(), j); err != nil {
		t.Errorf("job %d: %v", j.number, err)
	} else if j.snapshot != "" {
		l.mu.Lock()
		l.jobs = append(l.jobs, j)
		l.mu.Unlock()
	}
	time.Sleep(moment)
	l.killed.Store(true)
	s.kill()
	working.Wait()
}

// newJob makes the next job. Every fifth is a copy, once there is something to
// be copied; of three, one is not encrypted, one is under the newest key and one
// under any.
func (l *ledger) newJob() *job {
	j := &job{number: l.next.Add(1), written: make(map[int]uint64), inDoubt: make(map[int]uint64)}
	rng := rand.New(rand.NewPCG(j.number, 2))
	switch j.number % 3 {
	case 1:
		j.key = l.keys[len(l.keys)-1]
	case 2:
		j.key = l.keys[rng.IntN(len(l.keys))]
	}
	if j.number%5 != 0 {
		return j
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range rng.Perm(len(l.jobs)) {
		source := l.jobs[i]
		// Without a key a copy of what is encrypted would be under the account's.
		if source.checked && !source.failed && !source.doomed && (source.key == "" || j.key != "") {
			j.source, j.written = source, maps.Clone(source.written)
			break
		}
	}
	return j
}

// work does a job from its start to the end that its number gives it: a third
// stays open, a third is sealed, and of a third the job before is deleted too.
// Of a copy the beginning is all.
func (l *ledger) work(ctx context.Context, j *job) error {
	if j.source != nil {
		return l.copyJob(ctx, j)
	}
	if err := l.startJob(ctx, j); err != nil {
		return err
	}
	if err := l.putAll(ctx, j, j.plan()); err != nil || j.number%3 == 0 {
		return err
	}
	if err := l.seal(ctx, j); err != nil || j.number%3 == 1 {
		return err
	}
	return l.deleteOne(ctx)
}

// token is the client token of the job and the value of its tag.
func (j *job) token() string { return fmt.Sprintf("job-%d", j.number) }

// plan is what a job writes, in its order: some indexes, and some of them again.
func (j *job) plan() []map[int]uint64 {
	rng := rand.New(rand.NewPCG(j.number, 1))
	first, second := make(map[int]uint64), make(map[int]uint64)
	for range 1 + rng.IntN(12) {
		index := rng.IntN(2048)
		first[index] = 1
		if rng.IntN(4) == 0 {
			second[index] = 2
		}
	}
	return []map[int]uint64{first, second}
}

// content is what a version of a block of the job holds; now and then zeros,
// and now and then what another job has too. Most are kept in a page, or five
// hundred kills would take sixty gigabytes.
func (j *job) content(index int, version uint64) []byte {
	for j.source != nil {
		j = j.source
	}
	b := make([]byte, blockSize)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[0:], j.number)
	binary.LittleEndian.PutUint64(seed[8:], uint64(index))
	binary.LittleEndian.PutUint64(seed[16:], version)
	switch index % 8 {
	case 0:
		return b
	case 1:
		clear(seed[:8])
	}
	filled := b
	if index%4 != 3 {
		filled = b[:4096]
	}
	rand.NewChaCha8(seed).Read(filled) // never fails
	return b
}

func (l *ledger) startJob(ctx context.Context, j *job) error {
	in := &ebs.StartSnapshotInput{
		VolumeSize:  aws.Int64(1),
		ClientToken: aws.String(j.token()),
		Tags:        []ebstypes.Tag{{Key: aws.String("job"), Value: aws.String(j.token())}},
	}
	if j.key != "" {
		in.KmsKeyArn = aws.String(j.key)
	}
	got, err := l.ebs.StartSnapshot(ctx, in)
	if err != nil {
		return err
	}
	if j.snapshot != "" && j.snapshot != *got.SnapshotId {
		return fmt.Errorf("token %s was bound to %s and now is to %s", j.token(), j.snapshot, *got.SnapshotId)
	}
	j.snapshot = *got.SnapshotId
	return nil
}

// copyJob asks for the copy that the job is. There may be too many already,
// and then there is none.
func (l *ledger) copyJob(ctx context.Context, j *job) error {
	in := &ec2.CopySnapshotInput{
		SourceRegion:     aws.String("us-east-1"),
		SourceSnapshotId: aws.String(j.source.snapshot),
		TagSpecifications: []ec2types.TagSpecification{{
			ResourceType: ec2types.ResourceTypeSnapshot,
			Tags:         []ec2types.Tag{{Key: aws.String("job"), Value: aws.String(j.token())}},
		}},
	}
	if j.key != "" {
		in.Encrypted, in.KmsKeyId = aws.Bool(true), aws.String(j.key)
	}
	l.mu.Lock()
	l.copies = append(l.copies, j)
	l.mu.Unlock()
	got, err := l.ec2.CopySnapshot(ctx, in)
	if isCode(err, "ResourceLimitExceeded") {
		return nil
	}
	if err != nil {
		return err
	}
	j.snapshot, j.sealed = *got.SnapshotId, true
	return nil
}

// putAll writes the blocks of each map, several at a time, one map after the
// other.
func (l *ledger) putAll(ctx context.Context, j *job, plan []map[int]uint64) error {
	for _, blocks := range plan {
		var (
			group errgroup.Group
			mu    sync.Mutex // guards j.written and j.inDoubt
		)
		group.SetLimit(putters)
		for index, version := range blocks {
			group.Go(func() error {
				mu.Lock()
				j.inDoubt[index] = version
				mu.Unlock()
				if l.killed.Load() {
					return errors.New("the server is dead")
				}
				if err := putBlock(ctx, l.ebs, j.snapshot, index, j.content(index, version)); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				delete(j.inDoubt, index)
				j.written[index] = version
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// seal completes the job with the count and checksum of all that it wrote.
func (l *ledger) seal(ctx context.Context, j *job) error {
	aggregate := sha256.New()
	for _, index := range slices.Sorted(maps.Keys(j.written)) {
		sum := sha256.Sum256(j.content(index, j.written[index]))
		aggregate.Write(sum[:])
	}
	_, err := l.ebs.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
		SnapshotId:                aws.String(j.snapshot),
		ChangedBlocksCount:        aws.Int32(int32(len(j.written))),
		Checksum:                  aws.String(base64.StdEncoding.EncodeToString(aggregate.Sum(nil))),
		ChecksumAlgorithm:         ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
	})
	j.sealed = err == nil
	return err
}

// deleteOne deletes the first job that is sealed.
func (l *ledger) deleteOne(ctx context.Context) error {
	l.mu.Lock()
	i := slices.IndexFunc(l.jobs, func(j *job) bool { return j.sealed && !j.doomed && !j.kept })
	if i < 0 {
		l.mu.Unlock()
		return nil
	}
	j := l.jobs[i]
	j.doomed = true
	l.mu.Unlock()
	return l.deleteJob(ctx, j)
}

func (l *ledger) deleteJob(ctx context.Context, j *job) error {
	_, err := l.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(j.snapshot)})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleted[j.snapshot] = true
	l.jobs = slices.DeleteFunc(l.jobs, func(other *job) bool { return other == j })
	return nil
}

// settle asks the server that came back for all that was in doubt, and checks
// what it acknowledged before and has not been checked since. Some jobs stay
// open, to live through the next kill.
func (l *ledger) settle(t *testing.T) {
	t.Helper()
	l.eachJob(t, func(ctx context.Context, j *job) error {
		switch {
		case j.doomed:
			if err := l.deleteJob(ctx, j); !isCode(err, "InvalidSnapshot.NotFound") {
				return err
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.deleted[j.snapshot] = true
			l.jobs = slices.DeleteFunc(l.jobs, func(other *job) bool { return other == j })
			return nil
		case j.checked:
			return nil
		case j.number%6 == 0 && j.source == nil:
			return l.resume(ctx, j)
		default:
			return l.finish(ctx, j)
		}
	})
	for id := range l.deleted {
		_, err := l.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
		if !isCode(err, "InvalidSnapshot.NotFound") {
			t.Errorf("DescribeSnapshots of %s, which is deleted: %v", id, err)
		}
	}
	l.findCopies(t)
}

// findCopies looks for snapshots of which nobody was told the ID. Such can be
// copies only, whose request was in doubt when the server died, and it adds them
// to the jobs: once it has begun, a copy is whole.
func (l *ledger) findCopies(t *testing.T) {
	t.Helper()
	known := make(map[string]bool)
	for _, j := range l.jobs {
		known[j.snapshot] = true
	}
	pages := ec2.NewDescribeSnapshotsPaginator(l.ec2, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, MaxResults: aws.Int32(1000)})
	// The SDK closes a request's body once the answer's head is there. If the
	// goroutine that sends it has not looked for its end yet, package net/http
	// takes that for an error and closes the connection, and what is left of a
	// long answer is lost (aws/aws-sdk-go-v2#2737, which is why the SDK tries
	// again, unless told not to).
	again := func(o *ec2.Options) { o.Retryer = retry.NewStandard() }
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context(), again)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range page.Snapshots {
			if known[*found.SnapshotId] {
				continue
			}
			i := slices.IndexFunc(l.copies, func(j *job) bool { return tagsOf(found) == "job="+j.token()+" " })
			if i < 0 || l.copies[i].snapshot != "" {
				t.Errorf("%s, with %s, is there and was not asked for", *found.SnapshotId, tagsOf(found))
				continue
			}
			j := l.copies[i]
			j.snapshot, j.sealed = *found.SnapshotId, true
			l.jobs = append(l.jobs, j)
			l.found++
		}
	}
}

// checkAll finishes what is open and checks every job once more.
func (l *ledger) checkAll(t *testing.T) {
	t.Helper()
	l.eachJob(t, func(ctx context.Context, j *job) error {
		if j.failed {
			return nil
		}
		return l.finish(ctx, j)
	})
}

// eachJob calls f for every job, several at a time.
func (l *ledger) eachJob(t *testing.T, f func(context.Context, *job) error) {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(clients)
	for _, j := range slices.Clone(l.jobs) {
		group.Go(func() error {
			if err := f(t.Context(), j); err != nil {
				t.Errorf("job %d, snapshot %s: %v", j.number, j.snapshot, err)
			}
			return nil
		})
	}
	group.Wait() // none returns an error
	if t.Failed() {
		t.FailNow()
	}
}

// resume makes sure of the job's start, tags and key, and writes what was in
// doubt.
func (l *ledger) resume(ctx context.Context, j *job) error {
	if j.source == nil {
		if err := l.startJob(ctx, j); err != nil {
			return fmt.Errorf("start once more: %w", err)
		}
	}
	found, err := l.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{j.snapshot}})
	if err != nil {
		return err
	}
	if tags := found.Snapshots[0].Tags; len(tags) != 1 || *tags[0].Key != "job" || *tags[0].Value != j.token() {
		return fmt.Errorf("tags %v", tags)
	}
	if j.source != nil && found.Snapshots[0].State == ec2types.SnapshotStatePending {
		l.outlived.Add(1)
	}
	if key := aws.ToString(found.Snapshots[0].KmsKeyId); key != j.key || *found.Snapshots[0].Encrypted != (j.key != "") {
		return fmt.Errorf("under the key %q, which should be %q", key, j.key)
	}
	return l.putAll(ctx, j, []map[int]uint64{maps.Clone(j.inDoubt)})
}

// finish resumes the job, seals it and compares all that it wrote.
func (l *ledger) finish(ctx context.Context, j *job) error {
	if err := l.resume(ctx, j); err != nil {
		return err
	}
	if !j.sealed {
		if err := l.seal(ctx, j); err != nil {
			return fmt.Errorf("seal: %w", err)
		}
	}
	in := &ec2.DescribeSnapshotsInput{SnapshotIds: []string{j.snapshot}}
	err := ec2.NewSnapshotCompletedWaiter(l.ec2, func(o *ec2.SnapshotCompletedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 200*time.Millisecond
	}).Wait(ctx, in, time.Minute)
	if err != nil && j.source != nil && j.source.doomed {
		found, lookErr := l.ec2.DescribeSnapshots(ctx, in)
		if lookErr == nil && aws.ToString(found.Snapshots[0].StateMessage) == "Source snapshot is not found" {
			j.checked, j.failed = true, true
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("sealed with all that was acknowledged: %w", err)
	}
	var seen atomic.Int64
	err = eachBlock(ctx, l.ebs, j.snapshot, func(index int, data []byte) error {
		seen.Add(1)
		version, ok := j.written[index]
		if !ok || !bytes.Equal(data, j.content(index, version)) {
			return fmt.Errorf("block %d is not what was acknowledged (written: %t)", index, ok)
		}
		return nil
	})
	if n := int(seen.Load()); err == nil && n != len(j.written) {
		err = fmt.Errorf("%d blocks are there, %d were acknowledged", n, len(j.written))
	}
	j.checked = err == nil
	return err
}

// isCode reports whether err is a service's error with the code.
func isCode(err error, code string) bool {
	var e smithy.APIError
	return errors.As(err, &e) && e.ErrorCode() == code
}
