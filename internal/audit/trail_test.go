package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"shale/internal/audit"
)

// A sink is a writer that fails or stalls on demand.
type sink struct {
	mu    sync.Mutex
	err   error
	stall chan struct{} // a write waits for it to be closed; nil for none
	lines []string
}

func (s *sink) set(err error, stall chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.stall = err, stall
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	err, stall := s.err, s.stall
	s.mu.Unlock()
	if stall != nil {
		<-stall
	}
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(p))
	return len(p), nil
}

func count(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "shale_audit_failures_total" {
		t.Fatalf("%v: %v", families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func newTrail(t *testing.T) (write func(id int), s *sink, log *bytes.Buffer, registry *prometheus.Registry) {
	t.Helper()
	s, log, registry = &sink{}, &bytes.Buffer{}, prometheus.NewRegistry()
	trail := audit.NewTrail(audit.Options{Out: s, Logger: slog.New(slog.NewTextHandler(log, nil)), Registry: registry})
	return func(id int) {
		trail.Write(&audit.Event{Call: audit.Call{Name: "x"}, ID: fmt.Sprint(id), Record: trail.NewRecord()})
	}, s, log, registry
}

// Lines that are lost are counted, and logged when that begins and ends.
func TestLoss(t *testing.T) {
	write, s, log, registry := newTrail(t)
	write(1)
	if got := count(t, registry); got != 0 || log.Len() > 0 {
		t.Errorf("%v failures, log %q", got, log)
	}
	s.set(errors.New("no space"), nil)
	for range 3 {
		write(2)
	}
	if got := count(t, registry); got != 3 || strings.Count(log.String(), "loses lines") != 1 || !strings.Contains(log.String(), "no space") {
		t.Errorf("%v failures, log %q", got, log)
	}
	s.set(nil, nil)
	write(3)
	if got := count(t, registry); got != 3 || !strings.Contains(log.String(), "written again") || !strings.Contains(log.String(), "lost=3") {
		t.Errorf("%v failures, log %q", got, log)
	}
	if len(s.lines) != 2 {
		t.Errorf("lines %q", s.lines)
	}
}

// Who takes no lines holds up the calls of ten seconds, and then that one alone
// which writes.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		write, s, _, registry := newTrail(t)
		stall := make(chan struct{})
		s.set(nil, stall)
		var first sync.WaitGroup
		first.Go(func() { write(0) })
		synctest.Wait()
		began := time.Now()
		var waiting sync.WaitGroup
		for id := range 5 {
			waiting.Go(func() { write(id) })
		}
		waiting.Wait()
		if took := time.Since(began); took != audit.MaxPatience {
			t.Errorf("waited for %v", took)
		}
		for id := range 5 {
			write(id)
		}
		if took := time.Since(began); took != audit.MaxPatience || count(t, registry) != 10 {
			t.Errorf("%v lost after %v", count(t, registry), took)
		}
		s.set(nil, nil)
		close(stall)
		first.Wait()
		write(9)
		if len(s.lines) != 2 || count(t, registry) != 10 {
			t.Errorf("%v lost, lines %q", count(t, registry), s.lines)
		}

		// Afterwards lines wait for their turn as before.
		stall = make(chan struct{})
		s.set(nil, stall)
		first.Go(func() { write(10) })
		synctest.Wait()
		first.Go(func() { write(11) })
		synctest.Wait()
		close(stall)
		first.Wait()
		if len(s.lines) != 4 || count(t, registry) != 10 {
			t.Errorf("%v lost, lines %q", count(t, registry), s.lines)
		}
	})
}
