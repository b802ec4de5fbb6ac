package ec2

import (
	"shale/internal/snapshot"
)

// DecodeDescribe decodes a DescribeSnapshots as it stands in a form.
func DecodeDescribe(raw string) (snapshot.DescribeRequest, error) {
	f, err := parseForm(raw)
	if err != nil {
		return snapshot.DescribeRequest{}, err
	}
	return decodeDescribe(f)
}

// Code tells what the error tables say of err.
func Code(err error) (name string, status int) {
	c, _ := explain(err)
	return c.name, c.status
}

// SetBatch has lists without pages made of so many snapshots at a time.
func (h *Handler) SetBatch(n int64) { h.batch = n }
