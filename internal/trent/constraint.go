package trent

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"shale/internal/rest"
)

// A violation is one value outside the model's constraints.
type violation struct {
	field string
	// value is what AWS prints of it: " 'x'", " null", or nothing for what is
	// secret or long.
	value      string
	constraint string
}

// An invalidError is a request that breaks the model's constraints. Its text is
// for the log and names the members only: what stands in them may be anything.
type invalidError struct{ violations []violation }

func (e *invalidError) Error() string {
	fields := make([]string, len(e.violations))
	for i, v := range e.violations {
		fields[i] = v.field
	}
	return "invalid " + strings.Join(fields, ", ")
}

// message is what AWS's framework says to the caller. Spec: ebs-direct §2.3.
func (e *invalidError) message() string {
	parts := make([]string, len(e.violations))
	for i, v := range e.violations {
		parts[i] = fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: %s", v.value, v.field, v.constraint)
	}
	errors := "error"
	if len(parts) > 1 {
		errors = "errors"
	}
	return fmt.Sprintf("%d validation %s detected: %s", len(parts), errors, strings.Join(parts, "; "))
}

// maxViolations bounds what one answer tells.
const maxViolations = 20

// A checker collects what an input breaks. Its methods take nil for a member
// that is absent.
type checker []violation

func (c *checker) add(field, value, constraint string) {
	if len(*c) < maxViolations {
		*c = append(*c, violation{field, value, constraint})
	}
}

func (c checker) err() error {
	if len(c) == 0 {
		return nil
	}
	return &invalidError{c}
}

func (c *checker) missing(field string) { c.add(field, " null", "Member must not be null") }

func quoted(s string) string { return " '" + s + "'" }

// length checks a length, in the unit of the model, of a value that is printed
// as shown.
func (c *checker) length(field, shown string, length, low, high int) {
	if length < low {
		c.add(field, shown, fmt.Sprintf("Member must have length greater than or equal to %d", low))
	}
	if length > high {
		c.add(field, shown, fmt.Sprintf("Member must have length less than or equal to %d", high))
	}
}

func (c *checker) text(field string, s *string, low, high int) {
	if s != nil {
		c.length(field, quoted(*s), utf8.RuneCountInString(*s), low, high)
	}
}

func (c *checker) pattern(field string, s *string, p *regexp.Regexp, shown string) {
	if s != nil && !p.MatchString(*s) {
		c.add(field, quoted(*s), "Member must satisfy regular expression pattern: "+shown)
	}
}

func (c *checker) number(field string, n *int32, low, high int32) {
	if n == nil {
		return
	}
	value := quoted(strconv.Itoa(int(*n)))
	if *n < low {
		c.add(field, value, fmt.Sprintf("Member must have value greater than or equal to %d", low))
	}
	if *n > high {
		c.add(field, value, fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
}

func (c *checker) enum(field string, s *string, values ...string) {
	if s == nil {
		return
	}
	for _, v := range values {
		if *s == v {
			return
		}
	}
	c.add(field, quoted(*s), "Member must satisfy enum value set: ["+strings.Join(values, ", ")+"]")
}

// Constraints of the model's shapes.
const (
	maxKeyID    = 2048
	maxPolicy   = 131_072
	maxBlob     = 6144
	maxBytes    = 1024
	maxPageSize = 1000
	maxMarker   = 1024
)

var (
	aliasPattern  = regexp.MustCompile(`^[a-zA-Z0-9:/_-]+$`)
	policyPattern = regexp.MustCompile(`^[\x{0009}\x{000A}\x{000D}\x{0020}-\x{00FF}]+$`)
	markerPattern = regexp.MustCompile(`^[\x{0020}-\x{00FF}]*$`)
	namePattern   = regexp.MustCompile(`^\w+$`)
)

// key checks the name of a key that has to be there.
func (c *checker) key(field string, s *string) {
	if s == nil {
		c.missing(field)
		return
	}
	c.text(field, s, 1, maxKeyID)
}

func (c *checker) alias(s *string) {
	if s == nil {
		c.missing("aliasName")
		return
	}
	c.text("aliasName", s, 1, 256)
	c.pattern("aliasName", s, aliasPattern, "^[a-zA-Z0-9:/_-]+$")
}

func (c *checker) policy(s *string) {
	if s == nil {
		return
	}
	c.length("policy", "", utf8.RuneCountInString(*s), 1, maxPolicy)
	if !policyPattern.MatchString(*s) {
		c.add("policy", "", `Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`)
	}
}

func (c *checker) policyName(s *string) {
	c.text("policyName", s, 1, 128)
	c.pattern("policyName", s, namePattern, `[\w]+`)
}

func (c *checker) blob(field string, b *[]byte, high int) {
	if b == nil {
		c.missing(field)
		return
	}
	c.length(field, "", len(*b), 1, high)
}

func (c *checker) encryption(field string, m map[string]*string) {
	for name, value := range m {
		if value == nil {
			c.missing(field + "." + name + ".member")
		}
	}
}

func (c *checker) page(p paging) {
	c.number("limit", p.Limit, 1, maxPageSize)
	c.text("marker", p.Marker, 1, maxMarker)
	c.pattern("marker", p.Marker, markerPattern, `[\u0020-\u00FF]*`)
}

func (c *checker) grants(tokens []string) {
	if len(tokens) > 10 {
		c.add("grantTokens", "", "Member must have length less than or equal to 10")
	}
}

// decode reads the call's body into in and checks it.
func (c *call) decode(in input) error {
	if err := rest.DecodeObject(c.body, in); err != nil {
		return err
	}
	var found checker
	in.check(&found)
	return found.err()
}

// An input is what an operation is asked with.
type input interface{ check(c *checker) }
