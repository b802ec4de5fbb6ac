package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"shale/internal/transfer"
)

const (
	// barRate is how often the bar is drawn, lineRate how often a line is
	// printed where there is no terminal, the first after lineDelay.
	barRate   = 120 * time.Millisecond
	lineRate  = 5 * time.Second
	lineDelay = time.Second
)

// A meter tells how far something has come; a transfer's Meter does.
type meter interface{ Read() transfer.Reading }

// A progress shows a meter on a stream, and notes between.
type progress struct {
	w    io.Writer
	quit chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex    // guards what follows
	bars *mpb.Progress // while a bar is on the terminal
}

func newProgress(w io.Writer) *progress { return &progress{w: w} }

// start begins to show m, until stop.
func (p *progress) start(m meter) {
	p.quit = make(chan struct{})
	p.wg.Go(func() {
		if isTerminal(p.w) {
			p.drawBars(m)
		} else {
			p.printLines(m)
		}
	})
}

// stop ends the showing, after a last look at the Meter on a terminal.
func (p *progress) stop() {
	close(p.quit)
	p.wg.Wait()
}

func (p *progress) drawBars(m meter) {
	bars := mpb.New(mpb.WithOutput(p.w), mpb.WithRefreshRate(barRate), mpb.WithWidth(helpWidth))
	p.mu.Lock()
	p.bars = bars
	p.mu.Unlock()
	tick := time.NewTicker(barRate)
	defer tick.Stop()
	var bar *mpb.Bar
	shown := ""
	for running := true; running; {
		select {
		case <-tick.C:
		case <-p.quit:
			running = false
		}
		r := m.Read()
		if r.Phase != shown {
			if bar != nil {
				bar.Abort(true)
			}
			bar, shown = newBar(bars, r), r.Phase
		}
		if bar != nil {
			bar.SetTotal(r.Total, false)
			bar.SetCurrent(min(r.Done, r.Total))
		}
	}
	if bar != nil {
		bar.Abort(true) // the summary says it all
	}
	p.mu.Lock()
	p.bars = nil
	p.mu.Unlock()
	bars.Wait()
}

// newBar adds the bar of a phase; one whose end cannot be known spins.
func newBar(bars *mpb.Progress, r transfer.Reading) *mpb.Bar {
	name := decor.Name(r.Phase, decor.WCSyncSpaceR)
	if r.Total == 0 {
		return bars.AddSpinner(0, mpb.PrependDecorators(name))
	}
	return bars.AddBar(r.Total,
		mpb.PrependDecorators(name, decor.Percentage(decor.WC{W: 5})),
		mpb.AppendDecorators(
			decor.CountersKibiByte("% .1f of % .1f"),
			decor.AverageSpeed(decor.SizeB1024(0), "  % .1f"),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), ""),
		),
	)
}

func (p *progress) printLines(m meter) {
	began, shown := time.Now(), ""
	tick := time.NewTimer(lineDelay)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.quit:
			return
		}
		tick.Reset(lineRate)
		r := m.Read()
		if r.Phase != shown {
			began, shown = time.Now(), r.Phase
		}
		if r.Phase != "" {
			fmt.Fprintln(p.w, progressLine(r, time.Since(began)))
		}
	}
}

// progressLine describes a reading in words, given how long its phase has been
// watched.
func progressLine(r transfer.Reading, watched time.Duration) string {
	if r.Total == 0 {
		return r.Phase
	}
	s := fmt.Sprintf("%s: %s of %s (%d%%)", r.Phase, sizeText(r.Done), sizeText(r.Total), r.Done*100/r.Total)
	if rate := float64(r.Done) / watched.Seconds(); watched > lineDelay && rate > 0 {
		left := time.Duration(float64(max(0, r.Total-r.Done)) / rate * float64(time.Second))
		s += fmt.Sprintf(", %s/s, %s left", sizeText(int64(rate)), left.Round(time.Second))
	}
	return s
}

// logger returns a logger for notes to the person, which appear above a bar.
func (p *progress) logger() *slog.Logger { return slog.New(&noteHandler{p: p}) }

// A noteHandler prints records as sentences: "shale: message (key value, …)".
type noteHandler struct {
	p     *progress
	attrs []slog.Attr
}

func (h *noteHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *noteHandler) Handle(_ context.Context, r slog.Record) error {
	var parts []string
	add := func(a slog.Attr) bool {
		parts = append(parts, a.Key+" "+a.Value.String())
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	note := "shale: " + r.Message
	if len(parts) > 0 {
		note += " (" + strings.Join(parts, ", ") + ")"
	}
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	w := h.p.w
	if h.p.bars != nil {
		w = h.p.bars
	}
	_, err := fmt.Fprintln(w, note)
	return err
}

func (h *noteHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &noteHandler{p: h.p, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h *noteHandler) WithGroup(string) slog.Handler { return h }
