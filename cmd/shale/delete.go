package main

import (
	"context"
	"errors"
	"fmt"
)

type deleteCmd struct {
	Snapshots []string `arg:"" name:"id" help:"The snapshots."`
	JSON      bool     `name:"json" help:"Print one JSON object."`
	clientFlags
}

// Help is shown by --help.
func (deleteCmd) Help() string {
	return `Nothing is asked. Children of a deleted snapshot keep all their blocks. An ID
that cannot be deleted does not keep the others from it. Prints the IDs deleted.

Examples:

    shale delete snap-0123456789abcdef0
    shale delete $(shale list | awk -F'\t' '$2 == "error" {print $1}')`
}

// deleteResult is the form of `shale delete --json`.
type deleteResult struct {
	Deleted []string       `json:"deleted"`
	Failed  []deleteFailed `json:"failed"`
}

type deleteFailed struct {
	ID    string `json:"snapshot_id"`
	Error string `json:"error"`
}

// Run deletes the snapshots.
func (c deleteCmd) Run(ctx context.Context, std streams) error {
	client, err := c.connect(ctx, 1, nil)
	if err != nil {
		return err
	}
	result := deleteResult{Deleted: []string{}, Failed: []deleteFailed{}}
	var errs []error
	for _, id := range c.Snapshots {
		if err := client.Delete(ctx, id); err != nil {
			errs = append(errs, err)
			result.Failed = append(result.Failed, deleteFailed{ID: id, Error: err.Error()})
			if ctx.Err() != nil {
				break
			}
			continue
		}
		result.Deleted = append(result.Deleted, id)
		if !c.JSON {
			fmt.Fprintln(std.out, id)
		}
	}
	if c.JSON {
		if err := printJSON(std, result); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}
