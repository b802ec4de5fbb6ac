package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"shale/internal/transfer"
)

type listCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
	clientFlags
}

// Help is shown by --help.
func (listCmd) Help() string {
	return `A table on a terminal. Otherwise a line for each snapshot, its fields separated
by tabs: ID, status, GiB of the volume, start time, bytes of the image (- if not
known), description, tags.

Examples:

    shale list
    shale list | cut -f1
    shale list --json | jq -r '.snapshots[] | select(.status == "error").snapshot_id'`
}

// Run lists the caller's snapshots.
func (c listCmd) Run(ctx context.Context, std streams) error {
	client, err := c.connect(ctx, 1, nil)
	if err != nil {
		return err
	}
	all := []transfer.Snapshot{}
	for s, err := range client.List(ctx) {
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	switch {
	case c.JSON:
		return printJSON(std, map[string]any{"snapshots": all})
	case !isTerminal(std.out):
		return printLines(std.out, all)
	case len(all) == 0:
		_, err := fmt.Fprintf(std.err, "no snapshots at %s; the first: shale upload IMAGE\n", client.Endpoint())
		return err
	}
	return printTable(std.out, all)
}

func printLines(w io.Writer, all []transfer.Snapshot) error {
	for i := range all {
		s := &all[i]
		image := "-"
		if n, ok := s.ImageBytes(); ok {
			image = fmt.Sprint(n)
		}
		_, err := fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.State, s.VolumeSize,
			s.StartTime.UTC().Format(time.RFC3339), image, oneLine(s.Description), oneLine(tagText(s)))
		if err != nil {
			return err
		}
	}
	return nil
}

func printTable(w io.Writer, all []transfer.Snapshot) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SNAPSHOT\tSTATUS\tVOLUME\tIMAGE\tSTARTED\tDESCRIPTION")
	for i := range all {
		s := &all[i]
		image := "-"
		if n, ok := s.ImageBytes(); ok {
			image = sizeText(n)
		}
		text := strings.TrimSpace(oneLine(s.Description) + " " + oneLine(tagText(s)))
		if s.Message != "" {
			text = strings.TrimSpace("! " + oneLine(s.Message) + " " + text)
		}
		fmt.Fprintf(t, "%s\t%s\t%d GiB\t%s\t%s\t%s\n", s.ID, s.State, s.VolumeSize, image,
			s.StartTime.Local().Format("2006-01-02 15:04"), text)
	}
	return t.Flush()
}

// tagText gives a snapshot's tags but the one that has a column of its own.
func tagText(s *transfer.Snapshot) string {
	var parts []string
	for _, t := range s.Tags {
		if t.Key != transfer.LengthTag {
			parts = append(parts, t.Key+"="+t.Value)
		}
	}
	return strings.Join(parts, ",")
}

// oneLine replaces what would tear a line or a column, or command a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
