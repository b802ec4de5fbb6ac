package kms

// PolicyAllows parses a policy and asks it.
func PolicyAllows(text, account string, a Action, arn string) (bool, error) {
	p, err := parsePolicy(text)
	if err != nil {
		return false, err
	}
	return p.decide(account, a, arn) == allowed, nil
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
