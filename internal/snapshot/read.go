package snapshot

import (
	"context"
	"errors"
	"strings"
	"time"

	"shale/internal/block"
	"shale/internal/blockmap"
	"shale/internal/blockstore"
	"shale/internal/domain"
	"shale/internal/quota"
	"shale/internal/token"
)

const (
	minPage = 100
	maxPage = 10_000 // also the page when none is asked for
)

// ListBlocks gives a page of the blocks of a completed snapshot, inherited
// ones included. Pages are full but for the last. Spec: ebs-direct §8.1.
func (s *Service) ListBlocks(ctx context.Context, c Caller, r ListBlocksRequest) (BlockPage, error) {
	var v violations
	v.snapshotID("snapshotId", r.SnapshotID)
	v.listing(r.PageToken, r.MaxResults, r.StartingIndex)
	if err := v.err(); err != nil {
		return BlockPage{}, err
	}
	snap, err := s.readable(ctx, c, r.SnapshotID)
	if err != nil {
		return BlockPage{}, s.storeError(err)
	}
	if err := s.admit(ctx, c, &snap, need{action: ListSnapshotBlocks}); err != nil {
		return BlockPage{}, err
	}
	if err := s.throttle(c, quota.ListRate, snap.ID); err != nil {
		return BlockPage{}, err
	}
	if err := s.mayList(ctx, c, &snap); err != nil {
		return BlockPage{}, s.storeError(err)
	}
	number, _ := idNumber(snap.ID)
	place := token.Page{Kind: token.KindBlocks, First: number}
	start, err := s.openPage(place, r.PageToken, r.StartingIndex)
	if err != nil {
		return BlockPage{}, err
	}
	w := c.whim()
	page := BlockPage{VolumeSize: snap.VolumeSize, Expiry: s.blockExpiry(w)}
	limit := pageLimit(r.MaxResults)
	expected := min(limit, int(snap.Blocks))
	page.Blocks = make([]ListedBlock, 0, expected)
	tokens := s.newTokens(page.Expiry)
	tokens.expect(expected)
	for entry, err := range blockmap.Walk(ctx, s.store.NodeReader(), snap.Root, start.from) {
		if err != nil {
			return BlockPage{}, s.mapError(&snap, err)
		}
		if len(page.Blocks) == limit {
			page.NextToken = s.nextPage(w, place, uint64(entry.Index))
			break
		}
		page.Blocks = append(page.Blocks, ListedBlock{Index: entry.Index})
		tokens.add(number, entry.Index, entry.ID)
	}
	all := tokens.text()
	for i := range page.Blocks {
		page.Blocks[i].Token, all = all[:token.BlockLength], all[token.BlockLength:]
	}
	if n, cursor, fewer := w.cut(start, len(page.Blocks), func(i int) block.Index { return page.Blocks[i].Index }); fewer {
		page.Blocks, page.NextToken = page.Blocks[:n], s.nextPage(w, place, cursor)
	}
	return page, nil
}

// ListChangedBlocks gives a page of the indexes at which two completed
// snapshots of one lineage differ in content, or in one having a block where
// the other has none. Pages are full but for the last. Spec: ebs-direct §8.2.
func (s *Service) ListChangedBlocks(ctx context.Context, c Caller, r ListChangedRequest) (ChangedPage, error) {
	var v violations
	if r.FirstSnapshotID != nil {
		v.snapshotID("firstSnapshotId", *r.FirstSnapshotID)
	}
	v.snapshotID("secondSnapshotId", r.SecondSnapshotID)
	v.listing(r.PageToken, r.MaxResults, r.StartingIndex)
	if err := v.err(); err != nil {
		return ChangedPage{}, err
	}
	if r.FirstSnapshotID == nil {
		return ChangedPage{}, &Error{Code: FirstSnapshotMissing, Field: "firstSnapshotId"}
	}
	first, err := s.readable(ctx, c, *r.FirstSnapshotID)
	if err != nil {
		return ChangedPage{}, s.storeError(blame(err, "firstSnapshotId"))
	}
	second, err := s.readable(ctx, c, r.SecondSnapshotID)
	if err != nil {
		return ChangedPage{}, s.storeError(err)
	}
	if err := s.admitBoth(ctx, c, &first, &second, need{action: ListChangedBlocks}); err != nil {
		return ChangedPage{}, err
	}
	if err := s.throttle(c, quota.ListChangedRate, second.ID); err != nil {
		return ChangedPage{}, err
	}
	for _, snap := range []*Snapshot{&first, &second} {
		if err := s.mayList(ctx, c, snap); err != nil {
			return ChangedPage{}, s.storeError(err)
		}
	}
	firstNumber, _ := idNumber(first.ID)
	secondNumber, _ := idNumber(second.ID)
	place := token.Page{Kind: token.KindChanged, First: firstNumber, Second: secondNumber}
	start, err := s.openPage(place, r.PageToken, r.StartingIndex)
	if err != nil {
		return ChangedPage{}, err
	}
	if first.Lineage != second.Lineage {
		return ChangedPage{}, &Error{Code: Unrelated, Snapshot: second.ID, Field: "firstSnapshotId"}
	}
	w := c.whim()
	page := ChangedPage{VolumeSize: second.VolumeSize, Expiry: s.blockExpiry(w)}
	tokens := s.newTokens(page.Expiry)
	for change, err := range s.Compare(ctx, c, &first, &second, start.from) {
		if err != nil {
			return ChangedPage{}, s.mapError(&second, err)
		}
		if len(page.Blocks) == pageLimit(r.MaxResults) {
			page.NextToken = s.nextPage(w, place, uint64(change.Index))
			break
		}
		b := ChangedBlock{Index: change.Index}
		if !change.First.IsZero() {
			tokens.add(firstNumber, change.Index, change.First)
			b.FirstToken = tokenMade
		}
		if !change.Second.IsZero() {
			tokens.add(secondNumber, change.Index, change.Second)
			b.SecondToken = tokenMade
		}
		page.Blocks = append(page.Blocks, b)
	}
	all := tokens.text()
	for i := range page.Blocks {
		for _, t := range []*string{&page.Blocks[i].FirstToken, &page.Blocks[i].SecondToken} {
			if *t != "" {
				*t, all = all[:token.BlockLength], all[token.BlockLength:]
			}
		}
	}
	if n, cursor, fewer := w.cut(start, len(page.Blocks), func(i int) block.Index { return page.Blocks[i].Index }); fewer {
		page.Blocks, page.NextToken = page.Blocks[:n], s.nextPage(w, place, cursor)
	}
	return page, nil
}

// tokenMade stands for a token until the page's are all made.
const tokenMade = "made"

// GetBlock reads one block of a completed snapshot. Spec: ebs-direct §8.4.
func (s *Service) GetBlock(ctx context.Context, c Caller, r GetBlockRequest) (BlockData, error) {
	var v violations
	v.snapshotID("snapshotId", r.SnapshotID)
	v.number("blockIndex", &r.Index, 0, 1<<31-1)
	if r.Token == nil {
		v.missing("blockToken")
	}
	v.text("blockToken", r.Token, token.MaxLength, tokenPattern)
	if err := v.err(); err != nil {
		return BlockData{}, err
	}
	snap, err := s.readable(ctx, c, r.SnapshotID)
	if err != nil {
		return BlockData{}, s.storeError(err)
	}
	if err := s.admit(ctx, c, &snap, need{action: GetSnapshotBlock}); err != nil {
		return BlockData{}, err
	}
	if err := s.throttle(c, quota.GetRate, snap.ID); err != nil {
		return BlockData{}, err
	}
	key, err := s.readKey(ctx, c, &snap)
	if err != nil {
		return BlockData{}, s.storeError(err)
	}
	number, _ := idNumber(snap.ID)
	t, err := s.tokens.OpenBlock(*r.Token, s.now())
	if err != nil || t.Snapshot != number || int64(t.Index) != r.Index {
		return BlockData{}, &Error{Code: InvalidBlockToken, Field: "blockToken", Value: *r.Token}
	}
	out, err := s.outgoing(ctx, r.Client)
	if err != nil {
		return BlockData{}, err
	}
	digest, err := s.readBlock(ctx, &snap, key, blockmap.Entry{Index: t.Index, ID: t.ID}, out.buf.Block())
	if err != nil {
		out.release()
		return BlockData{}, err
	}
	out.send()
	return BlockData{Bytes: out.buf.Block(), Digest: digest, out: out}, nil
}

// listing checks what all listings have.
func (v *violations) listing(pageToken *string, maxResults, startingIndex *int64) {
	v.text("pageToken", pageToken, token.MaxLength, tokenPattern)
	v.number("maxResults", maxResults, minPage, maxPage)
	v.number("startingBlockIndex", startingIndex, 0, 1<<31-1)
}

func pageLimit(maxResults *int64) int {
	if maxResults == nil {
		return maxPage
	}
	return int(*maxResults)
}

// beyond is the place of a listing that starts past every volume. No map has
// a block there.
const beyond = block.MaxIndex + 1

// A pageStart is where a page begins, and whether the one before was empty on a
// whim.
type pageStart struct {
	from       block.Index
	afterEmpty bool
}

// openPage gives the index at which a page begins: the token's, or else the
// one asked for.
func (s *Service) openPage(place token.Page, pageToken *string, startingIndex *int64) (pageStart, error) {
	if pageToken == nil {
		if startingIndex == nil {
			return pageStart{}, nil
		}
		return pageStart{from: block.Index(min(*startingIndex, int64(beyond)))}, nil
	}
	p, err := s.tokens.OpenPage(place.Kind, *pageToken, s.now())
	cursor := p.Cursor &^ afterEmpty
	if err != nil || p.First != place.First || p.Second != place.Second || cursor > uint64(block.MaxIndex) {
		return pageStart{}, &Error{Code: InvalidPageToken, Field: "pageToken", Value: *pageToken}
	}
	return pageStart{block.Index(cursor), p.Cursor != cursor}, nil
}

func (s *Service) nextPage(w Whim, place token.Page, cursor uint64) string {
	place.Cursor = cursor
	place.Expiry = s.now().Add(w.life(pageTokenLife))
	return s.tokens.Page(place)
}

// blockExpiry is when the block tokens of a page that is made now expire.
func (s *Service) blockExpiry(w Whim) time.Time {
	return s.now().Add(w.life(blockTokenLife)).UTC().Truncate(time.Second)
}

// mapError gives the service's error for one met in a block map.
func (s *Service) mapError(snap *Snapshot, err error) error {
	if isDamage(err) {
		return &Error{Code: Internal, Snapshot: snap.ID, Err: err}
	}
	return s.storeError(err)
}

// isDamage reports whether an error says that stored bytes are bad or gone.
func isDamage(err error) bool {
	var node *blockmap.CorruptError
	var record *blockstore.DamagedError
	return errors.As(err, &node) || errors.As(err, &record) || errors.Is(err, blockstore.ErrNotFound) || errors.Is(err, domain.ErrTampered)
}

// tokens makes the block tokens of one page, one after the other in one text:
// a string for each would cost as much as its MAC.
type tokens struct {
	codec  *token.Codec
	expiry time.Time
	all    strings.Builder
	one    [token.BlockLength + token.BlockScratch]byte
}

func (s *Service) newTokens(expiry time.Time) *tokens {
	return &tokens{codec: s.tokens, expiry: expiry}
}

// expect makes room for n tokens.
func (t *tokens) expect(n int) { t.all.Grow(n * token.BlockLength) }

func (t *tokens) add(snapshot uint64, index block.Index, id block.ID) {
	t.all.Write(t.codec.AppendBlock(t.one[:0], token.Block{Snapshot: snapshot, Index: index, ID: id, Expiry: t.expiry}))
}

// text gives all tokens, each of token.BlockLength characters.
func (t *tokens) text() string { return t.all.String() }
