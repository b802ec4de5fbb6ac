package kms_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"shale/internal/kms"
)

// moto is an independent implementation of KMS's protocol. It does not enforce
// everything: it encrypts and decrypts under keys that are disabled or pending
// deletion, and it takes any credentials. What a Remote makes of such refusals
// is shown by TestRemoteErrors instead.
const moto = "moto[server]==5.2.5"

// newRemote returns a Remote over the KMS at the URL, with credentials of no
// meaning.
func newRemote(t *testing.T, url string) *kms.Remote {
	t.Helper()
	for _, name := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	r, err := kms.NewRemote(t.Context(), url)
	must(t, err)
	return r
}

// motoServer starts moto on a free port and returns its URL.
func motoServer(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	server := exec.CommandContext(ctx, installMoto(t), "-H", "127.0.0.1", "-p", "0")
	server.WaitDelay = 10 * time.Second
	log, err := server.StderrPipe()
	must(t, err)
	must(t, server.Start())
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			if url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(lines.Text()); url != "" {
				select {
				case found <- url:
				default:
				}
			}
		}
		close(found)
	}()
	t.Cleanup(func() {
		cancel()
		server.Wait()
	})
	url, ok := <-found
	if !ok {
		t.Fatal("moto does not start")
	}
	return url
}

// installMoto makes a Python environment with moto, once on each machine.
func installMoto(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	must(t, err)
	dir := filepath.Join(cache, "shale-test", strings.NewReplacer("[", "-", "]", "", "=", "").Replace(moto))
	program := filepath.Join(dir, "bin", "moto_server")
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return program
	}
	must(t, os.RemoveAll(dir))
	if out, err := exec.Command("python3", "-m", "venv", dir).CombinedOutput(); err != nil {
		t.Skipf("it needs python3 with venv: %v: %s", err, out)
	}
	if out, err := exec.Command(filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "--quiet", moto).CombinedOutput(); err != nil {
		t.Skipf("it needs %s, and pip cannot install that: %v: %s", moto, err, out)
	}
	must(t, os.WriteFile(filepath.Join(dir, "complete"), nil, 0o600))
	return program
}

func TestRemote(t *testing.T) {
	url := motoServer(t)
	r := newRemote(t, url)
	ctx := t.Context()
	admin := awskms.New(awskms.Options{
		Region: alice.Region, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	created, err := admin.CreateKey(ctx, &awskms.CreateKeyInput{})
	must(t, err)
	arn := aws.ToString(created.KeyMetadata.Arn)
	must(t, second(admin.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/disks"), TargetKeyId: &arn})))

	for _, name := range []string{arn, aws.ToString(created.KeyMetadata.KeyId), "alias/disks"} {
		k, err := r.Key(ctx, alice, name, kms.DescribeKey, kms.GenerateDataKey)
		must(t, err)
		if k.ARN != arn || k.Region != alice.Region || k.Manager != kms.Customer || !strings.Contains(arn, ":"+k.Account+":key/"+k.ID) {
			t.Errorf("%s: %+v", name, k)
		}
	}
	d, err := r.GenerateDataKey(ctx, alice, arn, volume)
	must(t, err)
	if got, err := r.Decrypt(ctx, alice, arn, d.Wrapped, volume); err != nil || got != d.Plaintext {
		t.Errorf("decrypt: %v", err)
	}
	_, err = r.Decrypt(ctx, alice, arn, d.Wrapped, map[string]string{"aws:ebs:id": "vol-2"})
	wantCode(t, err, kms.InvalidCiphertext, "")
	_, err = r.Key(ctx, alice, "alias/none")
	wantCode(t, err, kms.NotFound, "")
	_, err = r.Key(ctx, kms.Caller{Account: alice.Account, Region: "eu-west-3"}, aws.ToString(created.KeyMetadata.KeyId))
	wantCode(t, err, kms.NotFound, "") // the region is the caller's

	rsa, err := admin.CreateKey(ctx, &awskms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify})
	must(t, err)
	_, err = r.Key(ctx, alice, aws.ToString(rsa.KeyMetadata.Arn))
	wantCode(t, err, kms.InvalidUsage, "")

	disabled, err := admin.CreateKey(ctx, &awskms.CreateKeyInput{})
	must(t, err)
	must(t, second(admin.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: disabled.KeyMetadata.KeyId})))
	must(t, second(r.Key(ctx, alice, aws.ToString(disabled.KeyMetadata.Arn), kms.DescribeKey)))
	_, err = r.Key(ctx, alice, aws.ToString(disabled.KeyMetadata.Arn), kms.Decrypt)
	wantCode(t, err, kms.Disabled, aws.ToString(disabled.KeyMetadata.Arn)+" is disabled.")
	doomed, err := admin.CreateKey(ctx, &awskms.CreateKeyInput{})
	must(t, err)
	must(t, second(admin.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: doomed.KeyMetadata.KeyId})))
	_, err = r.Key(ctx, alice, aws.ToString(doomed.KeyMetadata.Arn), kms.Decrypt)
	wantCode(t, err, kms.InvalidState, aws.ToString(doomed.KeyMetadata.Arn)+" is pending deletion.")
}

// What a KMS elsewhere refuses is told as it says; what says nothing of the key
// is no refusal.
func TestRemoteErrors(t *testing.T) {
	const arn = "arn:aws:kms:us-east-1:111122223333:key/1"
	for _, tt := range []struct {
		status int
		body   string
		want   kms.Code // none for an error that is no *Error
	}{
		{400, `{"__type":"DisabledException","message":"it is disabled."}`, kms.Disabled},
		{400, `{"__type":"KMSInvalidStateException","message":"it is pending deletion."}`, kms.InvalidState},
		{400, `{"__type":"AccessDeniedException","Message":"no"}`, kms.AccessDenied},
		{400, `{"__type":"com.amazonaws.kms#NotFoundException","message":"no"}`, kms.NotFound},
		{400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`, kms.Throttled},
		{400, `{"__type":"UnrecognizedClientException","message":"who?"}`, ""},
		{400, `{"__type":"InvalidSignatureException","message":"what?"}`, ""},
		{500, `{"__type":"KMSInternalException","message":"sorry"}`, ""},
		{200, `{}`, ""},
		{200, `{"Plaintext":"AAAA","CiphertextBlob":"AAAA"}`, ""},
		{200, `nonsense`, ""},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.WriteHeader(tt.status)
			w.Write([]byte(tt.body))
		}))
		_, err := newRemote(t, server.URL).GenerateDataKey(t.Context(), alice, arn, nil)
		server.Close()
		switch e, ok := errors.AsType[*kms.Error](err); {
		case err == nil:
			t.Errorf("%s: a data key came", tt.body)
		case tt.want != "":
			wantCode(t, err, tt.want, "")
		case ok:
			t.Errorf("%s: taken for the refusal %v", tt.body, e)
		}
	}
}

func TestRemoteUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	_, err = newRemote(t, "http://"+l.Addr().String()).Key(t.Context(), alice, "alias/a")
	if _, ok := errors.AsType[*kms.Error](err); err == nil || ok {
		t.Errorf("got %v", err)
	}
}

// What is known of a key is asked again after five seconds at the latest, and
// not before each use.
func TestRemoteRemembers(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Write([]byte(`{"KeyMetadata":{"KeyId":"1","Arn":"arn:aws:kms:us-east-1:111122223333:key/1","KeyState":"Enabled","KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT","KeyManager":"AWS"}}`))
	}))
	defer server.Close()
	r := newRemote(t, server.URL)
	for range 3 {
		k, err := r.Key(t.Context(), alice, kms.DefaultKeyAlias, kms.Decrypt)
		must(t, err)
		if k.Manager != kms.AWS {
			t.Errorf("managed by %s", k.Manager)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}
