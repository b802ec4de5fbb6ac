package scrub

import (
	"context"
	"errors"
	"fmt"

	"shale/internal/blockstore"
	"shale/internal/domain"
)

// A Healer copies records from another store. What has the same id there is the
// same: a content in the unencrypted domain; elsewhere a content under one data
// key, which only a copy of the store shares, so it is taken over sealed.
type Healer struct {
	// Store is the one that is healed.
	Store interface {
		Heal(ctx context.Context, r *blockstore.Stored, payload []byte) error
	}
	// From and Medium are the other store.
	From   Catalog
	Medium Medium
	// Key gives the key of a domain of the store that is healed, if it is at
	// hand: then what is taken over is opened first.
	Key func(context.Context, domain.Number) *domain.Key
	// Refused is told what was not healed, and why.
	Refused func(f *Finding, why error)
}

// errNotThere says that the other store does not have a record.
var errNotThere = errors.New("the other store does not have it")

// Heal heals the records of the report that are damaged or missing, and those
// that are found once the maps can be walked further; the options say how. It
// gives the number of records healed, each durable.
func (h *Healer) Heal(ctx context.Context, o Options, report *Report) (healed int64, err error) {
	tried := make(map[*Finding]bool)
	refused := make(map[string]bool) // said once, in whichever walk
	for {
		progress := int64(0)
		for _, f := range report.Findings {
			if !f.Record() || tried[f] {
				continue
			}
			tried[f] = true
			switch err := h.one(ctx, f); {
			case err == nil:
				progress++
			case !errors.Is(err, errRefused):
				return healed, err
			case !refused[f.ID.String()]:
				refused[f.ID.String()] = true
				h.Refused(f, errors.Unwrap(err))
			}
		}
		if healed += progress; progress == 0 {
			return healed, nil
		}
		// A node that is back may lead to more.
		o.Read, o.Count, o.Mark = false, false, false
		w := New(o)
		if err := w.WalkMaps(ctx); err != nil {
			return healed, err
		}
		report = &w.Report
	}
}

// errRefused marks an error about one record.
var errRefused = errors.New("not healed")

// A refusal is why one record was not healed.
type refusal struct{ why error }

func (r refusal) Error() string        { return r.why.Error() }
func (r refusal) Unwrap() error        { return r.why }
func (r refusal) Is(target error) bool { return target == errRefused }

// one heals one record.
func (h *Healer) one(ctx context.Context, f *Finding) error {
	r, found, err := h.From.Record(ctx, f.ID)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return refusal{err}
	case !found || r.Kind != f.Kind:
		return refusal{errNotThere}
	}
	payload := make([]byte, r.Location.Length)
	if err := h.Medium.ReadAt(ctx, r.Location.Container, payload, r.Location.Offset); err != nil {
		return refusal{fmt.Errorf("the other store: %w", err)}
	}
	var key *domain.Key
	if s := r.Location.Sealing; s != nil {
		key = h.Key(ctx, s.Domain)
	}
	opened := append([]byte(nil), payload...) // in place
	if err := blockstore.Verify(&r, key, opened); err != nil {
		return refusal{fmt.Errorf("it is damaged in the other store, too: %w", err)}
	}
	return h.Store.Heal(ctx, &r, payload)
}
