package kms

// PolicyAllows parses a policy and asks it.
func PolicyAllows(text, account string, a Action, arn string) (bool, error) {
	p, err := parsePolicy(text)
	if err != nil {
		return false, err
	}
	k := &key{Metadata: Metadata{Key: Key{ARN: arn, Account: account}}, policy: p}
	c := Caller{Account: account}
	err = (&Local{}).permit(k, &reference{home: c.home(), asker: c}, &ask{action: a})
	return err == nil, nil
}

// DecodeKeyFile decodes a key's file and gives what encoding it again gives.
func DecodeKeyFile(b []byte) ([]byte, error) {
	var r keyRecord
	f, err := decodeFile(keyKind, b, &r)
	if err != nil {
		return nil, err
	}
	return encodeFile(keyKind, file{root: f.root, key: f.key}, r)
}

// BlobKey tells which key a blob names.
var BlobKey = blobKey
