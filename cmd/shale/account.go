package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/identity"
)

type accountCmd struct {
	Create    accountCreateCmd    `cmd:"" help:"Add an account and write its key."`
	List      accountListCmd      `cmd:"" help:"List the accounts."`
	RotateKey accountRotateKeyCmd `cmd:"" help:"Exchange the key of an account's root user."`
}

// Help is shown by --help.
func (accountCmd) Help() string {
	return `An account owns snapshots, tags and settings, and shares snapshots with others.
These commands work on the data folder, while its server runs or not; a running
server knows a new account at once.

The key of an account is its root user's: it may do everything that the account
may. Users and roles that may less are made with it over the network, as on AWS:

    aws iam create-user --user-name alice
    aws iam create-access-key --user-name alice
    aws iam put-user-policy --user-name alice --policy-name p --policy-document file://p.json`
}

type accountCreateCmd struct {
	Name string `arg:"" help:"The account's name, and its profile's: letters, digits and _ . - up to 64."`
	dataDirFlag
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (accountCreateCmd) Help() string {
	return `Prints the account's number, by which others share snapshots with it. The key of
its root user is written to DIR/credentials and the server's address to DIR/config, as the profile
of its name. If the account exists and the profile does not, the profile is
written again.

Example:

    shale account create backup --data-dir ./data
    AWS_PROFILE=backup shale list`
}

type accountListCmd struct {
	dataDirFlag
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (accountListCmd) Help() string {
	return `A table on a terminal. Otherwise a line for each account, its fields separated by
tabs: name, number, ID of the access key, time of creation.`
}

// accountResult is an account in the form of --json.
type accountResult struct {
	Name      string    `json:"name"`
	Account   string    `json:"account_id"`
	AccessKey string    `json:"access_key_id"`
	Created   time.Time `json:"created_at"`
}

var accountName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// Run adds the account. It is durable before the files name it; a repetition
// after a crash in between writes what is missing.
func (c accountCreateCmd) Run(ctx context.Context, std streams) error {
	if !accountName.MatchString(c.Name) || c.Name == defaultAccount {
		return usagef("an account's name has 1 to 64 letters, digits and _ . -, and is not %q: %q will not do", defaultAccount, c.Name)
	}
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := checkStarted(c.DataDir); err != nil {
		return err
	}
	err = db.CreateAccount(ctx, c.Name, newAccessKey())
	if errors.Is(err, catalog.ErrAccountExists) {
		err = profileless(c.DataDir, c.Name)
	}
	if err != nil {
		return err
	}
	if err := datadir.AddProfile(c.DataDir, c.Name, keyOf(ctx, db, c.Name)); err != nil {
		return err
	}
	a, err := accountNamed(ctx, db, c.Name)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, resultOf(a))
	}
	_, err = fmt.Fprintln(std.out, a.ID)
	return err
}

// profileless is an error if the account has a profile. One that has none is as
// after a crash before it was written.
func profileless(dir, name string) error {
	has, err := datadir.HasProfile(dir, name)
	if err == nil && has {
		err = fmt.Errorf("%w: %s; its key is in %s", catalog.ErrAccountExists, name, datadir.FilesOf(dir).Credentials)
	}
	return err
}

// keyOf asks the catalog for the key of an account's root user.
func keyOf(ctx context.Context, db *catalog.Catalog, name string) datadir.Key {
	return func() (id, secret string, err error) {
		key, found, err := db.AccountKey(ctx, name)
		if err == nil && !found {
			err = fmt.Errorf("the account %s has no access key", name)
		}
		return key.ID, key.Secret, err
	}
}

// accountNamed finds an account.
func accountNamed(ctx context.Context, db *catalog.Catalog, name string) (catalog.Account, error) {
	accounts, err := db.Accounts(ctx)
	if err != nil {
		return catalog.Account{}, err
	}
	for _, a := range accounts {
		if a.Name == name {
			return a, nil
		}
	}
	return catalog.Account{}, fmt.Errorf("%w: %s", catalog.ErrNoAccount, name)
}

type accountRotateKeyCmd struct {
	Name string `arg:"" help:"The account's name; that of the first one is default."`
	dataDirFlag
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (accountRotateKeyCmd) Help() string {
	return `Makes a new access key for the account's root user, removes the old one, and
writes the new one to DIR/credentials, as the profile of the account's name.
Prints its ID. Whoever uses the old one elsewhere needs the new one from there.

A running server takes the new key at once. The old one is refused a second
later at the latest; a request that has begun by then is finished. If the
command is interrupted, give it again.

What was made with the old key stays. Its sessions end by themselves within an
hour; users and roles with their keys and policies, policies of KMS keys, and
shares do not: look at them after a theft. A copy of the data folder or of the
catalog has the key of its time: rotate it again if you put one back.

Examples:

    shale account rotate-key default --data-dir ./data
    shale account rotate-key backup --data-dir ./data --json`
}

// Run rotates the key. The old one is gone before the profile has the new one:
// a crash in between leaves a profile with a key that nobody takes, and a
// repetition writes another. The default one is written by the server's next
// start, too.
func (c accountRotateKeyCmd) Run(ctx context.Context, std streams) error {
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := checkStarted(c.DataDir); err != nil {
		return err
	}
	id, secret := identity.NewAccessKey()
	err = db.RotateAccountKey(ctx, c.Name, id, secret)
	if errors.Is(err, catalog.ErrNoAccount) {
		return noAccount(c.Name, c.DataDir)
	}
	if err != nil {
		return err
	}
	if err := datadir.AddProfile(c.DataDir, c.Name, keyOf(ctx, db, c.Name)); err != nil {
		return fmt.Errorf("the old key is void, and the new one was not written: %w; give the command again", err)
	}
	a, err := accountNamed(ctx, db, c.Name)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std, resultOf(a))
	}
	_, err = fmt.Fprintln(std.out, a.AccessKey)
	return err
}

// noAccount says that there is no account of the name.
func noAccount(name, dir string) error {
	return fmt.Errorf("there is no account %q; see: shale account list --data-dir %s", name, shellQuote(dir))
}

// checkStarted is an error if no server has been started on the folder.
func checkStarted(dir string) error {
	if err := datadir.CheckServer(dir); err != nil {
		return fmt.Errorf("%s: %w; start it first: shale serve --data-dir %s", dir, err, shellQuote(dir))
	}
	return nil
}

// Run lists the accounts.
func (c accountListCmd) Run(ctx context.Context, std streams) error {
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	accounts, err := db.Accounts(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		all := []accountResult{}
		for _, a := range accounts {
			all = append(all, resultOf(a))
		}
		return printJSON(std, map[string]any{"accounts": all})
	}
	if !isTerminal(std.out) {
		for _, a := range accounts {
			fmt.Fprintf(std.out, "%s\t%s\t%s\t%s\n", a.Name, a.ID, a.AccessKey, a.Created.Format(time.RFC3339))
		}
		return nil
	}
	t := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tACCOUNT\tACCESS KEY\tCREATED")
	for _, a := range accounts {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", a.Name, a.ID, a.AccessKey, a.Created.Local().Format("2006-01-02 15:04"))
	}
	return t.Flush()
}

func resultOf(a catalog.Account) accountResult {
	return accountResult{Name: a.Name, Account: a.ID, AccessKey: a.AccessKey, Created: a.Created}
}

// A noStoreError says that there is nothing for a command to look at.
type noStoreError struct{ error }

// noStore says what there is in place of a store.
func noStore(dir, url string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return noStoreError{fmt.Errorf("the folder %s does not exist; give the one that the server was started with", dir)}
	}
	if url != "" {
		return noStoreError{errors.New("the database has no catalog; give the one that the server was started with")}
	}
	return noStoreError{fmt.Errorf("%s has no catalog, and no segments; give the folder that the server was started with", dir)}
}

// openBeside opens the catalog of a folder on which a server has run, and
// may be running: the one in the folder, or the one at the URL.
func openBeside(ctx context.Context, dir, url string) (*catalog.Catalog, error) {
	unix.Umask(0o077) // for the files that SQLite makes
	tie, tied, err := datadir.TieOf(dir)
	if err != nil {
		return nil, err
	}
	place := datadir.CatalogOf(dir)
	switch {
	case url != "":
		place = url
	case tied:
		return nil, fmt.Errorf("%s: %w", dir, datadir.ErrElsewhere)
	}
	db, err := catalog.OpenBeside(ctx, place, time.Now)
	if errors.Is(err, catalog.ErrNone) {
		if begun, _ := filepath.Glob(filepath.Join(dir, "segments", "*.seg")); len(begun) > 0 && url == "" {
			return nil, fmt.Errorf("%s is missing or empty, and there are segments: put the right catalog back, or make it anew: shale rebuild --data-dir %s",
				datadir.CatalogOf(dir), shellQuote(dir))
		}
		return nil, noStore(dir, url)
	}
	if err != nil || url == "" {
		return db, err
	}
	id, _, err := db.Setting(ctx, catalog.SettingStoreID, nil)
	if err == nil && (!tied || string(id) != string(tie[:])) {
		err = fmt.Errorf("the catalog is not that of %s: give the right one with --catalog", dir)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
