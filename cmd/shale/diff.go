package main

import (
	"bufio"
	"context"
	"fmt"

	"shale/internal/block"
)

type diffCmd struct {
	First  string `arg:"" name:"a" help:"The earlier snapshot."`
	Second string `arg:"" name:"b" help:"The later snapshot."`
	JSON   bool   `name:"json" help:"Print one JSON object."`
	clientFlags
}

// Help is shown by --help.
func (diffCmd) Help() string {
	return `Prints the index of each block that differs, one a line, ascending; block N are
the bytes from N x 524288. The snapshots must be of one lineage, in either order.
The exit code is 0 whether they differ or not.

Examples:

    shale diff snap-0123456789abcdef0 snap-0fedcba9876543210
    shale diff A B --json | jq .count`
}

// diffResult is the form of `shale diff --json`.
type diffResult struct {
	First  string        `json:"first_snapshot_id"`
	Second string        `json:"second_snapshot_id"`
	Count  int           `json:"count"`
	Blocks []block.Index `json:"blocks"`
	// OnlyFirst and OnlySecond are those of Blocks where the other snapshot
	// has none.
	OnlyFirst  []block.Index `json:"only_in_first"`
	OnlySecond []block.Index `json:"only_in_second"`
}

// Run compares the snapshots.
func (c diffCmd) Run(ctx context.Context, std streams) error {
	client, err := c.connect(ctx, 1, nil)
	if err != nil {
		return err
	}
	result := diffResult{
		First: c.First, Second: c.Second,
		Blocks: []block.Index{}, OnlyFirst: []block.Index{}, OnlySecond: []block.Index{},
	}
	for d, err := range client.Diff(ctx, c.First, c.Second) {
		if err != nil {
			return err
		}
		result.Blocks = append(result.Blocks, d.Index)
		switch {
		case !d.InSecond:
			result.OnlyFirst = append(result.OnlyFirst, d.Index)
		case !d.InFirst:
			result.OnlySecond = append(result.OnlySecond, d.Index)
		}
	}
	result.Count = len(result.Blocks)
	if c.JSON {
		return printJSON(std, result)
	}
	out := bufio.NewWriter(std.out)
	for _, i := range result.Blocks {
		fmt.Fprintln(out, i)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(std.err, diffSummary(result))
	return nil
}

func diffSummary(r diffResult) string {
	if r.Count == 0 {
		return "no block differs"
	}
	s := fmt.Sprintf("%s (%s) in which the snapshots differ", count(int64(r.Count), "block"), sizeText(int64(r.Count)*block.Size))
	if n := len(r.OnlyFirst); n > 0 {
		s += fmt.Sprintf(", %d only in %s", n, r.First)
	}
	if n := len(r.OnlySecond); n > 0 {
		s += fmt.Sprintf(", %d only in %s", n, r.Second)
	}
	return s
}
