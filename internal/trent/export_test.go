package trent

import (
	"maps"
	"slices"
)

// Operations are the names of those that are served.
func Operations() []string { return slices.Sorted(maps.Keys(operations)) }
