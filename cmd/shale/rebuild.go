package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/domain"
	"shale/internal/rebuild"
	"shale/internal/token"
	"shale/internal/vfs"
)

type rebuildCmd struct {
	DataDir string `required:"" placeholder:"DIR" env:"SHALE_DATA_DIR" help:"The server's data folder."`
	Verify  bool   `help:"Read all blocks, too, to find what is damaged."`
	Force   bool   `help:"Move the catalog that is there aside; the new one takes its place."`
	JSON    bool   `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (rebuildCmd) Help() string {
	return `When DIR/catalog.db is lost or beyond repair, and there is no backup, this makes a
new one from DIR/segments: every completed snapshot with its blocks, tags, grants,
lock and place in the recycle bin. Encrypted ones need DIR/keys as before. The
server must not be running. The segments are read and not changed; nothing is
put in place before all is done.

Lost are: accounts that own no snapshot, users and roles with their keys and
policies, snapshots that were pending, the settings of accounts, bearer tokens and
client tokens. Block, page and session tokens from before are void. Access keys are
taken from DIR/credentials; an account that has none there gets a new one.

A folder whose catalog is in PostgreSQL is refused: put back a copy of that
database.

Exit codes: 0 all is back, 1 it failed, or the report names what is incomplete,
2 wrong usage.

Examples:

    shale rebuild --data-dir /srv/shale
    shale rebuild --data-dir /srv/shale --verify --json | jq .incomplete`
}

// Run makes the catalog anew.
func (c *rebuildCmd) Run(ctx context.Context, std streams) (err error) {
	info, err := os.Stat(filepath.Join(c.DataDir, "segments"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !info.IsDir() {
		return fmt.Errorf("%s is no data folder: it has no folder segments; give the one that the server was started with", c.DataDir)
	}
	dir, err := datadir.Open(c.DataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, tied, err := datadir.TieOf(dir.Path()); err != nil || tied {
		return errors.Join(err, fmt.Errorf("the catalog of %s is in PostgreSQL: put back a copy of that database; only if there is none, "+
			"remove %s, and a catalog in the folder is made; nothing was changed", dir.Path(), filepath.Join(dir.Path(), "catalog.id")))
	}
	had, err := dir.HasCatalog()
	if err != nil {
		return err
	}
	if had && !c.Force {
		return fmt.Errorf("%s is there: a catalog that is rebuilt knows less than one that can be opened; "+
			"to move it aside and go on, give --force", dir.Catalog())
	}
	if err := dir.DropNewCatalog(); err != nil {
		return err
	}
	report, err := c.rebuild(ctx, std, dir)
	if err != nil {
		return errors.Join(err, dir.DropNewCatalog())
	}
	aside, err := dir.AdoptCatalog()
	if err != nil {
		return fmt.Errorf("put the new catalog in its place: %w", err)
	}
	for _, a := range report.Accounts {
		if a.NewKey && a.Name != defaultAccount {
			if err := c.addProfile(ctx, std, dir, a.Name); err != nil {
				return err
			}
		}
	}
	return c.print(std, report, aside)
}

// rebuild makes the catalog under its temporary name, durably.
func (c *rebuildCmd) rebuild(ctx context.Context, std streams, dir *datadir.Dir) (report *rebuild.Report, err error) {
	cat, err := catalog.Open(ctx, dir.NewCatalog(), time.Now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cat.Close(), cat.Err()) }() // the last sync is Close's
	show, read := newProgress(std.err), &gauge{phase: "reading segments"}
	show.start(read)
	defer show.stop()
	report, err = rebuild.Run(ctx, rebuild.Options{
		Segments: vfs.Dir(dir.Segments()), Catalog: cat, Verify: c.Verify,
		AccessKey: func(account, name string) (catalog.AccessKey, bool, error) { return adoptKey(dir, account, name) },
		HasDomain: func(n domain.Number) (bool, error) {
			_, err := os.Stat(filepath.Join(dir.Domains(), n.String()))
			if errors.Is(err, os.ErrNotExist) {
				return false, nil
			}
			return err == nil, err
		},
		Progress: read.set,
	})
	if err != nil {
		return nil, err
	}
	// The old one is lost with all tokens under it.
	if _, _, err := cat.Setting(ctx, settingTokenKey, func() []byte { return random(token.KeySize) }); err != nil {
		return nil, err
	}
	// Its number is lost if it owns nothing; its key need not be.
	_, found, err := cat.AccountKey(ctx, defaultAccount)
	if err == nil && !found {
		var key catalog.AccessKey
		if key, _, err = adoptKey(dir, newAccessKey().Account, defaultAccount); err == nil {
			err = cat.CreateAccount(ctx, defaultAccount, key)
		}
	}
	return report, err
}

// adoptKey gives the access key that the folder's credentials have for the
// account, or a new one.
func adoptKey(dir *datadir.Dir, account, name string) (catalog.AccessKey, bool, error) {
	key := newAccessKey()
	key.Account = account
	id, secret, found, err := datadir.ProfileKey(dir.Path(), name)
	if found {
		key.ID, key.Secret = id, secret
	}
	return key, found, err
}

// addProfile writes the new key of an account into the folder's files.
func (c *rebuildCmd) addProfile(ctx context.Context, std streams, dir *datadir.Dir, name string) error {
	cat, err := openBeside(ctx, dir.Path(), "")
	if err != nil {
		return err
	}
	defer cat.Close()
	if err := datadir.AddProfile(dir.Path(), name, keyOf(ctx, cat, name)); errors.Is(err, datadir.ErrNoServer) {
		fmt.Fprintf(std.err, "shale: after the next start, write the profile of account %s: shale account create --data-dir %s %s\n",
			oneLine(name), shellQuote(c.DataDir), shellQuote(name))
		return nil
	} else if err != nil {
		return err
	}
	return nil
}

func (c *rebuildCmd) print(std streams, r *rebuild.Report, aside string) error {
	if c.JSON {
		if err := printObject(std, struct {
			*rebuild.Report
			Aside string `json:"old_catalog,omitempty"`
		}{r, aside}); err != nil {
			return err
		}
		return rebuildOutcome(r)
	}
	fmt.Fprintf(std.out, "Back: %s, %d in the recycle bin. %d were deleted before.\n", count(int64(r.Snapshots), "snapshot"), r.Binned, r.Deleted)
	fmt.Fprintf(std.out, "Read: %s (%s) with %s, %s, %s.\n", count(int64(r.Segments), "segment"), sizeText(r.SegmentBytes),
		count(r.Blocks, "block"), count(r.Nodes, "map node"), count(r.Manifests, "manifest"))
	for _, a := range r.Accounts {
		from := "its access key is the one in credentials"
		if a.NewKey {
			from = "it has a new access key"
		}
		fmt.Fprintf(std.out, "Account %s (%s): %s.\n", oneLine(a.Name), a.ID, from)
		for _, region := range a.PublicBlocked {
			fmt.Fprintf(std.out, "  Public access to its snapshots in %s is blocked until it unblocks it: aws ec2 disable-snapshot-block-public-access\n", region)
		}
	}
	if aside != "" {
		fmt.Fprintf(std.out, "The old catalog is %s.\n", aside)
	}
	fmt.Fprintln(std.out, "Lost: accounts that own no snapshot, users and roles with their keys and policies, snapshots that were pending, settings of accounts, bearer tokens, client tokens.")
	for _, d := range r.Keyless {
		fmt.Fprintf(std.out, "Missing: keys/domains/%s, without which the snapshots encrypted under it cannot be read.\n", d)
	}
	for _, f := range r.Ignored {
		fmt.Fprintf(std.out, "Ignored: %s\n", oneLine(f))
	}
	for _, d := range r.Damage {
		fmt.Fprintf(std.out, "Damaged: %s\n", d)
	}
	if more := r.Damaged - int64(len(r.Damage)); more > 0 {
		fmt.Fprintf(std.out, "Damaged: %d more\n", more)
	}
	for _, i := range r.Incomplete {
		fmt.Fprintf(std.out, "Incomplete: %s: %s (%d blocks in all)\n", i.Snapshot, i.Why, i.Blocks)
	}
	return rebuildOutcome(r)
}

// rebuildOutcome is an error if something is not as it was.
func rebuildOutcome(r *rebuild.Report) error {
	if len(r.Incomplete) > 0 || len(r.Keyless) > 0 {
		return silentError{errors.New("something is missing")}
	}
	return nil
}
