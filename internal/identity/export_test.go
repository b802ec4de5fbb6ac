package identity

// Claims decodes what a token says, and encodes it again.
func Claims(b []byte) ([]byte, bool) {
	c, ok := decodeClaims(b)
	if !ok {
		return nil, false
	}
	again, err := c.encode()
	return again, err == nil
}
