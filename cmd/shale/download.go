package main

import (
	"context"
	"fmt"

	"shale/internal/transfer"
)

type downloadCmd struct {
	Snapshot string `arg:"" name:"id" help:"The snapshot."`
	File     string `arg:"" name:"file" help:"The file to make."`
	Force    bool   `name:"force" help:"Replace FILE if it is there, once the new one is whole."`
	JSON     bool   `name:"json" help:"Print one JSON object."`
	parallelFlag
	clientFlags
}

// Help is shown by --help.
func (downloadCmd) Help() string {
	return `FILE appears under its name only when every block of it has been verified and
written; it is sparse. It is as long as the image that was uploaded (tag
shale:image-bytes), and without that tag as long as the volume.

Examples:

    shale download snap-0123456789abcdef0 disk.img
    shale download snap-0123456789abcdef0 disk.img --force`
}

// Run downloads the snapshot.
func (c downloadCmd) Run(ctx context.Context, std streams) error {
	if err := checkNoStream(c.File); err != nil {
		return err
	}
	show := newProgress(std.err)
	client, err := c.connect(ctx, c.Parallel, show.logger())
	if err != nil {
		return err
	}
	request := transfer.DownloadRequest{
		Snapshot: c.Snapshot,
		Path:     c.File,
		Replace:  c.Force,
		Meter:    &transfer.Meter{},
	}
	show.start(request.Meter)
	result, err := client.Download(ctx, request)
	show.stop()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, result)
	}
	whole := ""
	if !result.Exact {
		whole = ", the whole volume, since no tag tells the image's length"
	}
	_, err = fmt.Fprintf(std.err, "%s (%s%s): received %s (%s), all verified, in %s\n", c.File, sizeText(result.Bytes), whole,
		count(result.Received, "block"), sizeText(result.BytesReceived), secondsText(result.Seconds))
	return err
}
