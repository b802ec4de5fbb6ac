package main

import (
	"context"
	"fmt"
	"strings"

	"shale/internal/transfer"
)

type uploadCmd struct {
	Image       string            `arg:"" name:"image" help:"A disk image, or a block device."`
	Parent      *string           `name:"parent" placeholder:"ID" help:"Snapshot of the same disk, from before. Only blocks that differ travel."`
	Description string            `name:"description" placeholder:"TEXT" help:"Text that the snapshot carries."`
	Tag         map[string]string `name:"tag" placeholder:"KEY=VALUE" mapsep:"none" help:"A tag for the snapshot. May be repeated."`
	JSON        bool              `name:"json" help:"Print one JSON object."`
	parallelFlag
	clientFlags
}

// Help is shown by --help.
func (uploadCmd) Help() string {
	return `Returns when the snapshot is completed, and prints its ID. Holes of a sparse
image are not read and zeros are not sent. On failure, nothing is left behind.

The digests of what was sent are kept in ~/.cache/shale, so that the upload of a
child need not read its parent. The image's exact length is kept in the tag
shale:image-bytes, so that a download has it.

Examples:

    shale upload disk.img
    shale upload disk.img --parent snap-0123456789abcdef0
    id=$(shale upload /dev/vg0/home-snapshot --description "home, Monday")`
}

// Run uploads the image.
func (c uploadCmd) Run(ctx context.Context, std streams) error {
	request := transfer.UploadRequest{Path: c.Image, Description: c.Description, Meter: &transfer.Meter{}}
	if c.Parent != nil {
		// Of a script whose variable is empty; to send everything is not what it wants.
		if request.Parent = *c.Parent; request.Parent == "" {
			return usagef("--parent is empty; name a snapshot, or leave it out")
		}
	}
	if err := checkNoStream(c.Image); err != nil {
		return err
	}
	show := newProgress(std.err)
	client, err := c.connect(ctx, c.Parallel, show.logger())
	if err != nil {
		return err
	}
	if request.Tags, err = tags(c.Tag); err != nil {
		return err
	}
	show.start(request.Meter)
	result, err := client.Upload(ctx, request)
	show.stop()
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(std, result)
	} else {
		fmt.Fprintln(std.err, uploadSummary(c.Image, result))
		_, err = fmt.Fprintln(std.out, result.SnapshotID)
	}
	if err != nil { // the snapshot is there, and somebody has to know its name
		fmt.Fprintf(std.err, "shale: the snapshot is %s\n", result.SnapshotID)
	}
	return err
}

func uploadSummary(image string, r transfer.UploadResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): sent %s (%s)", image, sizeText(r.Bytes), count(r.Sent, "block"), sizeText(r.BytesSent))
	if r.ParentID != "" {
		fmt.Fprintf(&b, ", %s unchanged since %s", count(r.Unchanged, "block"), r.ParentID)
	}
	if r.Zeroed > 0 {
		fmt.Fprintf(&b, ", %d of those sent now zeros", r.Zeroed)
	}
	fmt.Fprintf(&b, ", in %s", secondsText(r.Seconds))
	return b.String()
}
