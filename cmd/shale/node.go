package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"shale/internal/backup"
	"shale/internal/bearer"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/domain"
	"shale/internal/identity"
	"shale/internal/keyring"
	"shale/internal/kms"
	"shale/internal/pace"
	"shale/internal/policy"
	"shale/internal/quota"
	"shale/internal/reclaim"
	"shale/internal/scrub"
	"shale/internal/snapshot"
	"shale/internal/token"
)

// defaultAccount is the name of the account of the first start.
const defaultAccount = "default"

// Names of settings in the catalog.
const (
	settingTokenKey     = "token_key"
	settingSessionKey   = "session_key"
	settingTestControls = "test_controls"
)

// A node is the running service on one data folder.
type node struct {
	catalog  *catalog.Catalog
	store    *blockstore.Store
	service  *snapshot.Service
	account  string // number of the default account
	identity *identity.Service
	clock    *testClock
	quotas   *quota.Quotas
	kms      *kms.Local   // nil if keys are kept elsewhere
	keys     kms.Provider // kms, or what is elsewhere
	ring     *keyring.Keyring

	scrub *scrub.Background // nil if it is switched off

	collector *reclaim.Collector

	stop func() // ends the background work and waits for it
}

type nodeOptions struct {
	testControls bool
	binTime      time.Duration // in the recycle bin; 0 for none
	log          *slog.Logger
	registry     *prometheus.Registry
	rootKey      *kms.Root // nil for the one in the folder
	kmsEndpoint  string    // URL of a KMS elsewhere; empty for the one here
	catalog      string    // URL of a catalog elsewhere; empty for the one here
	// scrubEvery is the time in which everything is read once; 0 for never.
	scrubEvery time.Duration
	quotas     quota.Config
	// disk is what the folder is on; of dir only paths are used.
	disk catalog.Disk
	now  func() time.Time // the clock
	// maxSegment closes a segment; 0 means segment.MaxSize.
	maxSegment int64
}

// openNode opens what is in the folder, or makes it, and starts the service.
func openNode(ctx context.Context, dir *datadir.Dir, o nodeOptions) (*node, error) {
	n, err := openIdle(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	registerStore(o.registry, n.store, n.service.Ready)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { _ = n.store.FindLost(ctx) }) // the store says what is wrong
	work.Go(func() { n.service.Run(ctx) })
	if n.kms != nil {
		work.Go(func() { sweepKeys(ctx, n.kms, n.ring, o.log) })
	}
	work.Go(func() { n.service.KeepUsage(ctx) })
	registerReclaim(o.registry, n.collector.Stats())
	work.Go(func() { n.collector.Run(ctx) })
	if n.scrub != nil {
		registerScrub(o.registry, n.scrub)
		work.Go(func() { n.scrub.Run(ctx) })
	}
	n.stop = func() {
		cancel()
		work.Wait()
	}
	return n, nil
}

// openIdle is openNode without background work: the service does what it is
// told, and Settle.
func openIdle(ctx context.Context, dir *datadir.Dir, o nodeOptions) (*node, error) {
	n := &node{clock: &testClock{real: o.now}, stop: func() {}}
	err := backup.Check(dir)
	switch {
	case err != nil:
	case o.catalog != "":
		err = dir.CheckElsewhere()
	default:
		err = dir.CheckCatalog(o.disk.Folder)
	}
	if err != nil {
		return nil, err
	}
	if err := segment.CheckFormat(o.disk.Folder(dir.Segments())); err != nil {
		return nil, err
	}
	if o.catalog != "" {
		n.catalog, err = catalog.Open(ctx, o.catalog, n.clock.now)
	} else {
		n.catalog, err = catalog.OpenOn(ctx, o.disk, dir.Catalog(), n.clock.now)
	}
	if err != nil {
		return nil, err
	}
	if o.catalog != "" {
		err = n.tie(ctx, dir)
	}
	if err == nil {
		err = n.open(ctx, dir, o)
	}
	if err != nil {
		return nil, errors.Join(err, n.catalog.Close())
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
	tokenKey, err := n.secret(ctx, settingTokenKey, token.KeySize)
	if err != nil {
		return err
	}
	sessionKey, err := n.secret(ctx, settingSessionKey, identity.SessionKeySize)
	if err != nil {
		return err
	}
	n.identity = identity.New(identity.Options{Store: n.catalog, SessionKey: sessionKey, Now: n.clock.now})
	id, err := n.storeID(ctx)
	if err != nil {
		return err
	}
	if err := backup.Adopt(ctx, dir, n.catalog); err != nil {
		return fmt.Errorf("adopt backup: %w", err)
	}
	last, committed, err := n.catalog.LastContainer(ctx)
	if err != nil {
		return err
	}
	medium, err := segment.Open(segment.Options{
		FS: o.disk.Folder(dir.Segments()), ID: id, Last: last, Committed: committed, Logger: o.log, MaxSize: o.maxSegment,
	})
	if err != nil {
		return err
	}
	if n.ring, err = keyring.Open(o.disk.Folder(dir.Domains()), n.keys, o.log); err != nil {
		return errors.Join(err, medium.Close())
	}
	n.store = blockstore.New(blockstore.Options{Medium: medium, Index: n.catalog, Logger: o.log, NodeLength: blockmap.Length})
	n.quotas = quota.New(o.quotas, n.clock.now)
	n.service = snapshot.New(snapshot.Options{
		Catalog: n.catalog, Store: n.store, Keyring: n.ring, Tokens: token.New(tokenKey), Now: n.clock.now, Logger: o.log,
		BinTime: o.binTime, Scratch: o.disk.Folder(dir.Path()), Quotas: n.quotas,
	})
	n.collector = reclaim.New(reclaim.Options{
		Catalog: n.catalog, Store: n.store, Now: n.clock.now, Logger: o.log, Rate: reclaim.Rate,
		Rest:  func() func(context.Context) error { return pace.NewShare(reclaim.Share).Step },
		Alone: func() (func() error, bool, error) { return datadir.Alone(dir.Path()) },
	})
	if o.scrubEvery > 0 {
		n.scrub = scrub.NewBackground(scrub.BackgroundOptions{
			Catalog: n.catalog, Medium: medium, Every: o.scrubEvery, Now: n.clock.now, Logger: o.log,
			Key: func(_ context.Context, d domain.Number) *domain.Key { return n.ring.Cached(d) },
		})
	}
	return nil
}

// secret gives a setting of random bytes, which the first start makes.
func (n *node) secret(ctx context.Context, name string, size int) ([]byte, error) {
	value, _, err := n.catalog.Setting(ctx, name, func() []byte { return random(size) })
	if err == nil && len(value) != size {
		err = fmt.Errorf("catalog: the setting %s has %d bytes, not %d", name, len(value), size)
	}
	return value, err
}

// storeID gives the id of the store, which the first start makes.
func (n *node) storeID(ctx context.Context) (id [16]byte, err error) {
	value, err := n.secret(ctx, catalog.SettingStoreID, len(id))
	if err != nil {
		return id, err
	}
	return [16]byte(value), nil
}

// tie makes sure that the folder and a catalog elsewhere belong together.
func (n *node) tie(ctx context.Context, dir *datadir.Dir) error {
	id, err := n.storeID(ctx)
	if err != nil {
		return err
	}
	last, _, err := n.catalog.LastContainer(ctx)
	if err != nil {
		return err
	}
	return dir.Tie(id, last > 0)
}

// openKeys opens the KMS, here or elsewhere.
func (n *node) openKeys(ctx context.Context, dir *datadir.Dir, o nodeOptions) (err error) {
	if o.kmsEndpoint != "" {
		n.keys, err = kms.NewRemote(ctx, o.kmsEndpoint)
		return err
	}
	n.kms, err = openKMS(dir, o.disk, o.rootKey, n.clock.now, o.log)
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
	n.account = key.Account
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
	return dir.WriteClient(c, keyOf(ctx, n.catalog, defaultAccount), others)
}

// readyTime bounds how long a catalog elsewhere may take to answer while it
// counts as reachable.
const readyTime = 2 * time.Second

// ready says why the server cannot do all its work, or nil.
func (n *node) ready() error {
	if err := n.service.Ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	return n.catalog.Reach(ctx)
}

// close stops the service. Nothing may use it any more.
func (n *node) close() error {
	n.stop()
	return errors.Join(n.store.Close(), n.catalog.Close())
}

// BearerToken implements gateway.Tokens.
func (n *node) BearerToken(ctx context.Context, token string) (*policy.Principal, error) {
	id, sum, ok := bearer.Parse(token)
	if !ok {
		return nil, nil
	}
	t, found, err := n.catalog.Bearer(ctx, id)
	if err != nil || !found || !t.Sum.Equal(sum) {
		return nil, err
	}
	who, err := n.identity.Principal(ctx, t.Account, t.User)
	if errors.Is(err, identity.ErrNone) { // deleted a moment ago
		return nil, nil
	}
	return who, err
}

// Clock implements gateway.TestControls.
func (n *node) Clock() (now time.Time, offset time.Duration) { return n.clock.read() }

// Pending implements gateway.TestControls.
func (n *node) Pending(ctx context.Context, account, region string) (int64, error) {
	return n.catalog.CountPending(ctx, account, region)
}

// EndLags implements gateway.TestControls.
func (n *node) EndLags() { n.service.EndLags() }

// Advance implements gateway.TestControls.
func (n *node) Advance(ctx context.Context, d time.Duration) error {
	// What is due now, a completion that was asked for a moment ago, is of now.
	if err := n.service.Settle(ctx); err != nil {
		return err
	}
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
	id, secret := identity.NewAccessKey()
	return catalog.AccessKey{ID: id, Account: fmt.Sprintf("%012d", 100_000_000_000+number%900_000_000_000), Secret: secret}
}

// registerStore exports the store's counters, and whether changes are taken.
func registerStore(registry *prometheus.Registry, s *blockstore.Store, ready func() error) {
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
		if ready() != nil {
			return 1
		}
		return 0
	}))
}

// registerReclaim exports what the collector has done.
func registerReclaim(registry *prometheus.Registry, stats *reclaim.Stats) {
	for _, m := range []struct {
		name, help string
		value      func() int64
	}{
		{"shale_store_reclaimed_bytes_total", "Bytes of segments that were removed.", stats.Bytes.Load},
		{"shale_store_reclaimed_records_total", "Records (blocks, map nodes, manifests) that were removed.", stats.Records.Load},
		{"shale_store_reclaimed_segments_total", "Segments that were removed.", stats.Segments.Load},
		{"shale_store_reclaim_failures_total", "Reclaim cycles that failed: nothing is freed until one succeeds.", stats.Failures.Load},
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.name, Help: m.help},
			func() float64 { return float64(m.value()) }))
	}
	for _, m := range []struct {
		name, help string
		value      func() int64
	}{
		{"shale_store_live_bytes", "Bytes of segments in use, as of the last reclaim cycle.", stats.LiveBytes.Load},
		{"shale_store_dead_bytes", "Bytes of segments not in use, as of the last reclaim cycle.", stats.DeadBytes.Load},
		{"shale_store_reclaim_last_begin_seconds", "When the last reclaim cycle that succeeded began, since 1970. 0 for none yet.", stats.LastBegan.Load},
	} {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.name, Help: m.help},
			func() float64 { return float64(m.value()) }))
	}
}
