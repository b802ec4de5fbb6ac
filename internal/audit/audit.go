// Package audit leaves one line of JSON for each call: who asked for what, from
// where, and what became of it, in the field names of AWS's CloudTrail. Doors
// fill a Record with what only they know of a call; the gateway makes an Event
// of it; a Trail writes that, and a File rotates what was written.
//
// No line holds a secret: no keys, signatures or tokens, no bytes of blocks, no
// plaintext or ciphertext, and no ARN of a KMS key. What is shown of a request
// is named, member by member; what is not named is left out.
//
// Spec: ebs-direct §13. Source: CloudTrail User Guide, Record contents.
package audit

import "context"

// Hidden stands in place of what is not shown. Spec: ebs-direct §13.
const Hidden = "HIDDEN_DUE_TO_SECURITY_REASONS"

// A Record is what the doors tell of one call, while it is served. The goroutine
// that serves the call owns it.
type Record struct {
	// Parameters are the requestParameters, and Response the responseElements,
	// with names in lowerCamel spelling; nil for null. They hold what can be
	// marshalled: maps, slices, strings, numbers, booleans.
	Parameters, Response map[string]any
	// Additional is the additionalEventData: what has no other place.
	Additional map[string]any
	// Snapshots are the IDs of those that the call is about, as resources.
	Snapshots []string

	code, message string   // of a refusal
	secrets       []string // that the message may quote
	data          bool     // calls of data leave a line, too
}

// recordKey is where a context has its *Record.
type recordKey struct{}

// With returns a context in which doors find r.
func (r *Record) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, recordKey{}, r)
}

// Management returns the record that a management call fills, nil if none is to
// be left.
func Management(ctx context.Context) *Record {
	r, _ := ctx.Value(recordKey{}).(*Record)
	return r
}

// Data returns the record that a call of data fills, nil if none is to be left.
func Data(ctx context.Context) *Record {
	if r := Management(ctx); r != nil && r.data {
		return r
	}
	return nil
}

// Refused notes the error that the client is told, by its code and its text.
func Refused(ctx context.Context, code, message string) {
	if r := Management(ctx); r != nil {
		r.code, r.message = code, message
	}
}

// Hide returns Hidden, to stand in place of a value, which then is not shown
// where the text of a refusal quotes it either.
func (r *Record) Hide(value string) string {
	r.secrets = append(r.secrets, value)
	return Hidden
}

// Add appends a name and its value to what is told about the call beside its
// parameters.
func (r *Record) Add(name string, value any) {
	if r.Additional == nil {
		r.Additional = make(map[string]any)
	}
	r.Additional[name] = value
}
