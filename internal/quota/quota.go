// Package quota says how much an account may ask for: how often, and how many
// snapshots it may have. It keeps the rates, by token buckets; the limits on
// numbers are decided by who counts. It knows neither operations nor errors.
//
// Spec: ebs-direct §10.
package quota

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Name names one quota. Quotas are of an account in a region, unless their
// name says otherwise.
type Name int

// The quotas. Rates are requests a second.
const (
	StartRate Name = iota
	CompleteRate
	PutRate
	PutRatePerSnapshot
	GetRate
	GetRatePerSnapshot
	ListRate
	ListChangedRate
	// EC2Rate is of all operations of EC2 together, and of those of the plain
	// dialect that are not among the six. KMSRate and IAMRate likewise; STS
	// counts as IAM.
	EC2Rate
	KMSRate
	IAMRate
	// Pending is how many snapshots that StartSnapshot made may be pending.
	Pending
	// Snapshots is how many there may be, in whatever state.
	Snapshots
	// Copies is how many may be in progress.
	Copies

	numNames
)

// A quota is what is known of a Name.
type quota struct {
	text  string // on the command line
	what  string // it limits, for people
	aws   int64  // AWS's; 0 for none that is known
	large int64  // AWS's in its large regions, where that differs
	usual int64  // in force unless another is set; 0 for none
}

var quotas = [numNames]quota{
	StartRate:          {text: "start-snapshot-rate", what: "StartSnapshot requests a second", aws: 10},
	CompleteRate:       {text: "complete-snapshot-rate", what: "CompleteSnapshot requests a second", aws: 10},
	PutRate:            {text: "put-block-rate", what: "PutSnapshotBlock requests a second", aws: 1000, large: 5000},
	PutRatePerSnapshot: {text: "put-block-rate-per-snapshot", what: "likewise, to one snapshot", aws: 1000},
	GetRate:            {text: "get-block-rate", what: "GetSnapshotBlock requests a second", aws: 1000, large: 5000},
	GetRatePerSnapshot: {text: "get-block-rate-per-snapshot", what: "likewise, of one snapshot", aws: 1000},
	ListRate:           {text: "list-blocks-rate", what: "ListSnapshotBlocks requests a second", aws: 50},
	ListChangedRate:    {text: "list-changed-blocks-rate", what: "ListChangedBlocks requests a second", aws: 50},
	EC2Rate:            {text: "ec2-rate", what: "EC2 requests a second, all operations together"},
	KMSRate:            {text: "kms-rate", what: "KMS requests a second, likewise"},
	IAMRate:            {text: "iam-rate", what: "IAM and STS requests a second, likewise"},
	Pending:            {text: "pending-snapshots", what: "snapshots of StartSnapshot that are pending", aws: 100},
	Snapshots:          {text: "snapshots", what: "snapshots, in any state", aws: 100_000},
	Copies:             {text: "copies", what: "copies in progress", aws: 20, usual: 20},
}

// largeRegions are those in which AWS admits more blocks.
var largeRegions = []string{"us-east-1", "us-east-2", "us-west-2", "eu-west-1", "ap-southeast-1"}

// String returns the name as it is written on the command line.
func (n Name) String() string { return quotas[n].text }

// Names gives all names.
func Names() []Name {
	all := make([]Name, numNames)
	for i := range all {
		all[i] = Name(i)
	}
	return all
}

// largest is the largest value of a quota.
const largest = 1_000_000_000

// allOfAWS is what stands for all of AWS's quotas on the command line.
const allOfAWS = "aws"

// A Config says which quotas there are. The zero Config is what there is if
// nothing was said: a limit on copies.
type Config struct {
	aws bool
	set [numNames]int64 // 0: not set
}

// Parse makes a Config of settings, each of them "aws", for all of AWS's
// quotas, or "NAME=N"; these win. The error is for who wrote the settings.
func Parse(settings []string) (Config, error) {
	var c Config
	for _, s := range settings {
		if s == allOfAWS {
			c.aws = true
			continue
		}
		text, value, found := strings.Cut(s, "=")
		if !found {
			return Config{}, fmt.Errorf("%q is neither %s nor NAME=N; NAME is one of %s", s, allOfAWS, list())
		}
		n := slices.IndexFunc(quotas[:], func(q quota) bool { return q.text == text })
		if n < 0 {
			return Config{}, fmt.Errorf("%q is the name of no quota; those are %s", text, list())
		}
		if c.set[n] != 0 {
			return Config{}, fmt.Errorf("%s is given twice", text)
		}
		limit, err := strconv.ParseInt(value, 10, 64)
		if err != nil || limit < 1 || limit > largest {
			return Config{}, fmt.Errorf("%s: %q is not a number from 1 to %d", text, value, largest)
		}
		c.set[n] = limit
	}
	return c, nil
}

// list names the quotas.
func list() string {
	texts := make([]string, numNames)
	for n := range quotas {
		texts[n] = quotas[n].text
	}
	return strings.Join(texts, ", ")
}

// Limit gives a quota in a region; 0 for none.
func (c *Config) Limit(n Name, region string) int64 {
	q := &quotas[n]
	switch {
	case c.set[n] != 0:
		return c.set[n]
	case !c.aws || q.aws == 0:
		return q.usual
	case q.large != 0 && slices.Contains(largeRegions, region):
		return q.large
	}
	return q.aws
}

// Help is a table of the quotas for people, with AWS's values, indented.
func Help() string {
	var b strings.Builder
	for i := range quotas {
		q := &quotas[i]
		value := "-"
		if q.aws != 0 {
			value = strconv.FormatInt(q.aws, 10)
		}
		what := q.what
		if q.large != 0 {
			what += fmt.Sprintf(" (%d in large regions)", q.large)
		}
		fmt.Fprintf(&b, "    %-28s%8s  %s\n", q.text, value, what)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
