package kms

import (
	"errors"

	"shale/internal/policy"
)

// maxPolicy is AWS's quota on a key policy, in bytes.
const maxPolicy = 32 << 10

// PolicyName is the only name that a key policy can have.
const PolicyName = "default"

// parsePolicy reads the policy of a key. An error is an *Error of code
// MalformedPolicy or LimitExceeded; it says nothing of what is in the policy, for
// its text goes to the log, too.
func parsePolicy(text string) (*policy.Policy, error) {
	if len(text) > maxPolicy {
		return nil, refuse(LimitExceeded, "The key policy has more than %d bytes.", maxPolicy)
	}
	p, err := policy.Parse(text, policy.Key)
	if e, ok := errors.AsType[*policy.MalformedError](err); ok {
		return nil, &Error{Code: MalformedPolicy, Text: e.Text}
	}
	return p, err
}

// defaultPolicy gives the account all rights: what a key has that was made
// without one. It is AWS's text.
func defaultPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

// managedPolicy is that of a key managed by AWS: its account, and nobody else,
// may use it and look at it.
func managedPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "auto-ebs-2",
  "Statement" : [ {
    "Sid" : "Allow the use of the key in its account",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : [ "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*", "kms:Get*", "kms:List*" ],
    "Resource" : "*"
  } ]
}`
}
