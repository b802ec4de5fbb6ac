package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// needles are byte strings to be looked for, by what they are.
type needles map[string][]byte

// text adds a secret as it is.
func (n needles) text(name, secret string) { n[name] = []byte(secret) }

// bytes adds a secret and what it looks like as text.
func (n needles) bytes(name string, secret []byte) {
	n[name] = secret
	n[name+" in hex"] = []byte(hex.EncodeToString(secret))
	n[name+" in upper hex"] = []byte(strings.ToUpper(hex.EncodeToString(secret)))
	n[name+" in base64"] = []byte(base64.RawStdEncoding.EncodeToString(secret))
	n[name+" in base64url"] = []byte(base64.RawURLEncoding.EncodeToString(secret))
}

// block adds a block's content, its digest, and the checksum of a snapshot that
// has nothing else.
func (n needles) block(name string, data []byte) {
	for _, offset := range []int{0, 1000, blockSize / 2, blockSize - 32} {
		n.bytes(fmt.Sprintf("%s at %d", name, offset), data[offset:offset+32])
	}
	sum := sha256.Sum256(data)
	n.bytes(name+"'s digest", sum[:])
	aggregate := sha256.Sum256(sum[:])
	n.bytes(name+"'s aggregate", aggregate[:])
}

// in names the needles that text holds.
func (n needles) in(text []byte) (found []string) {
	for name, needle := range n {
		if bytes.Contains(text, needle) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// inFolder names the needles that the files below dir hold, each with its file.
func (n needles) inFolder(t *testing.T, dir string) (found []string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, name := range n.in(text) {
			found = append(found, name+" in "+filepath.Base(path))
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files: %v", files, err)
	}
	return found
}

// randomBlock is a block that no other run has had.
func randomBlock() []byte {
	b := make([]byte, blockSize)
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

// TestSecretsStayWhereTheyBelong looks through every file of the folder and all
// that the process printed, verbose as it can be, after work on encrypted
// snapshots, with its mistakes, a crash and a clean end in between: for bytes of
// blocks, their digests, plain data keys and tokens. That it would find them is
// shown by the same search for an unencrypted block. Nor does the log name the
// KMS keys of snapshots by their ARNs; only a refusal of the KMS itself says which
// key was asked for. The audit names checksums, client tokens and encryption
// contexts, as CloudTrail does, and nothing else of all that.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	trail := filepath.Join(t.TempDir(), "audit.json")
	s := startServer(t, "--verbose", "--audit", trail, "--audit-data")
	ctx := t.Context()
	secret, plain := make(needles), make(needles)
	logOnly := make(needles) // that are in the folder rightly
	logOnly.text("the secret access key", s.secret(t))

	// Two keys, and what goes through their KMS.
	keyService := kms.NewFromConfig(s.config(t))
	var keys []string
	for range 2 {
		made, err := keyService.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("a test's")})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, *made.KeyMetadata.Arn)
		logOnly.text(fmt.Sprintf("the ARN of key %d", len(keys)), *made.KeyMetadata.Arn)
	}
	dataKey, err := keyService.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(keys[0]), KeySpec: kmstypes.DataKeySpecAes256})
	if err != nil {
		t.Fatal(err)
	}
	secret.bytes("a generated data key", dataKey.Plaintext)
	if _, err := keyService.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: dataKey.CiphertextBlob}); err != nil {
		t.Fatal(err)
	}
	told := map[string]string{"for": "a context that tells something"}
	logOnly.text("an encryption context", told["for"])
	sealed, err := keyService.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(keys[0]), Plaintext: randomBlock()[:64], EncryptionContext: told})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyService.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err == nil {
		t.Error("Decrypt without the context succeeded")
	}
	unknown := keys[0][:len(keys[0])-12] + "000000000000"
	if _, err := keyService.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(unknown)}); err == nil {
		t.Error("DescribeKey of no key succeeded")
	}

	// Blocks under the first key: some are sealed before the crash, one is after.
	u := uploader{s.ebs(t), s.ec2(t)}
	begin := func(key, token string) string {
		t.Helper()
		in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}
		if key != "" {
			in.KmsKeyArn = aws.String(key)
		}
		if token != "" {
			in.ClientToken = aws.String(token)
			logOnly.text("a client token", token)
		}
		started, err := u.ebs.StartSnapshot(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return *started.SnapshotId
	}
	complete := func(snapshot string, blocks ...[]byte) {
		t.Helper()
		aggregate := sha256.New()
		for _, b := range blocks {
			sum := sha256.Sum256(b)
			aggregate.Write(sum[:])
		}
		_, err := u.ebs.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
			SnapshotId: aws.String(snapshot), ChangedBlocksCount: aws.Int32(int32(len(blocks))),
			Checksum:                  aws.String(base64.StdEncoding.EncodeToString(aggregate.Sum(nil))),
			ChecksumAlgorithm:         ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
			ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	first, second := begin(keys[0], "a-client-token-of-the-test"), begin(keys[0], "")
	block, other, wrong := randomBlock(), randomBlock(), randomBlock()
	secret.block("a block", block)
	secret.block("another block", other)
	secret.block("a block that was refused", wrong)
	for snapshot, data := range map[string][]byte{first: block, second: other} {
		if err := putBlock(ctx, u.ebs, snapshot, 1, data); err != nil {
			t.Fatal(err)
		}
	}
	// What comes with another block's checksum is refused.
	mistaken := put(second, "2", block, fmt.Sprintf("Content-Length: %d", blockSize))
	w := s.wire(t)
	w.send(s.head(t, mistaken), wrong)
	if r := w.reply(); r.status != http.StatusForbidden {
		t.Errorf("a block with the checksum of another one: %v", r)
	}
	complete(first, block)

	s.kill()
	for _, name := range secret.inFolder(t, s.dir) {
		t.Errorf("after the crash: %s", name)
	}
	s.start(t)
	u = uploader{s.ebs(t), s.ec2(t)}
	keyService = kms.NewFromConfig(s.config(t))

	// One is failed by a checksum that is not its own.
	complete(second, wrong)
	wait := func(snapshot string, want ec2types.SnapshotState) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			found, err := u.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snapshot}})
			if err != nil {
				t.Fatal(err)
			}
			if got := found.Snapshots[0].State; got == want {
				return
			} else if got != ec2types.SnapshotStatePending || time.Now().After(deadline) {
				t.Fatalf("%s is %s, want %s", snapshot, got, want)
			}
		}
	}
	wait(first, "completed")
	wait(second, "error")

	// Reads, rightly and wrongly; a copy under the other key.
	listed, err := u.ebs.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String(first)})
	if err != nil {
		t.Fatal(err)
	}
	token := *listed.Blocks[0].BlockToken
	secret.text("a block token", token)
	if _, err := getBlock(ctx, u.ebs, first, 1, token); err != nil {
		t.Error(err)
	}
	if _, err := getBlock(ctx, u.ebs, first, 3, token); err == nil {
		t.Error("a block was read by the token of another one")
	}
	_, err = u.ebs.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String(first), NextToken: aws.String(token)})
	if err == nil {
		t.Error("a page was read by the token of a block")
	}
	copied, err := u.ec2.CopySnapshot(ctx, &ec2.CopySnapshotInput{
		SourceRegion: aws.String("us-east-1"), SourceSnapshotId: aws.String(first), Encrypted: aws.Bool(true), KmsKeyId: aws.String(keys[1]),
	})
	if err != nil {
		t.Fatal(err)
	}
	wait(*copied.SnapshotId, "completed")

	// A bearer token, used and misused.
	out, errs, status := runShale(t, "token", "create", "--data-dir", s.dir, "--name", "test")
	bearer := strings.TrimSpace(out)
	if status != 0 || len(bearer) < 20 {
		t.Fatalf("token create: %q, %s", out, errs)
	}
	secret.text("a bearer token", bearer)
	altered := bearer[:len(bearer)-3] + "abc"
	secret.text("a bearer token that is none", altered)
	for authorization, want := range map[string]int{bearer: http.StatusOK, altered: http.StatusUnauthorized} {
		for _, path := range []string{"/snapshots/" + first + "/image", "/snapshots/" + first + "/blocks?page_token=" + token} {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+authorization)
			request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", blockSize, 2*blockSize-1))
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if good := answer.StatusCode < 300; want == http.StatusUnauthorized && answer.StatusCode != want || strings.HasSuffix(path, "/image") && good != (want == http.StatusOK) {
				t.Errorf("%s: status %d, want %d", path[:60], answer.StatusCode, want)
			}
		}
	}

	// Requests for a key that is disabled, by those who write, read and copy.
	if _, err := keyService.DisableKey(ctx, &kms.DisableKeyInput{KeyId: aws.String(keys[0])}); err != nil {
		t.Fatal(err)
	}
	if _, err := getBlock(ctx, u.ebs, first, 1, token); err == nil {
		t.Error("a block was read without its key")
	}
	if _, err := u.ebs.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), KmsKeyArn: aws.String(keys[0])}); err == nil {
		t.Error("a snapshot was started without its key")
	}
	for _, key := range []string{keys[0], unknown} {
		_, err := u.ec2.ModifyEbsDefaultKmsKeyId(ctx, &ec2.ModifyEbsDefaultKmsKeyIdInput{KmsKeyId: aws.String(key)})
		if err == nil {
			t.Error("what is no key that can be used became the default one")
		}
		_, err = u.ec2.CopySnapshot(ctx, &ec2.CopySnapshotInput{
			SourceRegion: aws.String("us-east-1"), SourceSnapshotId: aws.String(first), Encrypted: aws.Bool(true), KmsKeyId: aws.String(key),
		})
		if err != nil {
			t.Error(err)
		}
		_, err = u.ebs.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), KmsKeyArn: aws.String(key)})
		if err == nil {
			t.Error("a snapshot was started without a key")
		}
	}

	if status := s.stop(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	for _, name := range secret.inFolder(t, s.dir) {
		t.Errorf("after a clean end: %s", name)
	}

	// The control: an unencrypted block is found by the same search, and in
	// the log there are lines on all that was done.
	s.start(t)
	u = uploader{s.ebs(t), s.ec2(t)}
	open, visible := begin("", ""), randomBlock()
	plain.block("an unencrypted block", visible)
	if err := putBlock(ctx, u.ebs, open, 1, visible); err != nil {
		t.Fatal(err)
	}
	complete(open, visible)
	wait(open, "completed")
	s.stop(t)
	got := strings.Join(plain.inFolder(t, s.dir), "\n")
	for _, want := range []string{"block at 0 in", "block at 1000 in", "block at 262144 in", "block at 524256 in", "'s digest in"} {
		if !strings.Contains(got, "an unencrypted "+want) && !strings.Contains(got, "an unencrypted block"+want) {
			t.Errorf("the search does not find what is not encrypted: %s; it found\n%s", want, got)
		}
	}
	log := []byte(s.output(t))
	controls := make(needles)
	for _, word := range []string{first, second, *copied.SnapshotId, "PutSnapshotBlock", "GetSnapshotBlock", "DisableKey", "GenerateDataKey", "GetImage"} {
		controls.text(word, word)
	}
	if found := controls.in(log); len(found) != len(controls) {
		t.Errorf("of %q the log has %q only", slices.Sorted(maps.Keys(controls)), found)
	}
	for _, n := range []needles{secret, plain, logOnly} {
		for _, name := range n.in(log) {
			at := bytes.Index(log, n[name])
			t.Errorf("the log holds %s: %q", name, log[max(0, bytes.LastIndexByte(log[:at], '\n')+1):at+len(n[name])])
		}
	}

	// The audit, over all those starts.
	lines, err := os.ReadFile(trail)
	if err != nil {
		t.Fatal(err)
	}
	delete(controls, "GetImage") // under another name
	if found := controls.in(lines); len(found) != len(controls) {
		t.Errorf("of %q the audit has %q only", slices.Sorted(maps.Keys(controls)), found)
	}
	for _, n := range []needles{secret, plain, logOnly} {
		for _, name := range n.in(lines) {
			told := strings.Contains(name, "'s digest") || strings.Contains(name, "'s aggregate") ||
				name == "an encryption context" || name == "a client token"
			if !told {
				t.Errorf("the audit holds %s", name)
			}
		}
	}
}
