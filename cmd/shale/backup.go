package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"shale/internal/backup"
	"shale/internal/datadir"
)

type backupCmd struct {
	DataDir  string `required:"" placeholder:"DIR" env:"SHALE_DATA_DIR" help:"The server's data folder."`
	Dest     string `arg:"" placeholder:"DEST" help:"Folder of the copy; made if it does not exist."`
	WithKeys bool   `help:"Copy DIR/keys, too: whoever has the copy can then read what is encrypted in it, unless the root key is elsewhere."`
	JSON     bool   `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (backupCmd) Help() string {
	return `Makes a copy of the data folder DIR in DEST, as it is at one moment, while the
server runs or not. Given again with the same DEST it copies what is new. DEST
stays the copy that it was until the new one is whole.

The copy is a data folder. To restore is to start on it:

    shale serve --data-dir DEST

From then on DEST is a store of its own, and no backup any more. It has the
access keys of all accounts: keep it as safe as DIR. Without --with-keys the
encrypted snapshots in it need a copy of DIR/keys, kept apart. Keys that an earlier
run with it copied stay in DEST/keys until that folder is removed by hand.

What the disk cannot read of DIR is no reason to copy nothing: DEST keeps what it
had there before, or has zeros, which no reader takes for data. The exit code is 1.

A folder whose catalog is in PostgreSQL is refused: stop its server, and copy the
database and the folder together.

Exit codes: 0 done, 1 failed, 2 wrong usage.

Examples:

    shale backup --data-dir /srv/shale /mnt/backup/shale
    shale backup --data-dir /srv/shale --with-keys --json /mnt/backup/shale`
}

// Run makes the copy.
func (c *backupCmd) Run(ctx context.Context, std streams) (err error) {
	source, err := filepath.Abs(c.DataDir)
	if err != nil {
		return err
	}
	target, err := filepath.Abs(c.Dest)
	if err != nil {
		return err
	}
	if target == source || strings.HasPrefix(target, source+string(filepath.Separator)) {
		return usagef("DEST is the data folder itself, or in it: give a folder elsewhere, best on another disk")
	}
	if err := datadir.CheckHere(source); err != nil {
		return err
	}
	cat, err := openBeside(ctx, source, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	dest, err := datadir.Open(target)
	if err != nil {
		return err
	}
	defer dest.Close()
	show, copying := newProgress(std.err), &gauge{phase: "copying segments"}
	show.start(copying)
	report, err := backup.Run(ctx, backup.Options{
		Source: source, Catalog: cat, Dest: dest, WithKeys: c.WithKeys, Progress: copying.set,
	})
	show.stop()
	if err != nil {
		return err
	}
	if c.JSON {
		return errors.Join(printObject(std, report), unreadable(report, c.DataDir))
	}
	fmt.Fprintf(std.out, "%s is a copy of %s: %s (%s), %d copied now (%s), and the catalog (%s).\n",
		c.Dest, c.DataDir, count(int64(report.Segments), "segment"), sizeText(report.TotalBytes), report.Copied, sizeText(report.CopiedBytes), sizeText(report.CatalogBytes))
	switch {
	case report.OldKeys:
		// They are not removed: nobody said so, and they may be the last copy.
		fmt.Fprintf(std.err, "Keys were not copied, but those of an earlier --with-keys are still in %s: remove that folder if the copy is to have none.\n",
			filepath.Join(c.Dest, "keys"))
	case !report.Keys:
		fmt.Fprintln(std.err, "Keys were not copied: encrypted snapshots in the copy need DIR/keys, and the root key.")
	}
	return unreadable(report, c.DataDir)
}

// unreadable is an error if the disk could not read something of the folder.
func unreadable(report *backup.Report, dir string) error {
	if len(report.Unreadable) == 0 {
		return nil
	}
	total, first := int64(0), report.Unreadable[0]
	for _, gap := range report.Unreadable {
		total += gap.Bytes
	}
	return fmt.Errorf("the disk cannot read %s of the segments, the first in segment %d at %d: there the copy has what it had before, or zeros; "+
		"all the rest is copied; what needs them: shale scrub --data-dir %s", sizeText(total), first.Segment, first.Offset, dir)
}
