// Package transfer moves disk images into snapshots and back, over the public
// API and with the AWS SDK, so that it works against shale and against AWS
// alike. It is what the client commands do; it reads no environment, prints
// nothing and decides no exit code.
//
// An upload reads its image once, in ascending order, with a bounded number
// of blocks in flight; holes are never read, and with a parent only blocks
// that differ travel. A download writes a sparse file that appears under its
// name only when it is whole. Every block is hashed at both ends.
//
// A Client is safe for concurrent use; each call reports to the Meter of its
// request.
package transfer

import (
	"context"
	"log/slog"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// DefaultParallel is the number of blocks in flight unless told otherwise:
// enough to hide a long round trip, and 8 MiB of buffers.
const DefaultParallel = 16

// Options of a Client. EBS and EC2 are required.
type Options struct {
	// EBS and EC2 are the clients of the two services that a snapshot needs.
	// They should have aws.NopRetryer as their retryer: this package retries
	// by itself, and so knows of every attempt.
	EBS *ebs.Client
	EC2 *ec2.Client
	// Parallel is how many blocks are in flight at once; 0 means
	// DefaultParallel.
	Parallel int
	// Digests is the folder that keeps the digest lists of snapshots uploaded
	// from here; empty keeps none, and a parent is then read block by block.
	Digests string
	// Log gets what a person would like to know and no result tells; nil
	// discards it.
	Log *slog.Logger
}

// A Client uploads, downloads, compares, lists and deletes snapshots.
type Client struct {
	ebs      *ebs.Client
	ec2      *ec2.Client
	parallel int
	digests  digestStore
	log      *slog.Logger
	toEBS    *caller
	toEC2    *caller
}

// New returns a client. It makes no request.
func New(ctx context.Context, o Options) (*Client, error) {
	ebsAddress, err := ebsEndpoint(ctx, o.EBS)
	if err != nil {
		return nil, err
	}
	ec2Address, err := ec2Endpoint(ctx, o.EC2)
	if err != nil {
		return nil, err
	}
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		ebs:      o.EBS,
		ec2:      o.EC2,
		parallel: o.Parallel,
		digests:  digestStore{folder: o.Digests, endpoint: ebsAddress},
		log:      o.Log,
		toEBS:    &caller{endpoint: ebsAddress},
		toEC2:    &caller{endpoint: ec2Address},
	}, nil
}

// Endpoint returns the address that block requests go to.
func (c *Client) Endpoint() string { return c.toEBS.endpoint }

func ebsEndpoint(ctx context.Context, client *ebs.Client) (string, error) {
	o := client.Options()
	e, err := o.EndpointResolverV2.ResolveEndpoint(ctx, ebs.EndpointParameters{
		Region:       &o.Region,
		UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		Endpoint:     o.BaseEndpoint,
	})
	return normalEndpoint(e.URI), err
}

func ec2Endpoint(ctx context.Context, client *ec2.Client) (string, error) {
	o := client.Options()
	e, err := o.EndpointResolverV2.ResolveEndpoint(ctx, ec2.EndpointParameters{
		Region:       &o.Region,
		UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		Endpoint:     o.BaseEndpoint,
	})
	return normalEndpoint(e.URI), err
}

// normalEndpoint gives an address one spelling, because digest lists are kept
// by it.
func normalEndpoint(u url.URL) string {
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	u.User = nil
	return strings.TrimRight(u.String(), "/")
}
