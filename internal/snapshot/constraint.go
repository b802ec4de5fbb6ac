package snapshot

import (
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// Patterns of the model's shapes. Spec: ebs-direct §2.4.
var (
	snapshotIDPattern = regexp.MustCompile(`^snap-[0-9a-f]+$`)
	tokenPattern      = regexp.MustCompile(`^[A-Za-z0-9+/=_-]+$`) // as the service checks it, not the model
	checksumPattern   = regexp.MustCompile(`^[A-Za-z0-9+/=]+$`)
	anyPattern        = regexp.MustCompile(`^[\S\s]+$`)
	noSpacePattern    = regexp.MustCompile(`^[\S]+$`)
	keyARNPattern     = regexp.MustCompile(`arn:aws[a-z\-]*:kms:.*:[0-9]{12}:key/.*`)
)

// violations collects what a request's values break, in the framework's words.
type violations []Violation

func (v *violations) add(field, value, constraint string) {
	*v = append(*v, Violation{Field: field, Value: &value, Constraint: constraint})
}

func (v *violations) missing(field string) {
	*v = append(*v, Violation{Field: field, Constraint: "Member must not be null"})
}

// number checks that a value, if given, is at least low and at most high.
func (v *violations) number(field string, value *int64, low, high int64) {
	if value == nil {
		return
	}
	if *value < low {
		v.add(field, strconv.FormatInt(*value, 10), fmt.Sprintf("Member must have value greater than or equal to %d", low))
	}
	if *value > high {
		v.add(field, strconv.FormatInt(*value, 10), fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
}

// text checks that a value, if given, has at most longest characters and
// matches the pattern.
func (v *violations) text(field string, value *string, longest int, pattern *regexp.Regexp) {
	if value == nil {
		return
	}
	if utf8.RuneCountInString(*value) > longest {
		v.add(field, *value, fmt.Sprintf("Member must have length less than or equal to %d", longest))
	}
	if pattern != nil && !pattern.MatchString(*value) {
		v.add(field, *value, "Member must satisfy regular expression pattern: "+pattern.String())
	}
}

// enum checks that a value, if given, is the only one allowed.
func (v *violations) enum(field string, value *string, only string) {
	if value != nil && *value != only {
		v.add(field, *value, "Member must satisfy enum value set: ["+only+"]")
	}
}

func (v *violations) snapshotID(field, value string) {
	v.text(field, &value, 64, snapshotIDPattern)
}

// err gives the error for what was collected, or nil.
func (v violations) err() error {
	if len(v) == 0 {
		return nil
	}
	return &Error{Code: InvalidRequest, Violations: v, Field: v[0].Field}
}

// legibleXML reports whether XML 1.0 can carry every character of s.
// Spec: ebs-direct §3.
func legibleXML(s string) bool {
	for _, r := range s {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return true
}
