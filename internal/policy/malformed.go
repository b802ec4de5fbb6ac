package policy

import "strconv"

// A MalformedError says what is wrong with a policy and what would be right, and
// nothing of what is in it: the text goes to the log, too. Where AWS's words are
// known, it begins with them.
type MalformedError struct {
	Text string
}

func (e *MalformedError) Error() string {
	return e.Text
}

// AWS's words for the mistakes that it tells apart.
const (
	syntaxErrors    = "Syntax errors in policy."
	badVersion      = "Policy document must be version 2012-10-17 or greater."
	noActions       = "Policy statement must contain actions."
	noResources     = "Policy statement must contain resources."
	noVendor        = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
	manyColons      = "Actions/Condition can contain only one colon."
	badVendor       = "Vendor is not valid."
	badResource     = `Resource must be in ARN format or "*".`
	sameSID         = "Statement IDs (SID) in a single policy must be unique."
	hasPrincipal    = "Policy document should not specify a principal."
	invalid         = "Policy contains a statement with one or more invalid principals."
	onlyAssumeRole  = "AssumeRole policy may only specify STS AssumeRole actions."
	hasResource     = "Has prohibited field Resource."
	hasNotPrincipal = "Has prohibited field NotPrincipal."
)

// malformed reports a mistake in AWS's words, and in words of our own that say
// where and what would be right.
func (p *parser) malformed(aws, detail string) *MalformedError {
	text := aws
	switch {
	case detail == "":
	case p.statement > 0:
		text += " Statement " + strconv.Itoa(p.statement) + ": " + detail + "."
	default:
		text += " The policy: " + detail + "."
	}
	return &MalformedError{text}
}
