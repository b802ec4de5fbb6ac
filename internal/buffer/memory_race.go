//go:build race

package buffer

// hugePages is for those who do something else without them: it is to be
// examined, too.
func hugePages() bool { return true }

// The race detector watches Go's own memory only.
func allocate(size int) ([]byte, error) { return make([]byte, size), nil }

func inHugePages([]byte) {}

func release([]byte) {}
