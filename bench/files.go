package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"shale/internal/block"
)

// filesFrom is where the files of the file system come from: programs,
// libraries, scripts and texts, as they are on most disks.
const filesFrom = "/usr"

// fileSystem makes an ext4 image of a sample of real files and returns n of
// its blocks that are not zeros, in their order.
func fileSystem(ctx context.Context, dir string, n int) (blocks []testBlock, err error) {
	tree, image := filepath.Join(dir, "files"), filepath.Join(dir, "files.img")
	defer func() { err = errors.Join(err, os.RemoveAll(tree), os.RemoveAll(image)) }()
	want := int64(n) * block.Size * 9 / 8
	if err := sampleFiles(tree, want); err != nil {
		return nil, err
	}
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		mke2fs = "/usr/sbin/mke2fs" // not in the path of everybody
	}
	out, err := exec.CommandContext(ctx, mke2fs, "-q", "-t", "ext4", "-d", tree, image,
		strconv.FormatInt(want*3/2>>20, 10)+"M").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	f, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for len(blocks) < n {
		data := make([]byte, block.Size)
		if _, err := io.ReadFull(f, data); err != nil {
			return nil, fmt.Errorf("%s has only %d blocks: %w", image, len(blocks), err)
		}
		b := testBlock{prefix: data[:block.Size-tailLen], digest: sha256.Sum256(data)}
		copy(b.tail[:], data[len(b.prefix):])
		if b.digest != block.ZeroDigest {
			blocks = append(blocks, b)
		}
	}
	return blocks, nil
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

// sampleFiles copies files of about so many bytes into a new folder: whole
// ones, the same in each run, taken from all over filesFrom.
func sampleFiles(to string, bytes int64) error {
	const share = 3 // one file of so many
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	count := 0
	for part := range uint32(share) {
		err := filepath.WalkDir(filesFrom, func(path string, e fs.DirEntry, err error) error {
			h := fnv.New32a()
			h.Write([]byte(path))
			switch {
			case bytes <= 0:
				return errEnough
			case err != nil || !e.Type().IsRegular() || h.Sum32()%share != part:
				return nil //nolint:nilerr // what cannot be read is left out
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil //nolint:nilerr // the same
			}
			bytes -= int64(len(data))
			count++
			folder := filepath.Join(to, strconv.Itoa(count/1000))
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(folder, strconv.Itoa(count)), data, 0o600)
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
	}
	return nil
}

// measureFiles writes the blocks of a real file system to both servers.
func (b *bench) measureFiles(ctx context.Context) (err error) {
	if b.fileBlocks == nil {
		if b.fileBlocks, err = fileSystem(ctx, b.dir, b.size.fileBlocks); err != nil {
			return err
		}
	}
	n := len(b.fileBlocks)
	if b.onShale, err = b.newDataset(b.shale, n); err != nil {
		return err
	}
	if b.onReference, err = b.newDataset(b.reference, n); err != nil {
		return err
	}
	b.onShale.contents, b.onReference.contents = b.fileBlocks, b.fileBlocks
	if err := b.shale.waitIdle(ctx); err != nil {
		return err
	}
	before, err := folderSize(b.segmentsDir())
	if err != nil {
		return err
	}
	onShale, onReference, err := b.inTurns(ctx, n, func(s *server, over span) (run, error) {
		return s.write(ctx, b.source, b.dataset(s), over, connections)
	})
	if err != nil {
		return err
	}
	after, err := folderSize(b.segmentsDir())
	if err != nil {
		return err
	}
	b.files.add(onShale.bytesPerSecond()/mega, onReference.bytesPerSecond()/mega)
	b.filesStored.add(float64(after-before)/(1<<20), float64(n)*block.Size/(1<<20))
	if err := b.shale.seal(ctx, &b.onShale); err != nil {
		return err
	}
	b.onReference.tokens = b.onShale.tokens
	if _, _, err := b.readInTurns(ctx); err != nil { // into the page cache
		return err
	}
	onShale, onReference, err = b.readInTurns(ctx)
	if err != nil {
		return err
	}
	b.filesGet.add(onShale.bytesPerSecond()/mega, onReference.bytesPerSecond()/mega)
	return nil
}

func (b *bench) segmentsDir() string { return filepath.Join(b.shaleDir(), "segments") }

// folderSize is the length of all files in a folder.
func folderSize(dir string) (n int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		n += info.Size()
	}
	return n, nil
}
