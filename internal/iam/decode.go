package iam

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"shale/internal/query"
)

// A decoder reads parameters, checks them against the model's constraints and
// keeps the first error. Violations are collected, and told together.
type decoder struct {
	form  query.Form
	found []string // violations, as AWS's framework words them
	names []string // of the members that they are about
	err   error
}

// An invalidError is a request that breaks the model's constraints. Its text is
// for the log and names the members only: what stands in them may be anything.
type invalidError struct{ found, names []string }

func (e *invalidError) Error() string { return "invalid " + strings.Join(e.names, ", ") }

// message is what AWS's framework says to the caller. Spec: ebs-direct §2.3.
func (e *invalidError) message() string {
	errors := "error"
	if len(e.found) > 1 {
		errors = "errors"
	}
	return fmt.Sprintf("%d validation %s detected: %s", len(e.found), errors, strings.Join(e.found, "; "))
}

func (c *call) decoder() *decoder { return &decoder{form: c.form} }

// done returns the first error, or all violations.
func (d *decoder) done() error {
	if d.err != nil {
		return d.err
	}
	if d.found != nil {
		return &invalidError{d.found, d.names}
	}
	return nil
}

// violate notes that a value is not what the constraint says. value is what is
// printed of it.
func (d *decoder) violate(name, value, constraint string) {
	field := strings.ToLower(name[:1]) + name[1:]
	d.names = append(d.names, field)
	d.found = append(d.found, fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: %s", value, field, constraint))
}

// A shape is the constraint of a text.
type shape struct {
	low, high int // characters; high 0 for any
	pattern   *regexp.Regexp
	shown     string // the pattern as AWS writes it
	secret    bool   // its value is not printed
}

func nameShape(low, high int) shape {
	return shape{low: low, high: high, pattern: regexp.MustCompile(`^[\w+=,.@-]*$`), shown: `[\w+=,.@-]+`}
}

// Shapes of the models. Source: IAM's and STS's models.
var (
	newName     = nameShape(1, 64)  // of a user that is made, and of every role
	userName    = nameShape(1, 128) // of a user that may be there
	policyName  = nameShape(1, 128)
	sessionName = nameShape(2, 64)
	path        = shape{low: 1, high: 512, pattern: regexp.MustCompile(`^(/|/[\x21-\x7e]+/)$`), shown: `(\u002F)|(\u002F[\u0021-\u007E]+\u002F)`}
	pathPrefix  = shape{low: 1, high: 512, pattern: regexp.MustCompile(`^/[\x21-\x7f]*$`), shown: `\u002F[\u0021-\u007F]*`}
	keyID       = shape{low: 16, high: 128, pattern: regexp.MustCompile(`^\w*$`), shown: `[\w]+`}
	marker      = shape{low: 1, high: 320, pattern: regexp.MustCompile(`^[\x{20}-\x{ff}]*$`), shown: `[\u0020-\u00FF]+`}
	document    = shape{
		low: 1, high: 131_072, pattern: regexp.MustCompile(`^[\x{09}\x{0a}\x{0d}\x{20}-\x{ff}]*$`), shown: `[\u0009\u000A\u000D\u0020-\u00FF]+`,
		secret: true,
	}
	description = shape{
		high: 1000, pattern: regexp.MustCompile(`^[\x{09}\x{0a}\x{0d}\x{20}-\x{7e}\x{a1}-\x{ff}]*$`),
		shown: `[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*`,
	}
	roleARN    = shape{low: 20, high: 2048}
	externalID = shape{low: 2, high: 1224, pattern: regexp.MustCompile(`^[\w+=,.@:/-]*$`), shown: `[\w+=,.@:\/-]*`, secret: true}
)

// optional reads a parameter, nil if it is absent.
func (d *decoder) optional(name string, s shape) *string {
	value, err := d.form.Optional(name)
	if err != nil && d.err == nil {
		d.err = err
	}
	if value == nil || err != nil {
		return nil
	}
	printed := " '" + *value + "'"
	if s.secret {
		printed = ""
	}
	n := utf8.RuneCountInString(*value)
	if s.high > 0 && n > s.high {
		d.violate(name, printed, fmt.Sprintf("Member must have length less than or equal to %d", s.high))
	}
	if n < s.low {
		d.violate(name, printed, fmt.Sprintf("Member must have length greater than or equal to %d", s.low))
	}
	if s.pattern != nil && !s.pattern.MatchString(*value) {
		d.violate(name, printed, "Member must satisfy regular expression pattern: "+s.shown)
	}
	return value
}

// text reads a parameter, empty if it is absent.
func (d *decoder) text(name string, s shape) string {
	if value := d.optional(name, s); value != nil {
		return *value
	}
	return ""
}

// required reads a parameter that has to be there.
func (d *decoder) required(name string, s shape) string {
	if !d.form.Has(name) {
		d.violate(name, " null", "Member must not be null")
		return ""
	}
	return d.text(name, s)
}

// number reads a number from low to high, usual if it is absent.
func (d *decoder) number(name string, low, high, usual int) int {
	value := d.text(name, shape{})
	if !d.form.Has(name) {
		return usual
	}
	n, err := strconv.ParseInt(value, 10, 32)
	switch {
	case err != nil:
		d.violate(name, " '"+value+"'", "Member must be an integer")
	case int(n) < low:
		d.violate(name, " '"+value+"'", fmt.Sprintf("Member must have value greater than or equal to %d", low))
	case int(n) > high:
		d.violate(name, " '"+value+"'", fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
	return int(n)
}

// seconds reads a duration, 0 if it is absent.
func (d *decoder) seconds(name string, low, high int) time.Duration {
	return time.Duration(d.number(name, low, high, 0)) * time.Second
}

// refuse refuses parameters that would change what is asked for, and that this
// server does not know how to honour.
func (d *decoder) refuse(names ...string) {
	for _, name := range names {
		if d.form.Mentions(name) {
			d.violate(name, "", "Member is not supported by this server")
		}
	}
}
