package main

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"shale/internal/bearer"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/keyring"
	"shale/internal/kms"
	"shale/internal/snapshot"
	"shale/internal/token"
	"shale/internal/vfs"
)

// defaultAccount is the name of the account of the first start.
const defaultAccount = "default"

// Names of settings in the catalog.
const (
	settingTokenKey     = "token_key"
	settingTestControls = "test_controls"
	settingStoreID      = "store_id"
)

// A node is the running service on one data folder.
type node struct {
	catalog *catalog.Catalog
	store   *blockstore.Store
	service *snapshot.Service
	key     catalog.AccessKey // of the default account
	clock   *testClock
	kms     *kms.Local   // nil if keys are kept elsewhere
	keys    kms.Provider // kms, or what is elsewhere
	ring    *keyring.Keyring

	stop func() // ends the background work and waits for it
}

type nodeOptions struct {
	testControls bool
	binTime      time.Duration // in the recycle bin; 0 for none
	log          *slog.Logger
	registry     *prometheus.Registry
	rootKey      *kms.Root // nil for the one in the folder
	kmsEndpoint  string    // URL of a KMS elsewhere; empty for the one here
}

// openNode opens what is in the folder, or makes it, and starts the service.
func openNode(ctx context.Context, dir *datadir.Dir, o nodeOptions) (*node, error) {
	n := &node{clock: &testClock{}}
	err := dir.CheckCatalog()
	if err != nil {
		return nil, err
	}
	if err := segment.CheckFormat(vfs.Dir(dir.Segments())); err != nil {
		return nil, err
	}
	if n.catalog, err = catalog.Open(ctx, dir.Catalog(), n.clock.now); err != nil {
		return nil, err
	}
	if err := n.open(ctx, dir, o); err != nil {
		return nil, errors.Join(err, n.catalog.Close())
	}
	registerStore(o.registry, n.store)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { n.service.Run(ctx) })
	if n.kms != nil {
		work.Go(func() { sweepKeys(ctx, n.kms, n.ring, o.log) })
	}
	work.Go(func() { n.service.KeepUsage(ctx) })
	n.stop = func() {
		cancel()
		work.Wait()
	}
	return n, nil
}

// open opens all but the catalog.
func (n *node) open(ctx context.Context, dir *datadir.Dir, o nodeOptions) error {
	if err := n.begin(ctx, o.testControls); err != nil {
		return err
	}
	if err := n.openKeys(ctx, dir, o); err != nil {
		return err
	}
	tokenKey, _, err := n.catalog.Setting(ctx, settingTokenKey, func() []byte { return random(token.KeySize) })
	if err != nil {
		return err
	}
	id, _, err := n.catalog.Setting(ctx, settingStoreID, func() []byte { return random(16) })
	if err != nil {
		return err
	}
	if len(tokenKey) != token.KeySize || len(id) != 16 {
		return fmt.Errorf("catalog %s: settings %s and %s have %d and %d bytes, not %d and 16",
			dir.Catalog(), settingTokenKey, settingStoreID, len(tokenKey), len(id), token.KeySize)
	}
	committed, err := n.catalog.Containers(ctx)
	if err != nil {
		return err
	}
	medium, err := segment.Open(segment.Options{
		FS: vfs.Dir(dir.Segments()), ID: [16]byte(id), Committed: committed, Logger: o.log,
	})
	if err != nil {
		return err
	}
	for c, length := range medium.Short() {
		// Or blocks would be taken for stored that are not there.
		lost, err := n.catalog.MarkLost(ctx, c, length)
		if err != nil {
			return errors.Join(err, medium.Close())
		}
		o.log.Error("records of a segment are lost unless it is put back", "segment", int64(c), "records", lost)
	}
	if n.ring, err = keyring.Open(vfs.Dir(dir.Domains()), n.keys, o.log); err != nil {
		return errors.Join(err, medium.Close())
	}
	n.store = blockstore.New(blockstore.Options{Medium: medium, Index: n.catalog, Logger: o.log})
	n.service = snapshot.New(snapshot.Options{
		Catalog: n.catalog, Store: n.store, Keyring: n.ring, Tokens: token.New(tokenKey), Now: n.clock.now, Logger: o.log,
		BinTime: o.binTime, Scratch: vfs.Dir(dir.Path()),
	})
	return nil
}

// openKeys opens the KMS, here or elsewhere.
func (n *node) openKeys(ctx context.Context, dir *datadir.Dir, o nodeOptions) (err error) {
	if o.kmsEndpoint != "" {
		n.keys, err = kms.NewRemote(ctx, o.kmsEndpoint)
		return err
	}
	n.kms, err = openKMS(dir, o.rootKey, n.clock.now, o.log)
	n.keys = n.kms
	return err
}

// begin makes the account and its key at the first start, and remembers
// whether the folder is one for tests.
func (n *node) begin(ctx context.Context, testControls bool) error {
	key, found, err := n.catalog.AccountKey(ctx, defaultAccount)
	if err != nil {
		return err
	}
	if !found {
		if testControls {
			if _, _, err := n.catalog.Setting(ctx, settingTestControls, func() []byte { return []byte{1} }); err != nil {
				return err
			}
		}
		key = newAccessKey()
		if err := n.catalog.CreateAccount(ctx, defaultAccount, key); err != nil {
			return err
		}
	}
	n.key = key
	if _, marked, err := n.catalog.Setting(ctx, settingTestControls, nil); err != nil || marked || !testControls {
		return err
	}
	return usagef("--test-controls is refused on a folder whose first start was without it: " +
		"a moved clock must not end what holds for real snapshots; use a fresh folder")
}

// writeClient tells AWS's clients where the server is, in the profiles of all
// accounts.
func (n *node) writeClient(ctx context.Context, dir *datadir.Dir, c datadir.Client) error {
	accounts, err := n.catalog.Accounts(ctx)
	if err != nil {
		return err
	}
	var others []string
	for _, a := range accounts {
		if a.Name != defaultAccount {
			others = append(others, a.Name)
		}
	}
	return dir.WriteClient(c, others)
}

// close stops the service. Nothing may use it any more.
func (n *node) close() error {
	n.stop()
	return errors.Join(n.store.Close(), n.catalog.Close())
}

// AccessKey implements gateway.Keys.
func (n *node) AccessKey(ctx context.Context, id string) (account, secret string, ok bool, err error) {
	if id == n.key.ID {
		return n.key.Account, n.key.Secret, true, nil
	}
	k, ok, err := n.catalog.AccessKey(ctx, id)
	return k.Account, k.Secret, ok, err
}

// BearerToken implements gateway.Tokens.
func (n *node) BearerToken(ctx context.Context, token string) (account string, ok bool, err error) {
	id, sum, ok := bearer.Parse(token)
	if !ok {
		return "", false, nil
	}
	t, found, err := n.catalog.Bearer(ctx, id)
	if err != nil || !found || !t.Sum.Equal(sum) {
		return "", false, err
	}
	return t.Account, true, nil
}

// Clock implements gateway.TestControls.
func (n *node) Clock() (now time.Time, offset time.Duration) { return n.clock.read() }

// Advance implements gateway.TestControls.
func (n *node) Advance(ctx context.Context, d time.Duration) error {
	n.clock.advance(d)
	if n.kms != nil {
		err := n.kms.Sweep(ctx)
		n.ring.Forget(ctx)
		if err != nil {
			return err
		}
	}
	return n.service.Settle(ctx)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// newAccessKey makes an account number and an access key that look like AWS's.
func newAccessKey() catalog.AccessKey {
	number := binary.BigEndian.Uint64(random(8))
	return catalog.AccessKey{
		ID:      "AKIA" + base32.StdEncoding.EncodeToString(random(10)),
		Account: fmt.Sprintf("%012d", 100_000_000_000+number%900_000_000_000),
		Secret:  base64.StdEncoding.EncodeToString(random(30)),
	}
}

// registerStore exports the store's counters.
func registerStore(registry *prometheus.Registry, s *blockstore.Store) {
	stats := s.Stats()
	for _, m := range []struct {
		name, help string
		value      func() int64
	}{
		{"shale_store_batches_total", "Batches committed.", stats.Batches.Load},
		{"shale_store_stored_bytes_total", "Bytes appended to segments, frames included.", stats.BytesStored.Load},
		{"shale_store_blocks_stored_total", "Block writes whose content was new.", stats.BlocksStored.Load},
		{"shale_store_dedup_hits_total", "Block writes whose content was stored already.", stats.DedupHits.Load},
		{"shale_store_blocks_read_total", "Blocks read.", stats.BlocksRead.Load},
		{"shale_store_damaged_reads_total", "Reads that found damage.", stats.DamagedReads.Load},
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.name, Help: m.help},
			func() float64 { return float64(m.value()) }))
	}
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "shale_store_stopped", Help: "1 once a disk error has stopped all writing, else 0.",
	}, func() float64 {
		if s.Err() != nil {
			return 1
		}
		return 0
	}))
}
