package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/blockstore/segment"
	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/keyring"
	"shale/internal/snapshot"
	"shale/internal/token"
	"shale/internal/vfs"
)

// Names of settings that a server's first start has made.
const (
	settingTokenKey = "token_key"
	settingStoreID  = "store_id"
)

// A node is the service on a data folder that no server uses, without a door.
type node struct {
	dir     *datadir.Dir
	catalog *catalog.Catalog
	medium  *segment.Store
	store   *blockstore.Store
	service *snapshot.Service
	caller  snapshot.Caller
	stop    func()
}

// openNode opens the folder. wrap puts something between the segments and their
// folder, and between the store and its index.
func openNode(ctx context.Context, path string, wrap func(vfs.FS, blockstore.Index) (vfs.FS, blockstore.Index)) (n *node, err error) {
	n = &node{}
	if n.dir, err = datadir.Open(path); err != nil {
		return nil, err
	}
	if n.catalog, err = catalog.Open(ctx, n.dir.Catalog(), time.Now); err != nil {
		return nil, errors.Join(err, n.dir.Close())
	}
	if err := n.open(ctx, wrap); err != nil {
		return nil, errors.Join(err, n.catalog.Close(), n.dir.Close())
	}
	return n, nil
}

func (n *node) open(ctx context.Context, wrap func(vfs.FS, blockstore.Index) (vfs.FS, blockstore.Index)) error {
	key, found, err := n.catalog.AccountKey(ctx, "default")
	if err != nil || !found {
		return errors.Join(err, errors.New("a folder that no server has made"))
	}
	n.caller = snapshot.Caller{Account: key.Account, Region: region}
	tokenKey, _, err := n.catalog.Setting(ctx, settingTokenKey, nil)
	if err != nil {
		return err
	}
	id, _, err := n.catalog.Setting(ctx, settingStoreID, nil)
	if err != nil {
		return err
	}
	last, committed, err := n.catalog.LastContainer(ctx)
	if err != nil {
		return err
	}
	folder, index := wrap(vfs.Dir(n.dir.Segments()), n.catalog)
	if n.medium, err = segment.Open(segment.Options{FS: folder, ID: [16]byte(id), Last: last, Committed: committed}); err != nil {
		return err
	}
	ring, err := keyring.Open(vfs.Dir(n.dir.Domains()), nil, nil) // nothing is encrypted
	if err != nil {
		return err
	}
	n.store = blockstore.New(blockstore.Options{Medium: n.medium, Index: index, NodeLength: blockmap.Length})
	n.service = snapshot.New(snapshot.Options{
		Catalog: n.catalog, Store: n.store, Keyring: ring, Tokens: token.New(tokenKey), Now: time.Now,
		Scratch: vfs.Dir(n.dir.Path()),
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { n.service.Run(ctx) })
	n.stop = func() {
		cancel()
		work.Wait()
	}
	return nil
}

func (n *node) close() error {
	n.stop()
	return errors.Join(n.store.Close(), n.catalog.Close(), n.dir.Close())
}

func asItIs(fs vfs.FS, x blockstore.Index) (vfs.FS, blockstore.Index) { return fs, x }

// start starts a snapshot.
func (n *node) start(ctx context.Context, gib int64, parent *string) (snapshot.Snapshot, error) {
	timeout := int64(4320)
	return n.service.Start(ctx, n.caller, snapshot.StartRequest{VolumeSize: &gib, ParentSnapshotID: parent, Timeout: &timeout})
}

// complete completes a snapshot to which changed blocks were written, and waits
// for it.
func (n *node) complete(ctx context.Context, id string, changed int64) error {
	if _, err := n.service.Complete(ctx, n.caller, snapshot.CompleteRequest{SnapshotID: id, ChangedBlocks: &changed}); err != nil {
		return err
	}
	if err := n.service.Settle(ctx); err != nil {
		return err
	}
	s, found, err := n.catalog.Snapshot(ctx, id)
	if err == nil && (!found || s.State != snapshot.Completed) {
		err = errors.New("snapshot " + id + " was not completed: " + s.Message)
	}
	return err
}

// put writes a block that no snapshot has.
func (n *node) put(ctx context.Context, id string, index block.Index, number uint64) error {
	length := int64(block.Size)
	_, err := n.service.PutBlock(ctx, n.caller, snapshot.PutBlockRequest{
		SnapshotID: id, Index: int64(index), DataLength: &length, ChecksumOptional: true, Body: bytes.NewReader(newBlock(number)),
	})
	return err
}

func catalogFile(dir string) string { return filepath.Join(dir, "catalog.db") }
