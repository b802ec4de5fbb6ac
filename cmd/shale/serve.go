package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"shale/internal/catalog"
	"shale/internal/datadir"
	"shale/internal/ebs"
	"shale/internal/ec2"
	"shale/internal/gateway"
	"shale/internal/iam"
	"shale/internal/kms"
	"shale/internal/plain"
	"shale/internal/quota"
	"shale/internal/trent"
)

// heapGoal is the memory, in bytes, that Go's part of the server is held to
// while that can be done by collecting garbage. Blocks are not in it (buffer).
const heapGoal = 144 << 20

// drainTime bounds how long requests may go on after SIGTERM.
const drainTime = 20 * time.Second

// maxBinDays is the longest time in the recycle bin. Spec: ec2-snapshots §9.
const maxBinDays = 365

// maxScrubDays is the longest time in which everything is read once: damage that
// is found later has had time to spread to the second copy.
const maxScrubDays = 365

type serveCmd struct {
	DataDir      string     `required:"" placeholder:"DIR" env:"SHALE_DATA_DIR" help:"Folder that holds everything; made if it does not exist."`
	Listen       string     `default:"127.0.0.1:8484" placeholder:"HOST:PORT" help:"Address to serve on; port 0 takes a free one. (${default})"`
	Region       []string   `default:"us-east-1" sep:"none" placeholder:"NAME" help:"Region that is served; give it again for more, the first is the default one. (${default})"`
	Anonymous    anonymous  `placeholder:"anywhere" help:"Admit requests without credentials, in the plain JSON dialect, as the default account; on loopback only unless =anywhere."`
	TestControls bool       `help:"Serve /_test/, where tests move the clock and let the server misbehave; loopback only, and only on a folder begun with it."`
	Behave       string     `placeholder:"FILE" help:"Misbehave from the start by the rules in FILE, as PUT /_test/behaviour has them; with --test-controls."`
	LogFormat    string     `default:"text" enum:"text,json" placeholder:"text|json" help:"Form of the log on stderr. (${default})"`
	RootKeyFile  string     `placeholder:"FILE" help:"File of 32 bytes that wraps the KMS keys, if it is not to be in the folder."`
	KMSEndpoint  string     `name:"kms-endpoint" placeholder:"URL" help:"Use the KMS there, with AWS credentials of the environment, instead of the one in the folder."`
	Catalog      catalogURL `placeholder:"URL" env:"SHALE_CATALOG" help:"Keep the catalog in the PostgreSQL database postgres://USER@HOST/NAME instead of the folder."`
	Verbose      bool       `short:"v" help:"Log each block that is read or written, too."`
	//nolint:lll // a help text
	RecycleBinDays int `default:"0" placeholder:"N" help:"Keep deleted snapshots for N days in the recycle bin, from which they can be restored; 0 to 365, 0 for no bin. (${default})"`
	//nolint:lll // a help text
	ScrubDays int `default:"30" placeholder:"N" help:"Read and verify everything that is stored once in N days, slowly; 1 to 365, 0 for never. (${default})"`
	//nolint:lll // a help text
	Quota []string `sep:"none" placeholder:"NAME=N" help:"Bound how often an account may ask, or how much it may have, in a region; 'aws' for all of AWS's quotas. May be given again."`
	//nolint:lll // a help text
	Audit string `placeholder:"FILE" help:"Write a line of JSON for each call that is not one of data, in the form of AWS's CloudTrail, to FILE; - for stdout."`
	//nolint:lll // a help text
	AuditData bool `help:"Write one for calls of data, too: each block and each page of a listing."`
	//nolint:lll // a help text
	AuditKeep int `default:"10" placeholder:"N" help:"Keep N full files of the audit, FILE.1 and so on, of 100 MiB each; 1 to 1000. (${default})"`
	//nolint:lll // a help text
	AllowUnsignedChecksum bool `help:"Accept block writes whose signature covers neither body nor checksum, as AWS does."`
	//nolint:lll // a help text
	MaxConnections int `default:"${max_connections}" placeholder:"N" help:"Open connections at most; one more takes the place of the one that is idle for the longest. (${default})"`

	tlsFlags

	disk catalog.Disk // nil for this machine's
}

// Help is shown by --help.
func (serveCmd) Help() string {
	return `Serves the EBS direct APIs, EC2's snapshot operations, KMS, IAM, STS and the plain
JSON dialect on one address. The first start makes the folder, an account and the
access key of its root user.
The key is in DIR/credentials, the address in DIR/config, as AWS's clients want
them; "shale env" prints what a shell needs to use them. A line that begins with
"ready" on stdout says that the server answers. SIGTERM or Ctrl-C lets requests
in progress finish, at most 20 seconds long.

The KMS keys that encrypt snapshots are in the folder, wrapped by a root key: the
one of --root-key-file, in SHALE_ROOT_KEY (base64), in the systemd credential
shale-root-key, or else DIR/keys/root, which the first start makes. Without it no
encrypted snapshot can be read: keep a copy, apart from the folder's.

With --tls-cert and --tls-key the address is https://. The files are looked at
while clients connect, and read anew when they have changed; for a certificate
that this system does not trust, DIR/config tells AWS's clients to. --acme-domain
gets a certificate from Let's Encrypt, or from the authority of --acme-directory
(step-ca, for one), and keeps it in DIR/acme: port 443 of the name must be
reachable from there and lead to --listen. That authority's own certificate is
one that the system trusts, or is in the file that SSL_CERT_FILE names.

With --catalog all but the blocks and the keys is in a database of PostgreSQL's,
which an empty folder is begun with. The password is better in PGPASSWORD or in
~/.pgpass than in the URL, where ps shows it.

What is acknowledged is on the disk. One process at a time can serve a folder.
While it runs it frees the space of deleted snapshots, and reads and proves
everything that is stored once in --scrub-days; what it finds damaged is in the
log and on /metrics, and "shale scrub" names it, too.

A snapshot belongs to a region: the one that the request was signed for, or for
plain HTTP that of the host name ebs.REGION.…, else the default one. Keys, lists,
client tokens and settings are apart in each; copy-snapshot goes from one to
another. AWS's clients take --region, or AWS_REGION.

A quota is for each account in each region. These can be set by --quota NAME=N;
the number here is AWS's, which --quota aws sets:

` + quota.Help() + `

What comes too often is refused so that AWS's clients wait and try again. Unless
something else is set, only copies are bounded, as by AWS.

With --audit there is a line for each call of management: who asked for what,
from where, and what became of it, refusals included. A line that cannot be
written is lost, which is in the log and on /metrics, and the call stands.

Examples:

    shale serve --data-dir ./data
    shale serve --data-dir ./data --anonymous
    shale serve --data-dir ./data --catalog postgres://shale@db.example/shale
    shale serve --data-dir ./data --region us-east-1 --region eu-west-1
    shale serve --data-dir ./data --quota aws --quota snapshots=500
    shale serve --data-dir /srv/shale --listen 127.0.0.1:0 --log-format json
    shale serve --data-dir /srv/shale --audit /var/log/shale/audit.json
    shale serve --data-dir /srv/shale --listen :8484 --tls-cert cert.pem --tls-key key.pem
    shale serve --data-dir /srv/shale --listen :443 --acme-domain shale.example.com`
}

// anonymous is the flag of that name: given alone, or with the value
// "anywhere".
type anonymous string

const (
	anonymousOff      anonymous = ""
	anonymousLoopback anonymous = "loopback"
	anonymousAnywhere anonymous = "anywhere"
)

// IsBool lets the flag stand without a value.
func (anonymous) IsBool() bool { return true }

// Decode implements kong.MapperValue.
func (a *anonymous) Decode(ctx *kong.DecodeContext) error {
	*a = anonymousLoopback
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	switch value := fmt.Sprint(ctx.Scan.Pop().Value); value {
	case string(anonymousAnywhere), string(anonymousLoopback):
		*a = anonymous(value)
	default:
		return fmt.Errorf("--anonymous stands alone or has the value anywhere, not %q", value)
	}
	return nil
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, std streams) error {
	// The collector works harder from here on instead of letting the heap
	// double: caches are bounded by themselves, far below.
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapGoal)
	}
	// All files are for the owner only, those too that SQLite makes.
	unix.Umask(0o077)
	log := newLogger(std.err, c.LogFormat, c.Verbose)
	if c.RecycleBinDays < 0 || c.RecycleBinDays > maxBinDays {
		return usagef("--recycle-bin-days %d is not a number of days from 0 to %d", c.RecycleBinDays, maxBinDays)
	}
	if c.ScrubDays < 0 || c.ScrubDays > maxScrubDays {
		return usagef("--scrub-days %d is not a number of days from 0 to %d", c.ScrubDays, maxScrubDays)
	}
	if c.MaxConnections < minConnections {
		return usagef("--max-connections %d: want %d at least", c.MaxConnections, minConnections)
	}
	if err := c.check(); err != nil {
		return err
	}
	if err := checkRegions(c.Region); err != nil {
		return err
	}
	limits, err := quota.Parse(c.Quota)
	if err != nil {
		return usagef("--quota: %w", err)
	}
	if err := c.checkAudit(); err != nil {
		return err
	}
	if c.Behave != "" && !c.TestControls {
		return usagef("--behave is for tests: it needs --test-controls")
	}
	dir, err := datadir.Open(c.DataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	secure, err := c.security(dir.Path(), log)
	if err != nil {
		return err
	}
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := c.checkExposure(listener.Addr(), log); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	trail, closeTrail, err := c.openAudit(plainWriter(std.out), log, registry)
	if err != nil {
		return err
	}
	defer closeTrail()
	root, err := c.rootKey()
	if err != nil {
		return err
	}
	if c.disk == nil {
		c.disk = catalog.LocalDisk{}
	}
	n, err := openNode(ctx, dir, nodeOptions{
		testControls: c.TestControls, log: log, registry: registry,
		binTime: time.Duration(c.RecycleBinDays) * 24 * time.Hour, rootKey: root, kmsEndpoint: c.KMSEndpoint, catalog: string(c.Catalog),
		scrubEvery: time.Duration(c.ScrubDays) * 24 * time.Hour, disk: c.disk, now: time.Now,
		quotas: limits,
	})
	if err != nil {
		return err
	}
	options := gateway.Options{
		EBS: ebs.New(n.service), EC2: ec2.New(n.service, c.Region), IAM: iam.New(n.identity), STS: iam.NewSTS(n.identity), Plain: plain.New(n.service),
		Keys: n.identity, Tokens: n, Clock: n.clock.now, Regions: c.Region, Quotas: n.quotas, AllowUnsignedChecksum: c.AllowUnsignedChecksum,
		Ready: n.ready, Audit: trail, Logger: log, Registry: registry,
		TLS: secure.config, MaxConnections: connectionLimit(c.MaxConnections, log),
	}
	if n.kms != nil {
		options.KMS = trent.New(n.kms)
	}
	if c.Anonymous != anonymousOff {
		options.Anonymous = n.account
	}
	if c.TestControls {
		options.TestControls = n
		log.Warn("test controls are on: whoever reaches this address can move the clock, and let the server misbehave")
	}
	g := gateway.New(options)
	if err := c.behave(g); err != nil {
		return errors.Join(err, n.close())
	}
	if err := warnUnserved(ctx, n.catalog, c.Region, log); err != nil {
		return errors.Join(err, n.close())
	}
	endpoint, bundle, err := c.endpoint(listener.Addr(), secure, log)
	if err == nil {
		err = n.writeClient(ctx, dir, datadir.Client{Region: c.Region[0], Endpoint: endpoint, CABundle: bundle})
	}
	if err == nil {
		err = c.serve(ctx, listener, gateway.NewServer(g, log), func() {
			if secure.acme != nil {
				go secure.acme.Obtain(log)
			}
			fmt.Fprintf(std.out, "ready: %s (keys and address for AWS clients: eval \"$(shale env --data-dir %s)\")%s\n",
				endpoint, shellQuote(c.DataDir), c.notices())
		}, log)
	}
	return errors.Join(err, n.close())
}

// behave lets g misbehave by the rules in the file that --behave names.
func (c *serveCmd) behave(g *gateway.Gateway) error {
	if c.Behave == "" {
		return nil
	}
	rules, err := os.ReadFile(c.Behave)
	if err != nil {
		return usagef("--behave: %w", err)
	}
	if err := g.Behave(rules); err != nil {
		return usagef("--behave %s: %w", c.Behave, err)
	}
	return nil
}

// A catalogURL is the flag --catalog.
type catalogURL string

// Decode implements kong.MapperValue. The value may hold a password.
func (u *catalogURL) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("url", &text); err != nil {
		return err
	}
	if !catalog.IsURL(text) {
		return errors.New("it is the URL of a PostgreSQL database, postgres://USER@HOST:5432/NAME")
	}
	*u = catalogURL(text)
	return nil
}

// rootKey gives the root key that is named, nil for the one in the folder.
func (c *serveCmd) rootKey() (*kms.Root, error) {
	if c.KMSEndpoint == "" {
		return namedRoot(c.RootKeyFile)
	}
	if err := checkEndpoint(c.KMSEndpoint); err != nil {
		return nil, usagef("--kms-endpoint %w", err)
	}
	if c.RootKeyFile != "" {
		return nil, usagef("--root-key-file is for the KMS in the folder, and --kms-endpoint for one elsewhere: use one of them")
	}
	return nil, nil
}

// notices are what the ready line adds about an unusual server.
func (c *serveCmd) notices() string {
	text := ""
	if c.Anonymous != anonymousOff {
		text += " [anonymous]"
	}
	if c.TestControls {
		text += " [test controls]"
	}
	if c.Behave != "" {
		text += " [misbehaving]"
	}
	return text
}

// serve answers requests until ctx ends, and then those in progress.
func (c *serveCmd) serve(ctx context.Context, l net.Listener, server *gateway.Server, ready func(), log *slog.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	if os.Getenv("GOMEMLIMIT") == "" {
		go allowMemory(ctx, server.Open)
	}
	ready()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping, requests in progress may finish", "at_most", drainTime)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := server.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("requests in progress were cut off", "after", drainTime)
		err = server.Close()
	}
	if closed := <-failed; !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, closed)
	}
	return err
}

// listen takes the address.
func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot serve on %s: %w; choose another address with --listen", address, err)
	}
	return l, nil
}

// checkExposure refuses what must not be reached from other machines, and
// warns of the rest.
func (c *serveCmd) checkExposure(addr net.Addr, log *slog.Logger) error {
	tcp, ok := addr.(*net.TCPAddr)
	if ok && tcp.IP.IsLoopback() {
		return nil
	}
	if c.Anonymous == anonymousLoopback {
		return usagef("%s can be reached from other machines: --anonymous admits everybody there; "+
			"serve on a loopback address, or say --anonymous=anywhere", addr)
	}
	if c.TestControls {
		return usagef("%s can be reached from other machines: --test-controls is for loopback addresses only", addr)
	}
	if c.TLSCert == "" && len(c.ACMEDomain) == 0 {
		log.Warn("NOT ENCRYPTED: this address can be reached from other machines, and whoever is on the way sees every block and token; "+
			"serve with --tls-cert and --tls-key, or with --acme-domain, or put a TLS proxy in front", "address", addr.String())
	}
	return nil
}

func newLogger(w io.Writer, format string, verbose bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbose {
		o.Level = slog.LevelDebug
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// A testClock is the service's clock: the real one, and what tests have moved
// it forward by.
type testClock struct {
	real   func() time.Time
	mu     sync.Mutex
	offset time.Duration
}

func (c *testClock) now() time.Time {
	now, _ := c.read()
	return now
}

func (c *testClock) read() (time.Time, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.real().Add(c.offset), c.offset
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}
