package main

import (
	"sync/atomic"

	"shale/internal/transfer"
)

// A gauge is a meter of work that has one phase.
type gauge struct {
	phase       string
	done, total atomic.Int64 // bytes
}

func (g *gauge) set(done, total int64) {
	g.done.Store(done)
	g.total.Store(total)
}

// Read implements meter.
func (g *gauge) Read() transfer.Reading {
	return transfer.Reading{Phase: g.phase, Done: g.done.Load(), Total: g.total.Load()}
}
