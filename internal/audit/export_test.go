package audit

// Limit sets the length at which f is full.
func (f *File) Limit(n int64) { f.max, f.full = n, n }

const (
	MaxMembers  = maxMembers
	MaxMessage  = maxMessage
	MaxPatience = maxPatience
)
