package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shale/internal/block"
	"shale/internal/reclaim"
	"shale/internal/snapshot"
)

// A phase is one process's work.
type phase struct {
	name string
	run  func(*scale, context.Context) error
}

var phases = []phase{
	{"load", (*scale).measureLoad},
	{"ready", (*scale).measureReady},
	{"list", (*scale).measureList},
	{"walk", (*scale).measureWalk},
	{"changes", (*scale).measureChanges},
	{"lineage", (*scale).measureLineage},
	{"usage", (*scale).measureUsage},
	{"memory", (*scale).measureMemory},
	{"reclaim", (*scale).measureReclaim}, // the last: it leaves nothing
}

func phaseNames() []string {
	names := make([]string, len(phases))
	for i, p := range phases {
		names[i] = p.name
	}
	return names
}

func millis(d time.Duration) float64 { return d.Seconds() * 1e3 }

// measureLoad makes the world.
func (s *scale) measureLoad(ctx context.Context) error {
	empty, err := launch(s.program, s.dir)
	if err != nil {
		return err
	}
	if err := empty.stop(); err != nil {
		return err
	}
	began := time.Now()
	w, err := load(ctx, s.dir, s.size)
	if err != nil {
		return err
	}
	s.add(line{Title: "loading all that follows, below the server", Value: time.Since(began).Seconds(), Unit: "s"})
	s.add(line{Title: "distinct blocks", Value: float64(w.Blocks)})
	s.add(line{Title: "map nodes", Value: float64(w.Nodes)})
	s.add(line{Title: "catalog per distinct block", Value: float64(w.Bytes[1]-w.Bytes[0]) / float64(w.Blocks), Unit: "bytes", Limit: 100})
	s.add(line{Title: "catalog per snapshot of the lineage, the rows of its map nodes included", Value: float64(w.Bytes[3]-w.Bytes[2]) / float64(w.Days), Unit: "bytes"})
	s.add(line{Title: "catalog in all", Value: float64(w.Bytes[3]) / mib, Unit: "MiB"})
	return nil
}

// measureReady starts the server on the store and on an empty folder.
func (s *scale) measureReady(context.Context) error {
	folder := filepath.Join(s.dir, "empty")
	defer os.RemoveAll(folder)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	var full, empty []float64
	for range 5 {
		for _, m := range []struct {
			dir   string
			times *[]float64
		}{{s.dir, &full}, {folder, &empty}} {
			server, err := launch(s.program, m.dir)
			if err != nil {
				return err
			}
			*m.times = append(*m.times, millis(server.ready))
			if err := server.stop(); err != nil {
				return err
			}
		}
	}
	s.add(line{Title: "from start to ready, against an empty store", Value: median(full), Unit: "ms", Against: median(empty)})
	return nil
}

// measureList goes through listings in pages of 10,000, over HTTP.
func (s *scale) measureList(ctx context.Context) error {
	server, err := launch(s.program, s.dir)
	if err != nil {
		return err
	}
	defer server.kill()
	for _, name := range []string{large, dense, scarce} {
		// Once for the caches, as a client that goes through all pages fills them.
		for _, most := range []int{s.size.listed / 10, s.size.listed} {
			began := time.Now()
			found, err := server.list(ctx, s.world.volume(name).ID, most)
			if err != nil {
				return err
			}
			if most == s.size.listed {
				s.add(line{Title: "ListSnapshotBlocks over one connection, " + name, Value: float64(found) / time.Since(began).Seconds() / 1e6, Unit: "million entries/s", Digits: 2, Limit: -1})
			}
		}
	}
	peak, err := server.peakMemory()
	if err != nil {
		return err
	}
	s.add(line{Title: "the same, peak memory of the server", Value: peak, Unit: "MiB", Limit: 256})
	return server.stop()
}

// list lists blocks of a snapshot, the first of them up to most.
func (s *server) list(ctx context.Context, id string, most int) (found int, err error) {
	query := url.Values{"maxResults": {"10000"}}
	for found < most {
		page, err := s.do(ctx, "ebs", "GET", "/snapshots/"+id+"/blocks?"+query.Encode(), nil)
		if err != nil {
			return found, err
		}
		found += bytes.Count(page, []byte(`"BlockIndex"`))
		_, rest, more := bytes.Cut(page, []byte(`"NextToken":"`))
		if !more {
			break
		}
		next, _, _ := bytes.Cut(rest, []byte(`"`))
		query.Set("pageToken", string(next))
	}
	return found, nil
}

// measureWalk goes through all pages of the largest volumes, in this process.
func (s *scale) measureWalk(ctx context.Context) error {
	n, err := openNode(ctx, s.dir, asItIs)
	if err != nil {
		return err
	}
	for _, name := range []string{scarce, dense} {
		v := s.world.volume(name)
		began, found := time.Now(), int64(0)
		r := snapshot.ListBlocksRequest{SnapshotID: v.ID}
		for more := true; more; more = r.PageToken != nil {
			page, err := n.service.ListBlocks(ctx, n.caller, r)
			if err != nil {
				return err
			}
			found += int64(len(page.Blocks))
			r.PageToken = nil
			if page.NextToken != "" {
				r.PageToken = &page.NextToken
			}
		}
		if found != v.Count {
			return fmt.Errorf("%s lists %d blocks, not %d", name, found, v.Count)
		}
		s.add(line{Title: fmt.Sprintf("all %d pages of ListSnapshotBlocks in the service, %s", (found+9999)/10000, name), Value: float64(found) / time.Since(began).Seconds() / 1e6, Unit: "million entries/s", Digits: 2})
	}
	if err := s.addPeak("the same, peak memory of the process"); err != nil {
		return err
	}
	return n.close()
}

// addPeak adds the peak of this process's memory.
func (s *scale) addPeak(title string) error {
	peak, err := peakMemory("self")
	s.add(line{Title: title, Value: peak, Unit: "MiB", Limit: 256})
	return err
}

// changes is how many blocks of a child differ from its parent.
const changes = 10

// child makes a child of a snapshot with ten other blocks, spread over it, and
// times what the service does for it.
func (n *node) child(ctx context.Context, v loaded) (id string, start, complete time.Duration, err error) {
	began := time.Now()
	snap, err := n.start(ctx, v.GiB, &v.ID)
	start = time.Since(began)
	if err != nil {
		return "", 0, 0, err
	}
	part := v.Count / changes
	for i := range int64(changes) {
		index := block.Index((i*part + rand.Int64N(part)) * v.Step)
		if err := n.put(ctx, snap.ID, index, nextBlock()); err != nil {
			return "", 0, 0, err
		}
	}
	began = time.Now()
	err = n.complete(ctx, snap.ID, changes)
	return snap.ID, start, time.Since(began), err
}

var lastBlock atomic.Uint64

func nextBlock() uint64 { return lastBlock.Add(1) }

// measureChanges starts, completes, compares and deletes children with ten
// changes, of volumes of all sizes in turn.
func (s *scale) measureChanges(ctx context.Context) error {
	n, err := openNode(ctx, s.dir, asItIs)
	if err != nil {
		return err
	}
	const (
		start = iota
		complete
		diff
		del
		kinds
	)
	times := make([][kinds][]float64, len(s.world.Volumes))
	for range s.size.calls {
		for i, v := range s.world.Volumes {
			t := &times[i]
			id, began, completed, err := n.child(ctx, v)
			if err != nil {
				return err
			}
			t[start] = append(t[start], millis(began))
			t[complete] = append(t[complete], millis(completed))
			at := time.Now()
			page, err := n.service.ListChangedBlocks(ctx, n.caller, snapshot.ListChangedRequest{FirstSnapshotID: &v.ID, SecondSnapshotID: id})
			if err != nil {
				return err
			}
			if len(page.Blocks) != changes {
				return fmt.Errorf("%d changed blocks in %s, not %d", len(page.Blocks), v.Name, changes)
			}
			t[diff] = append(t[diff], millis(time.Since(at)))
			at = time.Now()
			if err := n.service.Delete(ctx, n.caller, id); err != nil {
				return err
			}
			t[del] = append(t[del], millis(time.Since(at)))
		}
	}
	for k, what := range []struct {
		title string
		limit float64
	}{{"StartSnapshot of a child, p50", 1.3}, {"CompleteSnapshot of ten changes until completed, p50", 3}, {"ListChangedBlocks of ten changes in the service, p50", 0}, {"DeleteSnapshot, p50", 1.3}} {
		base := median(times[0][k])
		for i, v := range s.world.Volumes {
			l := line{Title: what.title + ", " + v.Name, Value: median(times[i][k]), Unit: "ms", Digits: 2}
			if i > 0 {
				l.Against, l.Limit = base, what.limit
			}
			s.add(l)
		}
	}
	if err := s.addPeak("the same, peak memory of the process"); err != nil {
		return err
	}
	children := make([]string, len(s.world.Volumes))
	for i, v := range s.world.Volumes {
		if children[i], _, _, err = n.child(ctx, v); err != nil {
			return err
		}
	}
	if err := n.close(); err != nil {
		return err
	}
	return s.measureDiffs(ctx, children)
}

// measureDiffs lists over HTTP what differs between each volume and its child.
func (s *scale) measureDiffs(ctx context.Context, children []string) error {
	server, err := launch(s.program, s.dir)
	if err != nil {
		return err
	}
	defer server.kill()
	times := make([][]float64, len(children))
	for range 4 * s.size.calls {
		for i, v := range s.world.Volumes {
			at := time.Now()
			if _, err := server.do(ctx, "ebs", "GET", "/snapshots/"+children[i]+"/changedblocks?firstSnapshotId="+v.ID, nil); err != nil {
				return err
			}
			times[i] = append(times[i], millis(time.Since(at)))
		}
	}
	for i, v := range s.world.Volumes {
		l := line{Title: "ListChangedBlocks of ten changes over HTTP, p50, " + v.Name, Value: median(times[i]), Unit: "ms", Digits: 2}
		if i > 0 {
			l.Against, l.Limit = median(times[0]), 1.3
		}
		s.add(l)
	}
	return server.stop()
}

// measureLineage lists the long lineage and goes on with it.
func (s *scale) measureLineage(ctx context.Context) error {
	server, err := launch(s.program, s.dir)
	if err != nil {
		return err
	}
	defer server.kill()
	describe := func(title string, extra string) error {
		began := time.Now()
		text, err := server.do(ctx, "ec2", "GET", "/?Action=DescribeSnapshots&Version=2016-11-15&Owner.1=self"+extra, nil)
		if err != nil {
			return err
		}
		s.add(line{Title: fmt.Sprintf("DescribeSnapshots %s (%d snapshots)", title, bytes.Count(text, []byte("<snapshotId>"))), Value: millis(time.Since(began)), Unit: "ms", Digits: 1})
		return nil
	}
	week := strconv.Itoa(s.world.Days / 7 / 2)
	for _, d := range [][2]string{
		{"with a page of 1000", "&MaxResults=1000"},
		{"with a filter of a tag and a page of 1000", "&MaxResults=1000&Filter.1.Name=tag:week&Filter.1.Value.1=" + week},
		{"with a filter of a state that none has", "&Filter.1.Name=status&Filter.1.Value.1=error"},
		{"by ID", "&SnapshotId.1=" + s.world.Last},
	} {
		if err := describe(d[0], d[1]); err != nil {
			return err
		}
	}
	peak, err := server.peakMemory()
	if err != nil {
		return err
	}
	s.add(line{Title: "the same, peak memory of the server", Value: peak, Unit: "MiB", Limit: 256})
	if err := describe("without a page size", ""); err != nil {
		return err
	}
	if peak, err = server.peakMemory(); err != nil {
		return err
	}
	s.add(line{Title: "the same, peak memory of the server", Value: peak, Unit: "MiB", Limit: 256})
	if err := server.stop(); err != nil {
		return err
	}

	n, err := openNode(ctx, s.dir, asItIs)
	if err != nil {
		return err
	}
	end := loaded{volume{Name: "the end of the lineage", GiB: 1, Count: block.PerGiB, Step: 1}, s.world.Last}
	begin := loaded{volume{Name: "its begin", GiB: 1, Count: block.PerGiB, Step: 1}, s.world.First}
	var times [2][3][]float64
	for range s.size.calls {
		for i, v := range []loaded{end, begin} {
			id, start, complete, err := n.child(ctx, v)
			if err != nil {
				return err
			}
			at := time.Now()
			if err := n.service.Delete(ctx, n.caller, id); err != nil {
				return err
			}
			for k, d := range []time.Duration{start, complete, time.Since(at)} {
				times[i][k] = append(times[i][k], millis(d))
			}
		}
	}
	for k, title := range []string{"StartSnapshot", "CompleteSnapshot of ten changes", "DeleteSnapshot"} {
		s.add(line{
			Title: fmt.Sprintf("%s at the end of a lineage of %d, against its begin, p50", title, s.world.Days),
			Value: median(times[0][k]), Unit: "ms", Digits: 2, Against: median(times[1][k]), Limit: 1.3,
		})
	}
	began := time.Now()
	page, err := n.service.ListChangedBlocks(ctx, n.caller, snapshot.ListChangedRequest{FirstSnapshotID: &begin.ID, SecondSnapshotID: end.ID})
	if err != nil {
		return err
	}
	s.add(line{Title: fmt.Sprintf("ListChangedBlocks from the begin of the lineage to its end (%d changes)", len(page.Blocks)), Value: millis(time.Since(began)), Unit: "ms", Digits: 1})
	return n.close()
}

// measureUsage counts what each snapshot has alone.
func (s *scale) measureUsage(ctx context.Context) error {
	n, err := openNode(ctx, s.dir, asItIs)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := n.service.CountUsage(ctx); err != nil {
		return err
	}
	s.add(line{Title: "the count of usage of all snapshots", Value: time.Since(began).Seconds(), Unit: "s", Digits: 1})
	if err := s.addPeak("the same, peak memory of the process"); err != nil {
		return err
	}
	return n.close()
}

// measureMemory writes over 64 connections to a server that has just been
// started, and counts usage meanwhile.
func (s *scale) measureMemory(ctx context.Context) error {
	server, err := launch(s.program, s.dir)
	if err != nil {
		return err
	}
	defer server.kill()
	const writers = 64
	parent := s.world.volume(large)
	answer, err := server.do(ctx, "ebs", "POST", "/snapshots", fmt.Appendf(nil, `{"VolumeSize":%d,"ParentSnapshotId":%q,"Timeout":4320}`, parent.GiB, parent.ID),
		"Content-Type", "application/json")
	if err != nil {
		return err
	}
	_, rest, _ := bytes.Cut(answer, []byte(`"SnapshotId":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	var next atomic.Int64
	failed := make([]error, writers)
	var running sync.WaitGroup
	began := time.Now()
	for w := range writers {
		running.Go(func() {
			for failed[w] == nil {
				i := next.Add(1)
				if i > int64(s.size.writing) {
					return
				}
				failed[w] = server.put(ctx, string(id), spread(i, parent.Count), nextBlock())
			}
		})
	}
	running.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	took := time.Since(began)
	peak, err := server.peakMemory()
	if err != nil {
		return err
	}
	s.add(line{Title: "peak memory of the server, 64 connections writing, usage being counted", Value: peak, Unit: "MiB", Limit: 256})
	s.add(line{Title: "the same, throughput, the client's work included", Value: float64(s.size.writing) * block.Size / took.Seconds() / 1e6, Unit: "MB/s"})
	began = time.Now()
	for state := ""; state != "completed"; time.Sleep(10 * time.Millisecond) {
		answer, err := server.do(ctx, "ebs", "POST", "/snapshots/completion/"+string(id), nil, "x-amz-ChangedBlocksCount", strconv.Itoa(s.size.writing))
		if err != nil {
			return err
		}
		_, rest, _ := bytes.Cut(answer, []byte(`"Status":"`))
		word, _, _ := bytes.Cut(rest, []byte(`"`))
		if state = string(word); state == "error" {
			return errors.New("the snapshot was not completed")
		}
	}
	s.add(line{Title: fmt.Sprintf("CompleteSnapshot of %d random changes in %s", s.size.writing, large), Value: millis(time.Since(began)), Unit: "ms"})
	return server.stop()
}

// measureReclaim runs a cycle of the collector that finds nothing to give back,
// deletes all snapshots, and runs the two that give back everything.
func (s *scale) measureReclaim(ctx context.Context) error {
	n, err := openNode(ctx, s.dir, asItIs)
	if err != nil {
		return err
	}
	cycle := func(title string) error {
		began, worked := time.Now(), processorTime()
		r, err := reclaim.New(reclaim.Options{Catalog: n.catalog, Store: n.store, Now: time.Now, Step: func(what string) {
			say("%s: %s, after %v and %v of processor time", title, what, since(began), processorTime()-worked)
		}}).Cycle(ctx)
		if err != nil {
			return err
		}
		s.add(line{Title: fmt.Sprintf("reclaim, %s (%d records in use, %d condemned, %d removed, %d segments dropped)", title, r.Marked, r.Condemned, r.Removed, r.Dropped), Value: time.Since(began).Seconds(), Unit: "s", Digits: 1})
		s.add(line{Title: "the same, processor time", Value: (processorTime() - worked).Seconds(), Unit: "s", Digits: 1})
		return nil
	}
	if err := cycle("with all in use"); err != nil {
		return err
	}
	if err := s.addPeak("the same, peak memory of the process"); err != nil {
		return err
	}
	before, err := folderBytes(s.dir)
	if err != nil {
		return err
	}
	began, deleted, most := time.Now(), 0, int64(1000)
	for r := (snapshot.DescribeRequest{MaxResults: &most}); ; {
		page, err := n.service.Describe(ctx, n.caller, r)
		if err != nil {
			return err
		}
		for i := range page.Snapshots {
			if err := n.service.Delete(ctx, n.caller, page.Snapshots[i].ID); err != nil {
				return err
			}
		}
		deleted += len(page.Snapshots)
		if page.NextToken == "" {
			break
		}
		r.NextToken = &page.NextToken
	}
	s.add(line{Title: fmt.Sprintf("DeleteSnapshot of all %d, one after the other", deleted), Value: millis(time.Since(began)) / float64(deleted), Unit: "ms each", Digits: 2})
	if err := n.service.Settle(ctx); err != nil {
		return err
	}
	for _, title := range []string{"the first after that", "the second"} {
		if err := cycle(title); err != nil {
			return err
		}
	}
	if err := s.addPeak("the same, peak memory of the process"); err != nil {
		return err
	}
	after, err := folderBytes(s.dir)
	if err != nil {
		return err
	}
	s.add(line{Title: "the folder's length, holes included, against before", Value: float64(after) / mib, Unit: "MiB", Against: float64(before) / mib})
	return n.close()
}

// processorTime is what this process has worked so far.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(10 * time.Millisecond)
}

// folderBytes is the length of all files in the folder.
func folderBytes(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// spread is the i-th of indexes below n, a power of ten, that lie evenly and do
// not repeat: steps of the golden ratio.
func spread(i, n int64) block.Index { return block.Index(i * 6_180_339 % n) }

func (s *server) put(ctx context.Context, id string, index block.Index, number uint64) error {
	b := newBlock(number)
	digest := sha256.Sum256(b)
	_, err := s.do(ctx, "ebs", "PUT", fmt.Sprintf("/snapshots/%s/blocks/%d", id, index), b,
		"x-amz-Data-Length", strconv.Itoa(block.Size), "x-amz-Checksum", base64.StdEncoding.EncodeToString(digest[:]), "x-amz-Checksum-Algorithm", "SHA256")
	return err
}
