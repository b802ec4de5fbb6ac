package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"shale/internal/block"
	"shale/internal/vfs"
)

// countParts is the number of parts of a log, one for each first byte of an id.
const countParts = 1 << 8

// scratchReserve is the room that the count's file leaves on the disk.
const scratchReserve = 1 << 30

// A countLog is what the count of usage notes, in parts, each in its order. Little
// stays in memory; more goes to a file without a name, which is gone with the
// process.
type countLog struct {
	fs     vfs.FS
	buffer int // bytes of a part that are gathered in memory
	file   vfs.File
	end    int64
	parts  [countParts]struct {
		written []int64 // where in the file, buffer bytes each
		rest    []byte  // not yet in it
	}
}

// An event is what happens to a block from one holder to the next.
type event struct {
	holder int // index
	kind   eventKind
}

type eventKind byte

const (
	eventGone    eventKind = iota // the holder does not have it at an index where the one before did
	eventCame                     // the other way round
	eventWritten                  // to the holder, which is pending
)

// A countedID is an id, cut: 128 bits tell blocks apart just as well.
type countedID [16]byte

type loggedEvent struct {
	id countedID
	event
}

// A logged event takes 20 bytes: the id, then the holder and the kind.
const loggedSize = len(countedID{}) + 4

// add logs what happens to a block.
func (l *countLog) add(id block.ID, e event) error {
	p := &l.parts[id[0]]
	p.rest = append(p.rest, id[:len(countedID{})]...)
	p.rest = binary.LittleEndian.AppendUint32(p.rest, uint32(e.holder)<<2|uint32(e.kind))
	if len(p.rest)+loggedSize <= l.buffer {
		return nil
	}
	at, err := l.write(p.rest)
	if err != nil {
		return err
	}
	p.written = append(p.written, at)
	p.rest = p.rest[:0]
	return nil
}

// write puts a full buffer into the file.
func (l *countLog) write(b []byte) (int64, error) {
	if free, err := l.fs.Free(); err != nil {
		return 0, err
	} else if free < scratchReserve {
		return 0, errors.New("count usage: too little space left on the disk for what is to be counted")
	}
	if l.file == nil {
		const name = "usage.tmp"
		if err := l.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		var err error
		if l.file, err = l.fs.Create(name); err != nil {
			return 0, err
		}
		if err := l.fs.Remove(name); err != nil {
			return 0, err
		}
	}
	at := l.end
	if err := l.file.WriteAt([][]byte{b}, at); err != nil {
		return 0, fmt.Errorf("count usage: %w", err)
	}
	l.end += int64(len(b))
	return at, nil
}

// part gives the events of a part in their order.
func (l *countLog) part(number int) iter.Seq2[loggedEvent, error] {
	return func(yield func(loggedEvent, error) bool) {
		p := &l.parts[number]
		all := func(b []byte) bool {
			for ; len(b) > 0; b = b[loggedSize:] {
				word := binary.LittleEndian.Uint32(b[len(countedID{}):])
				if !yield(loggedEvent{countedID(b), event{int(word >> 2), eventKind(word & 3)}}, nil) {
					return false
				}
			}
			return true
		}
		b := make([]byte, l.buffer/loggedSize*loggedSize)
		for _, at := range p.written {
			if _, err := l.file.ReadAt(b, at); err != nil {
				yield(loggedEvent{}, fmt.Errorf("count usage: %w", err))
				return
			}
			if !all(b) {
				return
			}
		}
		all(p.rest)
	}
}

func (l *countLog) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
