package main

import (
	"fmt"
	"strings"
	"testing"

	"shale/internal/transfer"
)

// What a server refuses for a reason of its own has a next step of its own.
func TestServiceHints(t *testing.T) {
	tests := []struct {
		code, message string
		want          string // part of the hint
	}{
		{"OperationNotPermitted", "The snapshot 'snap-01234567' is locked and can't be deleted.", "aws ec2 describe-locked-snapshots"},
		{"SignatureDoesNotMatch", `The region is not served here; the default one is "us-east-1"`, "--region"},
		{"InvalidSignatureException", `The region is not served here; the default one is "us-east-1"`, "--region"},
		{"SignatureDoesNotMatch", "The request signature we calculated does not match", "credentials"},
		{"ValidationException", "KMS refused the request: DisabledException: arn:aws:kms:us-east-1:111122223333:key/k is disabled", "aws kms describe-key"},
		{"ValidationException", "KMS refused the request: KMSInvalidStateException: k is pending deletion", "aws kms describe-key"},
		{"ValidationException", "The snapshots do not belong to one lineage and cannot be compared", ""},
	}
	for _, tt := range tests {
		t.Run(tt.code+" "+tt.message, func(t *testing.T) {
			got := hint(fmt.Errorf("delete: %w", &transfer.ServiceError{Code: tt.code, Message: tt.message}))
			if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("got %q, want a hint with %q", got, tt.want)
			}
		})
	}
}
