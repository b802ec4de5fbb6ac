package rest

import (
	"net/http"
	"sync"

	"shale/internal/block"
	"shale/internal/snapshot"
)

// A Codec is what tells the six operations of one dialect from those of the
// other: how a StartSnapshot is read, and how answers are written.
type Codec struct {
	// Start decodes the body of a StartSnapshot.
	Start func(body []byte) (snapshot.StartRequest, error)
	// Started, Written, Completed, Blocks and Changed append an answer.
	Started   func(buf []byte, s *snapshot.Snapshot) []byte
	Written   func(buf []byte, d block.Digest) []byte
	Completed func(buf []byte, s snapshot.State) []byte
	Blocks    func(buf []byte, p *snapshot.BlockPage) []byte
	Changed   func(buf []byte, p *snapshot.ChangedPage) []byte
	// Before and After are what stands around each answer.
	Before, After string
	// ChecksumOptional admits block writes without length, checksum and
	// algorithm.
	ChecksumOptional bool
}

// Serve does one of the six operations for the caller. It returns an error
// only if it has written nothing.
func (c *Codec) Serve(w http.ResponseWriter, r *http.Request, s *snapshot.Service, caller snapshot.Caller, rt Route, signed *block.Digest) error {
	if rt.Op == GetSnapshotBlock {
		return getBlock(w, r, s, caller, rt)
	}
	if rt.Op == ListSnapshotBlocks || rt.Op == ListChangedBlocks {
		return c.list(w, r, s, caller, rt)
	}
	buf, status, err := []byte(c.Before), http.StatusCreated, error(nil)
	switch rt.Op {
	case StartSnapshot:
		buf, err = c.start(buf, r, s, caller)
	case PutSnapshotBlock:
		buf, err = c.putBlock(buf, w, r, s, caller, rt, signed)
	default:
		status = http.StatusAccepted
		buf, err = c.complete(buf, r, s, caller, rt)
	}
	if err != nil {
		return err
	}
	Send(w, status, "application/json", append(buf, c.After...))
	return nil
}

// list answers with a page of blocks.
func (c *Codec) list(w http.ResponseWriter, r *http.Request, s *snapshot.Service, caller snapshot.Caller, rt Route) error {
	place, err := s.TakePlace(r.Context(), Client(w))
	if err != nil {
		return err
	}
	defer place.Leave()
	kept := pages.Get().(*[]byte)
	defer pages.Put(kept)
	buf := (*kept)[:0]
	buf = append(buf, c.Before...)
	if rt.Op == ListSnapshotBlocks {
		buf, err = c.listBlocks(buf, r, s, caller, rt)
	} else {
		buf, err = c.listChanged(buf, r, s, caller, rt)
	}
	if err != nil {
		return err
	}
	buf = append(buf, c.After...)
	*kept = buf
	place.Send()
	Send(w, http.StatusOK, "application/json", buf)
	return nil
}

// pages are the buffers of pages that have been sent. One takes more than a MiB,
// and memory that is new for each costs as much as its tokens.
var pages = sync.Pool{New: func() any { return new([]byte) }}

func (c *Codec) start(buf []byte, r *http.Request, s *snapshot.Service, caller snapshot.Caller) ([]byte, error) {
	body, err := ReadBody(r, MaxJSON)
	if err != nil {
		return nil, err
	}
	req, err := c.Start(body)
	if err != nil {
		return nil, err
	}
	auditStart(r.Context(), &req)
	snap, err := s.Start(r.Context(), caller, req)
	if err != nil {
		return nil, err
	}
	auditStarted(r.Context(), &snap)
	return c.Started(buf, &snap), nil
}

func (c *Codec) putBlock(buf []byte, w http.ResponseWriter, r *http.Request, s *snapshot.Service, caller snapshot.Caller, rt Route, signed *block.Digest) ([]byte, error) {
	req, err := rt.PutBlock(r)
	if err != nil {
		return nil, err
	}
	req.SignedDigest, req.ChecksumOptional = signed, c.ChecksumOptional
	auditPut(r.Context(), &req)
	digest, err := s.PutBlock(r.Context(), caller, req)
	if err != nil {
		return nil, err
	}
	auditWritten(r.Context(), digest)
	SetChecksum(w.Header(), digest)
	return c.Written(buf, digest), nil
}

func (c *Codec) complete(buf []byte, r *http.Request, s *snapshot.Service, caller snapshot.Caller, rt Route) ([]byte, error) {
	req, err := rt.Complete(r)
	if err != nil {
		return nil, err
	}
	auditComplete(r.Context(), &req)
	state, err := s.Complete(r.Context(), caller, req)
	if err != nil {
		return nil, err
	}
	auditCompleted(r.Context(), state)
	return c.Completed(buf, state), nil
}

func (c *Codec) listBlocks(buf []byte, r *http.Request, s *snapshot.Service, caller snapshot.Caller, rt Route) ([]byte, error) {
	req, err := rt.ListBlocks(r)
	if err != nil {
		return nil, err
	}
	AuditListBlocks(r.Context(), &req)
	page, err := s.ListBlocks(r.Context(), caller, req)
	if err != nil {
		return nil, err
	}
	return c.Blocks(buf, &page), nil
}

func (c *Codec) listChanged(buf []byte, r *http.Request, s *snapshot.Service, caller snapshot.Caller, rt Route) ([]byte, error) {
	req, err := rt.ListChanged(r)
	if err != nil {
		return nil, err
	}
	auditListChanged(r.Context(), &req)
	page, err := s.ListChangedBlocks(r.Context(), caller, req)
	if err != nil {
		return nil, err
	}
	return c.Changed(buf, &page), nil
}

// getBlock answers with the block itself, in every dialect.
func getBlock(w http.ResponseWriter, r *http.Request, s *snapshot.Service, caller snapshot.Caller, rt Route) error {
	req, err := rt.GetBlock(r)
	if err != nil {
		return err
	}
	auditGetBlock(r.Context(), &req)
	req.Client = Client(w)
	data, err := s.GetBlock(r.Context(), caller, req)
	if err != nil {
		return err
	}
	defer data.Release()
	SendBlock(w, data.Bytes, data.Digest)
	return nil
}
