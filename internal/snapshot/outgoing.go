package snapshot

import (
	"context"
	"errors"

	"shale/internal/buffer"
	"shale/internal/seat"
)

// An outgoing block is one on its way to a client, in a buffer of those that all
// reads share.
type outgoing struct {
	service *Service
	buf     *buffer.Buffer
	seats   [2]*seat.Seat // of reading and, for an image's block, of imaging
}

// outgoing takes a buffer for a block that client, which may be nil, is to have.
// If none becomes free the client is told to come back: its library does that by
// itself, and waiting here would only lengthen the queue.
func (s *Service) outgoing(ctx context.Context, client seat.Client) (*outgoing, error) {
	reading, err := s.reading.Take(ctx, client)
	if err != nil {
		return nil, noRoom(err)
	}
	return s.seated(reading, nil), nil
}

// imageOutgoing takes one for a block of an image, which has no other one while
// it waits.
func (s *Service) imageOutgoing(ctx context.Context, client seat.Client) (*outgoing, error) {
	imaging, err := s.imaging.Take(ctx, client)
	if err != nil {
		return nil, noRoom(err)
	}
	reading, err := s.reading.Take(ctx, client)
	if err != nil {
		imaging.Leave()
		return nil, noRoom(err)
	}
	return s.seated(reading, imaging), nil
}

// spareOutgoing takes one for a block of an image if at least half of all are
// free, else it returns nil at once.
func (s *Service) spareOutgoing(client seat.Client) *outgoing {
	if s.reading.Taken() >= maxReading/2 {
		return nil
	}
	imaging := s.imaging.TryTake(client)
	if imaging == nil {
		return nil
	}
	reading := s.reading.TryTake(client)
	if reading == nil {
		imaging.Leave()
		return nil
	}
	return s.seated(reading, imaging)
}

func (s *Service) seated(reading, imaging *seat.Seat) *outgoing {
	return &outgoing{service: s, buf: buffer.Get(), seats: [2]*seat.Seat{reading, imaging}}
}

// send says that the block is the client's to take from now on: if others wait
// and it does not, it is interrupted.
func (o *outgoing) send() {
	for _, place := range o.seats {
		if place != nil {
			place.Send(o.service.takeWithin)
		}
	}
}

// release gives the buffer back.
func (o *outgoing) release() {
	buffer.Put(o.buf)
	for _, place := range o.seats {
		if place != nil {
			place.Leave()
		}
	}
}

// A Place is room for one page of blocks. One goroutine owns it.
type Place struct {
	service *Service
	seat    *seat.Seat
}

// TakePlace takes a place for a page of ListBlocks, ListChangedBlocks or
// ListPending that client, which may be nil, has asked for, and for the answer that
// is made of it. Its owner asks for the page then, and leaves it when the answer is
// sent. If none becomes free the client is told to come back.
func (s *Service) TakePlace(ctx context.Context, client seat.Client) (*Place, error) {
	place, err := s.listing.Take(ctx, client)
	if err != nil {
		return nil, noRoom(err)
	}
	return &Place{s, place}, nil
}

// Send says that the answer is the client's to take from now on: if others wait
// and it does not, it is interrupted.
func (p *Place) Send() { p.seat.Send(p.service.takeWithin) }

// Leave gives the place back.
func (p *Place) Leave() { p.seat.Leave() }

// noRoom is the service's error for one of a room's.
func noRoom(err error) error {
	if errors.Is(err, seat.ErrFull) {
		return &Error{Code: Throttled}
	}
	return err
}
