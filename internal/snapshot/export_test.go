package snapshot

import "time"

// For tests of what happens when there is no buffer.
const (
	MaxWriting = maxWriting
	MaxReading = maxReading
)

// SetBufferWait sets how long a request waits for a buffer.
func (s *Service) SetBufferWait(d time.Duration) { s.bufferWait = d }

// Reading is how many blocks are in memory on their way out.
func Reading(s *Service) int { return len(s.reading) }

// SetMaxCounted sets how many blocks a pass of the count of usage holds.
func (s *Service) SetMaxCounted(n int) { s.maxCounted = n }
