package policy

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// values are those of a condition, read when the policy is: each operator has
// them in one of these.
type values struct {
	patterns  []pattern // of strings and ARNs
	numbers   []float64
	dates     []time.Time
	booleans  []bool // of Bool and Null
	binaries  [][]byte
	addresses []netip.Prefix
}

// addValue reads a value as the operator needs it. What is none would never match,
// or always, and nobody can have meant that.
func (p *parser) addValue(op operator, text string, to *values) error {
	var err error
	right := ""
	switch op.kind {
	case stringExact, stringFold, stringLike:
		m := plain
		if op.kind == stringLike {
			m = wild
		}
		var v pattern
		v, err = p.pattern(text, m)
		to.patterns = append(to.patterns, v)
	case number:
		v, ok := parseNumber(text)
		to.numbers = append(to.numbers, v)
		right = unless(ok, "a value of a Numeric operator must be a number: 100")
	case date:
		v, ok := parseDate(text)
		to.dates = append(to.dates, v)
		right = unless(ok, "a value of a Date operator must be a date of ISO 8601 with its zone, or seconds since 1970: 2026-01-31T12:00:00Z")
	case boolean, null:
		v, ok := parseBoolean(text)
		to.booleans = append(to.booleans, v)
		right = unless(ok, "a value of Bool and Null must be true or false")
	case binary:
		v, decodeErr := base64.StdEncoding.DecodeString(text)
		to.binaries = append(to.binaries, v)
		right = unless(decodeErr == nil, "a value of BinaryEquals must be Base64")
	case address:
		v, ok := parsePrefix(text)
		to.addresses = append(to.addresses, v)
		right = unless(ok, "a value of IpAddress and NotIpAddress must be an address or a range of them: 203.0.113.0/24, 2001:db8::/32")
	case arn:
		v := pattern{shape: wildcard}
		v.tokens, v.variables, err = p.tokens(text, wild)
		if len(v.variables) > 0 {
			v.shape = variant
		}
		to.patterns = append(to.patterns, v)
		right = unless(err != nil || v.isARN(), "a value of an Arn operator must be an ARN of six parts: arn:aws:ec2:*::snapshot/*")
	}
	if err != nil {
		return err
	}
	if right != "" {
		return p.malformed(syntaxErrors, right)
	}
	return nil
}

func unless(ok bool, text string) string {
	if ok {
		return ""
	}
	return text
}

// match reports whether one value of the request matches any of the policy's.
func (c *condition) match(e *evaluation, s string) bool {
	switch c.kind {
	case stringExact, stringLike:
		return anyOf(c.values.patterns, func(p *pattern) bool { return p.matches(e, s) })
	case stringFold:
		return anyOf(c.values.patterns, func(p *pattern) bool { return p.matchesFold(e, s) })
	case arn:
		return anyOf(c.values.patterns, func(p *pattern) bool { return p.matchesARN(e, s) })
	case number:
		n, ok := parseNumber(s)
		return ok && anyOf(c.values.numbers, func(v *float64) bool { return c.relation.holds(cmp.Compare(n, *v)) })
	case date:
		t, ok := parseDate(s)
		return ok && anyOf(c.values.dates, func(v *time.Time) bool { return c.relation.holds(t.Compare(*v)) })
	case boolean:
		b, ok := parseBoolean(s)
		return ok && anyOf(c.values.booleans, func(v *bool) bool { return b == *v })
	case binary:
		b, err := base64.StdEncoding.DecodeString(s)
		return err == nil && anyOf(c.values.binaries, func(v *[]byte) bool { return bytes.Equal(b, *v) })
	default:
		a, err := netip.ParseAddr(s)
		return err == nil && anyOf(c.values.addresses, func(v *netip.Prefix) bool { return v.Contains(a.Unmap()) })
	}
}

func anyOf[T any](values []T, matches func(*T) bool) bool {
	for i := range values {
		if matches(&values[i]) {
			return true
		}
	}
	return false
}

// matchNull is the Null operator: its value says whether the key is missing.
func (v *values) matchNull(missing bool) bool {
	return anyOf(v.booleans, func(b *bool) bool { return *b == missing })
}

// matchesARN compares part by part: what stands for one part never spans a colon,
// but in the last.
func (p *pattern) matchesARN(e *evaluation, s string) bool {
	tokens, ok := p.filled(e)
	if !ok {
		return false
	}
	if len(tokens) == 1 && tokens[0] == anyRun {
		return true
	}
	for range 5 {
		end := tokenIndex(tokens, ':')
		part, rest, found := strings.Cut(s, ":")
		if end < 0 || !found || !fits(tokens[:end], part) {
			return false
		}
		tokens, s = tokens[end+1:], rest
	}
	return fits(tokens, s)
}

func tokenIndex(tokens []token, t token) int {
	for i := range tokens {
		if tokens[i] == t {
			return i
		}
	}
	return -1
}

// isARN reports whether an ARN can fit the pattern. Of one with variables this is
// not known before they are.
func (p *pattern) isARN() bool {
	if len(p.tokens) == 1 && p.tokens[0] == anyRun || p.shape == variant && p.tokens[0] >= firstVariable {
		return true
	}
	colons := 0
	for i, t := range p.tokens {
		if i < len("arn:") && t != token("arn:"[i]) {
			return false
		}
		if t == ':' {
			colons++
		}
	}
	return colons >= 5 || colons > 0 && p.shape == variant
}

var numeral = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func parseNumber(s string) (float64, bool) {
	if !isInteger(s) && !numeral.MatchString(s) {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

func isInteger(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// The forms of dates that the W3C's note on ISO 8601 has. A fraction of seconds is
// read besides.
var dateForms = [...]string{time.RFC3339, "2006-01-02", "2006-01-02T15:04Z07:00", "2006-01", "2006"}

// parseDate reads a date, or seconds since 1970, which have another number of
// digits than a year.
func parseDate(s string) (time.Time, bool) {
	if isInteger(s) && len(s) != len("2006") {
		seconds, err := strconv.ParseInt(s, 10, 48)
		return time.Unix(seconds, 0), err == nil
	}
	for _, form := range dateForms {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func parseBoolean(s string) (value, ok bool) {
	value = strings.EqualFold(s, "true")
	return value, value || strings.EqualFold(s, "false")
}

// parsePrefix reads an address or a range of addresses.
func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 { // addresses are compared as what they are in IPv4
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return p, true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}
