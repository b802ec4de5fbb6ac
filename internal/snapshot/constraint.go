package snapshot

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A pattern is a regular expression of the model and what decides it. Those
// that every block passes are decided by hand: they are plain sets of
// characters.
type pattern struct {
	text  string
	match func(string) bool
}

// Patterns of the model's shapes. Spec: ebs-direct §2.4.
var (
	snapshotIDPattern = pattern{`^snap-[0-9a-f]+$`, func(s string) bool {
		digits, found := strings.CutPrefix(s, "snap-")
		return found && only(digits, func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' })
	}}
	// As the service checks it, not the model.
	tokenPattern    = pattern{`^[A-Za-z0-9+/=_-]+$`, func(s string) bool { return only(s, func(c byte) bool { return isBase64(c) || c == '_' || c == '-' }) }}
	checksumPattern = pattern{`^[A-Za-z0-9+/=]+$`, func(s string) bool { return only(s, isBase64) }}
	anyPattern      = pattern{`^[\S\s]+$`, func(s string) bool { return s != "" }}
	noSpacePattern  = expression(`^[\S]+$`)
	keyARNPattern   = expression(`arn:aws[a-z\-]*:kms:.*:[0-9]{12}:key/.*`)
)

func expression(text string) pattern { return pattern{text, regexp.MustCompile(text).MatchString} }

// only reports whether s has characters, all of them of the set.
func only(s string, set func(byte) bool) bool {
	for i := range len(s) {
		if !set(s[i]) {
			return false
		}
	}
	return s != ""
}

func isBase64(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '='
}

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
// matches the pattern, if there is one.
func (v *violations) text(field string, value *string, longest int, pattern pattern) {
	if value == nil {
		return
	}
	if utf8.RuneCountInString(*value) > longest {
		v.add(field, *value, fmt.Sprintf("Member must have length less than or equal to %d", longest))
	}
	if pattern.match != nil && !pattern.match(*value) {
		v.add(field, *value, "Member must satisfy regular expression pattern: "+pattern.text)
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
