package datadir_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shale/internal/datadir"
)

func openDir(t *testing.T) (*datadir.Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

func files(t *testing.T, dir string) (credentials, config string) {
	t.Helper()
	f := datadir.FilesOf(dir)
	var texts []string
	for _, path := range []string{f.Credentials, f.Config} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
		texts = append(texts, string(b))
	}
	return texts[0], texts[1]
}

var client = datadir.Client{Region: "us-east-1", Endpoint: "http://127.0.0.1:1"}

func key(id, secret string) datadir.Key {
	return func() (string, string, error) { return id, secret, nil }
}

var clientKey = key("AKIA", "s=c/r+t")

func TestProfiles(t *testing.T) {
	d, dir := openDir(t)
	if err := datadir.AddProfile(dir, "backup", key("AKIB", "b")); !errors.Is(err, datadir.ErrNoServer) {
		t.Errorf("before the first start: got %v, want ErrNoServer", err)
	}
	if err := d.WriteClient(client, clientKey, nil); err != nil {
		t.Fatal(err)
	}
	if err := datadir.AddProfile(dir, "backup", key("AKIB", "b")); err != nil {
		t.Fatal(err)
	}
	credentials, config := files(t, dir)
	if d := cmp.Diff(`[default]
aws_access_key_id = AKIA
aws_secret_access_key = s=c/r+t

[backup]
aws_access_key_id = AKIB
aws_secret_access_key = b
`, credentials); d != "" {
		t.Errorf("credentials (-want +got):\n%s", d)
	}
	if d := cmp.Diff(`[default]
region = us-east-1
endpoint_url = http://127.0.0.1:1

[profile backup]
region = us-east-1
endpoint_url = http://127.0.0.1:1
`, config); d != "" {
		t.Errorf("config (-want +got):\n%s", d)
	}
	for name, want := range map[string]bool{"backup": true, "default": true, "back": false} {
		if has, err := datadir.HasProfile(dir, name); has != want || err != nil {
			t.Errorf("HasProfile(%s): got %v, %v", name, has, err)
		}
	}
}

// A server that has moved tells the profiles of its accounts; what people wrote
// stays as it is.
func TestMovedServer(t *testing.T) {
	d, dir := openDir(t)
	f := datadir.FilesOf(dir)
	for path, text := range map[string]string{
		f.Credentials: "# mine\n[work]\naws_access_key_id=X\n[default]\naws_access_key_id = old\n",
		f.Config: "[ default ]\noutput = json\nendpoint_url=http://old\nregion = eu-west-1\n\n[profile work]\nendpoint_url = http://old\n" +
			"[profile backup]\ns3 =\n  endpoint_url = http://elsewhere\nendpoint_url = http://old\n[broken",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.WriteClient(client, clientKey, []string{"backup", "no-profile"}); err != nil {
		t.Fatal(err)
	}
	credentials, config := files(t, dir)
	if d := cmp.Diff("# mine\n[work]\naws_access_key_id=X\n[default]\naws_access_key_id = AKIA\naws_secret_access_key = s=c/r+t\n", credentials); d != "" {
		t.Errorf("credentials (-want +got):\n%s", d)
	}
	if d := cmp.Diff("[default]\noutput = json\nendpoint_url = http://127.0.0.1:1\nregion = us-east-1\n\n[profile work]\nendpoint_url = http://old\n"+
		"[profile backup]\ns3 =\n  endpoint_url = http://elsewhere\nendpoint_url = http://127.0.0.1:1\n[broken\nregion = us-east-1\n", config); d != "" {
		t.Errorf("config (-want +got):\n%s", d)
	}
}

// Of profiles added at once none is lost, and a server may start meanwhile.
func TestProfilesAtOnce(t *testing.T) {
	d, dir := openDir(t)
	if err := d.WriteClient(client, clientKey, nil); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := datadir.AddProfile(dir, fmt.Sprintf("n%d", i), key(fmt.Sprintf("K%d", i), "s"))
			if i%5 == 0 {
				err = errors.Join(err, d.WriteClient(client, clientKey, nil))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	credentials, config := files(t, dir)
	for i := range 20 {
		if !strings.Contains(credentials, fmt.Sprintf("[n%d]\naws_access_key_id = K%d\n", i, i)) ||
			!strings.Contains(config, fmt.Sprintf("[profile n%d]\n", i)) {
			t.Errorf("profile n%d is lost", i)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

// A key that is exchanged while another process writes the one before it, as a
// server does that starts, is in the files at the end.
func TestReplacedKey(t *testing.T) {
	d, dir := openDir(t)
	read, replaced, started := make(chan bool), make(chan bool), make(chan error)
	go func() {
		started <- d.WriteClient(client, func() (string, string, error) {
			close(read)
			select { // the lock keeps the other from being done
			case <-replaced:
			case <-time.After(100 * time.Millisecond):
			}
			return "OLD", "s", nil
		}, nil)
	}()
	<-read
	err := d.WriteClient(client, key("NEW", "s"), nil)
	close(replaced)
	if err := errors.Join(err, <-started); err != nil {
		t.Fatal(err)
	}
	if id, _, found, err := datadir.ProfileKey(dir, "default"); id != "NEW" || !found || err != nil {
		t.Errorf("got %s, %v, %v; want NEW", id, found, err)
	}
}

// A key that cannot be had changes nothing.
func TestUnknownKey(t *testing.T) {
	d, dir := openDir(t)
	if err := d.WriteClient(client, clientKey, nil); err != nil {
		t.Fatal(err)
	}
	credentials, config := files(t, dir)
	unknown := errors.New("unknown")
	err := datadir.AddProfile(dir, "backup", func() (string, string, error) { return "", "", unknown })
	if !errors.Is(err, unknown) {
		t.Errorf("got %v", err)
	}
	if again, config2 := files(t, dir); again != credentials || config2 != config {
		t.Error("the files were changed")
	}
}

// A crash between the two files leaves a profile that is not whole; it is added
// again.
func TestHalfAProfile(t *testing.T) {
	d, dir := openDir(t)
	if err := d.WriteClient(client, clientKey, nil); err != nil {
		t.Fatal(err)
	}
	_, config := files(t, dir)
	if err := datadir.AddProfile(dir, "backup", key("AKIB", "b")); err != nil {
		t.Fatal(err)
	}
	whole, _ := files(t, dir)
	if err := os.WriteFile(datadir.FilesOf(dir).Config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if has, err := datadir.HasProfile(dir, "backup"); has || err != nil {
		t.Errorf("HasProfile: got %v, %v", has, err)
	}
	if err := datadir.AddProfile(dir, "backup", key("AKIB", "b")); err != nil {
		t.Fatal(err)
	}
	if has, err := datadir.HasProfile(dir, "backup"); !has || err != nil {
		t.Errorf("HasProfile once it is added again: got %v, %v", has, err)
	}
	if again, _ := files(t, dir); again != whole {
		t.Errorf("credentials (-want +got):\n%s", cmp.Diff(whole, again))
	}
}
