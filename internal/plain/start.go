package plain

import (
	"bytes"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"shale/internal/rest"
	"shale/internal/snapshot"
)

// decodeStart decodes the body of POST /snapshots. Members may be in AWS's
// spelling or in snake_case, but not in both. No body at all is an object
// without members: it is what the source document shows, and the service says
// what is missing. Errors are *rest.Error. Spec: plain-json, Bodies.
func decodeStart(body []byte) (snapshot.StartRequest, error) {
	members := object{}
	if len(bytes.TrimSpace(body)) > 0 {
		if err := rest.DecodeObject(body, &members); err != nil {
			return snapshot.StartRequest{}, err
		}
	}
	d := decoder{members: members}
	req := snapshot.StartRequest{
		VolumeSize:       member[int64](&d, "VolumeSize", "volume_size"),
		ParentSnapshotID: member[string](&d, "ParentSnapshotId", "parent_snapshot_id"),
		Description:      member[string](&d, "Description", "description"),
		ClientToken:      member[string](&d, "ClientToken", "client_token"),
		Encrypted:        member[bool](&d, "Encrypted", "encrypted"),
		KMSKeyARN:        member[string](&d, "KmsKeyArn", "kms_key_arn"),
	}
	if minutes := member[int32](&d, "Timeout", "timeout"); minutes != nil {
		n := int64(*minutes)
		req.Timeout = &n
	}
	if t := member[tags](&d, "Tags", "tags"); t != nil {
		req.Tags = *t
	}
	return req, d.err
}

// An object is the members of a JSON object, undecoded.
type object map[string]jsontext.Value

// A decoder takes members from an object and keeps the first error.
type decoder struct {
	members object
	err     error
}

// member decodes the member that has one of two names. It returns nil if that
// is absent or null, and after an error.
func member[T any](d *decoder, aws, snake string) *T {
	if d.err != nil {
		return nil
	}
	value, err := d.members.pick(aws, snake)
	if err != nil || value == nil {
		d.err = err
		return nil
	}
	v := new(T)
	if d.err = rest.DecodeValue(snake, value, v); d.err != nil {
		return nil
	}
	return v
}

// pick returns the value of the member that has one of two names, nil if there
// is none. Null counts as absent.
func (o object) pick(aws, snake string) (jsontext.Value, error) {
	a, b := o[aws], o[snake]
	switch hasA, hasB := a != nil && a.Kind() != 'n', b != nil && b.Kind() != 'n'; {
	case hasA && hasB:
		return nil, &rest.Error{Kind: rest.BothSpellings, Field: snake}
	case hasA:
		return a, nil
	case hasB:
		return b, nil
	}
	return nil, nil
}

// tags is a list of tags that may also be written as an object, {"k":"v"}.
type tags []snapshot.Tag

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *tags) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '{' {
		return (*tagObject)(t).UnmarshalJSONFrom(dec)
	}
	var list []object
	if err := json.UnmarshalDecode(dec, &list); err != nil {
		return err
	}
	for _, o := range list {
		d := decoder{members: o}
		var tag snapshot.Tag
		if key := member[string](&d, "Key", "key"); key != nil {
			tag.Key = *key
		}
		if value := member[string](&d, "Value", "value"); value != nil {
			tag.Value = *value
		}
		if d.err != nil {
			return d.err
		}
		*t = append(*t, tag)
	}
	return nil
}

// A tagObject is tags written as an object, in the order given. A null is the
// empty value, as in a list.
type tagObject []snapshot.Tag

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *tagObject) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		var tag snapshot.Tag
		if err := json.UnmarshalDecode(dec, &tag.Key); err != nil {
			return err
		}
		if err := json.UnmarshalDecode(dec, &tag.Value); err != nil {
			return err
		}
		*t = append(*t, tag)
	}
	_, err := dec.ReadToken()
	return err
}
