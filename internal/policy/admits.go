package policy

import (
	"slices"
	"strings"
)

// Admits reports whether a policy of a resource allows anything, under whatever
// conditions, to the account or to anybody in it. It is what is left to ask when
// somebody who was allowed has gone and the work goes on.
func (p *Policy) Admits(account string) bool {
	return slices.ContainsFunc(p.statements, func(s statement) bool {
		n := &s.principals
		return !s.deny && (n.anyone || slices.Contains(n.accounts, account) || slices.ContainsFunc(n.names, func(name string) bool {
			parts := strings.SplitN(name, ":", 6) // arn:aws:iam::ACCOUNT:user/NAME
			return len(parts) == 6 && parts[4] == account
		}))
	})
}
