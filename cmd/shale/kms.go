package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/keyring"
	"shale/internal/kms"
	"shale/internal/vfs"
)

const (
	// rootKeyVariable may hold the root key, in base64.
	rootKeyVariable = "SHALE_ROOT_KEY"
	// credentialsVariable names the folder of systemd's credentials, in which
	// rootKeyCredential may be the root key.
	credentialsVariable = "CREDENTIALS_DIRECTORY"
	rootKeyCredential   = "shale-root-key"
	// sweepInterval is how long a key may outlive its time on the disk. It
	// cannot be used from that time on.
	sweepInterval = time.Minute
)

// namedRoot gives the root key that the flag or the environment names, nil if
// neither does: then it is the one in the data folder. Two of them are an
// error, since nobody could say which is meant.
func namedRoot(file string) (*kms.Root, error) {
	found := map[string][]byte{}
	if file != "" {
		b, err := readRootKey(file)
		if err != nil {
			return nil, fmt.Errorf("--root-key-file: %w", err)
		}
		found["--root-key-file"] = b
	}
	if v := os.Getenv(rootKeyVariable); v != "" {
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(v))
		if err != nil {
			return nil, fmt.Errorf("%s is not base64", rootKeyVariable)
		}
		found[rootKeyVariable] = b
	}
	if dir := os.Getenv(credentialsVariable); dir != "" {
		b, err := readRootKey(filepath.Join(dir, rootKeyCredential))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the credential %s: %w", rootKeyCredential, err)
		}
		if err == nil {
			found["the credential "+rootKeyCredential] = b
		}
	}
	if len(found) > 1 {
		return nil, usagef("the root key is given more than once: of --root-key-file, %s and the systemd credential %s use one",
			rootKeyVariable, rootKeyCredential)
	}
	for source, b := range found {
		root, err := kms.NewRoot(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		return &root, nil
	}
	return nil, nil
}

// readRootKey reads the bytes of a root key's file.
func readRootKey(file string) ([]byte, error) {
	return vfs.ReadAll(vfs.Dir(filepath.Dir(file)), filepath.Base(file), 4096)
}

// openKMS opens the keys in the data folder. A nil root stands for the root key
// that is in the folder, too.
func openKMS(dir *datadir.Dir, disk catalog.Disk, root *kms.Root, now func() time.Time, log *slog.Logger) (*kms.Local, error) {
	keys := disk.Folder(dir.KMS())
	if root == nil {
		begun, err := kms.Begun(keys)
		if err != nil {
			return nil, err
		}
		own, err := kms.LoadRoot(disk.Folder(dir.Keys()), !begun)
		if err != nil {
			return nil, err
		}
		root = &own
	}
	return kms.OpenLocal(kms.LocalOptions{FS: keys, Root: *root, Now: now, Logger: log})
}

// sweepKeys destroys keys whose time is over, and forgets what they have
// unwrapped, until ctx ends.
func sweepKeys(ctx context.Context, k *kms.Local, ring *keyring.Keyring, log *slog.Logger) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		if err := k.Sweep(ctx); err != nil && ctx.Err() == nil {
			log.Error("KMS keys whose time is over are still on the disk", "err", err)
		}
		ring.Forget(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

type keyCmd struct {
	RotateRoot rotateRootCmd `cmd:"" help:"Exchange the root key that wraps all KMS keys."`
}

type rotateRootCmd struct {
	DataDir        string `required:"" placeholder:"DIR" env:"SHALE_DATA_DIR" help:"The server's data folder; the server must be stopped."`
	RootKeyFile    string `placeholder:"FILE" help:"The root key that is in use, if it is not in the folder."`
	NewRootKeyFile string `placeholder:"FILE" help:"The new root key, 32 bytes; made if it does not exist. Without it the new one is kept in the folder."`
}

// Help is shown by --help.
func (rotateRootCmd) Help() string {
	return `Wraps every KMS key of the data folder by a new root key. Snapshots are not
touched: their data keys are wrapped by KMS keys, which stay the same. If it is
interrupted both root keys are valid, and the command is repeated. The root key
in use is found as the server finds it: --root-key-file, SHALE_ROOT_KEY, the
systemd credential shale-root-key, or DIR/keys/root.

Examples:

    shale key rotate-root --data-dir ./data
    shale key rotate-root --data-dir ./data --new-root-key-file /run/keys/shale`
}

// Run exchanges the root key.
func (c rotateRootCmd) Run(std streams) (failed error) {
	if begun, err := kms.Begun(vfs.Dir(filepath.Join(c.DataDir, "keys", "kms"))); err != nil || !begun {
		return fmt.Errorf("%s is not a data folder with KMS keys", c.DataDir)
	}
	dir, err := datadir.Open(c.DataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	current, err := namedRoot(c.RootKeyFile)
	if err != nil {
		return err
	}
	if current != nil && c.NewRootKeyFile == "" {
		return usagef("the root key is not in the folder: say with --new-root-key-file where the new one is")
	}
	next, err := c.newRoot()
	if err != nil {
		return fmt.Errorf("--new-root-key-file: %w", err)
	}
	root, wrapped, err := kms.RotateRoot(vfs.Dir(dir.Keys()), vfs.Dir(dir.KMS()), current, next)
	if err != nil {
		return fmt.Errorf("exchange the root key: %w", err)
	}
	fmt.Fprintf(std.out, "wrapped by the root key %s: %s\n", root.ID, count(int64(wrapped), "KMS key"))
	if next == nil {
		fmt.Fprintf(std.err, "keep a copy of %s, apart from the folder's; copies of the folder from before need the old key\n",
			filepath.Join(c.DataDir, "keys", "root"))
	} else {
		fmt.Fprintf(std.err, "start the server with --root-key-file %s, and keep a copy of that file\n", shellQuote(c.NewRootKeyFile))
	}
	return nil
}

// newRoot reads or makes the new root key, nil if it is to be in the folder.
func (c rotateRootCmd) newRoot() (*kms.Root, error) {
	if c.NewRootKeyFile == "" {
		return nil, nil
	}
	b, err := readRootKey(c.NewRootKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		b = random(kms.RootSize)
		err = vfs.Replace(vfs.Dir(filepath.Dir(c.NewRootKeyFile)), filepath.Base(c.NewRootKeyFile), b)
	}
	if err != nil {
		return nil, err
	}
	root, err := kms.NewRoot(b)
	return &root, err
}
