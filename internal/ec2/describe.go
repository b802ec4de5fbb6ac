package ec2

import (
	"strconv"
	"strings"

	"shale/internal/snapshot"
)

const (
	// Bounds of a page. Spec: ec2-snapshots §2.
	minResults = 5
	maxResults = 1000
	// maxFilterValues is EC2's limit for one call. Each value is matched with
	// each snapshot.
	maxFilterValues = 200
)

// decodeDescribe decodes the parameters of DescribeSnapshots.
func decodeDescribe(f form) (req snapshot.DescribeRequest, err error) {
	if req.MaxResults, req.NextToken, err = f.page(); err != nil {
		return req, err
	}
	if req.Filters, err = f.filters(); err != nil {
		return req, err
	}
	if req.Owners, err = f.accounts("Owner", "self", "amazon"); err != nil {
		return req, err
	}
	if req.RestorableBy, err = f.accounts("RestorableBy", "self", "all"); err != nil {
		return req, err
	}
	req.IDs, err = f.snapshotIDs()
	return req, err
}

// page decodes MaxResults and NextToken, nil where all is one page. A token
// alone asks for the largest page; an empty one is none, as SDK users write it
// for the first page. Spec: ec2-snapshots §2.
func (f form) page() (limit *int64, nextToken *string, err error) {
	token, err := f.Scalar("NextToken")
	if err != nil {
		return nil, nil, err
	}
	if token != "" {
		nextToken, limit = &token, new(int64(maxResults))
	}
	s, err := f.Scalar("MaxResults")
	if err != nil || !f.Has("MaxResults") {
		return limit, nextToken, err
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return nil, nil, refuse(invalidValue, "Value ( %s ) for parameter maxResults is invalid. Expecting an integer.", s)
	}
	if n < minResults {
		return nil, nil, refuse(invalidValue, "Value ( %s ) for parameter maxResults is invalid. Expecting a value greater than %d.", s, minResults)
	}
	return new(min(n, maxResults)), nextToken, nil
}

// filters decodes Filter.N.Name and Filter.N.Value.M.
func (f form) filters() ([]snapshot.Filter, error) {
	var filters []snapshot.Filter
	total := 0
	for n := range f.Numbers("Filter") {
		name, err := f.Scalar("Filter." + n + ".Name")
		if err != nil {
			return nil, err
		}
		if name == "" {
			return nil, refuse(missingParameter, "The request must contain the parameter Filter.%s.Name", n)
		}
		values, err := f.List("Filter." + n + ".Value")
		if err != nil {
			return nil, err
		}
		if values == nil {
			return nil, refuse(missingParameter, "The request must contain the parameter Filter.%s.Value", n)
		}
		if total += len(values); total > maxFilterValues {
			return nil, refuse(filterLimit, "The maximum number of filter values specified on a single call is %d.", maxFilterValues)
		}
		filters = append(filters, snapshot.Filter{Name: name, Values: values})
	}
	return filters, nil
}

// accounts returns a list of account numbers or of the words given.
func (f form) accounts(name string, words ...string) ([]string, error) {
	values, err := f.List(name)
	if err != nil {
		return nil, err
	}
	for _, v := range values {
		if !isAccount(v) && v != words[0] && v != words[1] {
			return nil, refuse(malformedUser, `Invalid user id: "%s"`, v)
		}
	}
	return values, nil
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// checkID checks the syntax of a snapshot ID: "snap-" and 8 or 17 lower-case
// hex digits. Spec: ec2-snapshots §1.3, §1.4.
func checkID(id string) error {
	digits, ok := strings.CutPrefix(id, "snap-")
	switch {
	case id == "":
		return refuse(invalidValue, "Value () for parameter snapshotId is invalid. Parameter may not be null or empty")
	case !ok || strings.ContainsAny(digits, "ABCDEF"):
		return refuse(invalidValue, "Value (%s) for parameter snapshotId is invalid. Expected: 'snap-...'.", id)
	case len(digits) != 8 && len(digits) != 17 || strings.Trim(digits, "0123456789abcdef") != "":
		// The trailing blank is AWS's.
		return refuse(malformedID, "Value ( %s ) for parameter SNAPSHOT is invalid. ", id)
	}
	return nil
}
