package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"shale/internal/transfer"
)

// dialTimeout bounds one attempt to connect, so that several fit into the time
// in which an unreachable server must have been reported.
const dialTimeout = 4 * time.Second

// clientFlags are the flags of every command that talks to a server. What they
// leave open is decided as the AWS CLI decides it: environment, then profile.
type clientFlags struct {
	EndpointURL string `name:"endpoint-url" group:"where" placeholder:"URL" help:"Address of the server, for all services. Else AWS_ENDPOINT_URL_EBS, AWS_ENDPOINT_URL, the profile, AWS itself."`
	Profile     string `name:"profile" group:"where" placeholder:"NAME" help:"Profile in the AWS config files. Else AWS_PROFILE, default."`
	Region      string `name:"region" group:"where" placeholder:"NAME" help:"Region. Else AWS_REGION, the profile."`
}

// parallelFlag is for the commands that move blocks.
type parallelFlag struct {
	Parallel int `name:"parallel" default:"16" placeholder:"N" help:"Blocks in flight at once. (${default})"`
}

// Validate is called by kong.
func (f parallelFlag) Validate() error {
	if f.Parallel < 1 || f.Parallel > 256 {
		return fmt.Errorf("--parallel %d: want 1 to 256", f.Parallel)
	}
	return nil
}

// checkNoStream refuses the name by which other programs take standard input or
// output: an image is read and written in any order.
func checkNoStream(file string) error {
	if file == "-" {
		return usagef("standard input and output cannot be used; for a file of that name ./-")
	}
	return nil
}

// noCredentialsError reports that there is nothing to sign requests with.
type noCredentialsError struct{ err error }

func (e *noCredentialsError) Error() string {
	var last *smithy.OperationError
	if errors.As(e.err, &last) && last.Service() == imds.ServiceID {
		return "no credentials found" // nowhere, and this is no EC2 instance either
	}
	return fmt.Sprintf("no credentials found: %v", e.err)
}

func (e *noCredentialsError) Unwrap() error { return e.err }

// noRegionError reports that no region is configured.
type noRegionError struct{}

func (noRegionError) Error() string { return "no region is configured" }

// connect makes the client that the flags and the environment ask for. It
// makes no request to the server.
func (f clientFlags) connect(ctx context.Context, parallel int, log *slog.Logger) (*transfer.Client, error) {
	if f.EndpointURL != "" {
		if err := checkEndpoint(f.EndpointURL); err != nil {
			return nil, usagef("--endpoint-url %w", err)
		}
	}
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(f.Region),
		config.WithSharedConfigProfile(f.Profile),
		config.WithHTTPClient(httpClient(parallel)),
		config.WithLogger(logging.Nop{}), // it would write between our lines
	)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, noRegionError{}
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, &noCredentialsError{err}
	}
	ebsURL, ec2URL, err := f.endpoints(cfg)
	if err != nil {
		return nil, err
	}
	return transfer.New(ctx, transfer.Options{
		EBS: ebs.NewFromConfig(cfg, func(o *ebs.Options) {
			o.BaseEndpoint, o.Retryer = ebsURL, aws.NopRetryer{}
		}),
		EC2: ec2.NewFromConfig(cfg, func(o *ec2.Options) {
			o.BaseEndpoint, o.Retryer = ec2URL, aws.NopRetryer{}
		}),
		Parallel: parallel,
		Digests:  cacheFolder(),
		Log:      log,
	})
}

// endpoints returns the addresses of the two services, nil for AWS's own. The
// flag goes before the environment and the profile, which the SDK has read
// into cfg. An address given for one service only serves the other too, unless
// it is one of AWS's, whose services have addresses of their own.
func (f clientFlags) endpoints(cfg aws.Config) (ebsURL, ec2URL *string, err error) {
	if f.EndpointURL != "" {
		return &f.EndpointURL, &f.EndpointURL, nil
	}
	ebsURL = ebs.NewFromConfig(cfg).Options().BaseEndpoint
	ec2URL = ec2.NewFromConfig(cfg).Options().BaseEndpoint
	for _, u := range []*string{ebsURL, ec2URL} {
		if u == nil {
			continue
		}
		if err := checkEndpoint(*u); err != nil {
			return nil, nil, fmt.Errorf("configured endpoint %w", err)
		}
	}
	switch {
	case ebsURL == nil && ec2URL != nil && !isAWS(*ec2URL):
		ebsURL = ec2URL
	case ec2URL == nil && ebsURL != nil && !isAWS(*ebsURL):
		ec2URL = ebsURL
	}
	return ebsURL, ec2URL, nil
}

func checkEndpoint(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q: want an address such as http://127.0.0.1:8484", s)
	}
	return nil
}

// isAWS reports whether an address is one of Amazon's own.
func isAWS(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	for _, suffix := range []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

func httpClient(parallel int) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			// Else all but ten connections are closed after every block.
			t.MaxIdleConnsPerHost = parallel + 1
			// A block is two writes and two reads with these, not many.
			t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
		})
}

// cacheFolder is where digest lists are kept between commands; empty where the
// system knows no place.
func cacheFolder() string {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "shale")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".cache", "shale")
}

// printJSON writes v to the result as one object.
func printJSON(std streams, v any) error {
	enc := json.NewEncoder(std.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
