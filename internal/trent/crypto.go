package trent

import (
	"fmt"

	"shale/internal/kms"
)

// use is what all operations that use a key take.
type use struct {
	granted
	DryRun *bool `json:"DryRun"`
	// Of these nothing is here but the refusal.
	Recipient       absent `json:"Recipient"`
	DryRunModifiers absent `json:"DryRunModifiers"`
}

func (u use) supported() error {
	what := ""
	switch {
	case given(u.Recipient):
		what = "Recipient"
	case given(u.DryRunModifiers):
		what = "DryRunModifiers"
	default:
		return u.none()
	}
	return &kms.Error{Code: kms.Unsupported, Text: "The parameter " + what + " is not supported by this server."}
}

func (u use) request(key *string, encryption map[string]*string) kms.Request {
	r := kms.Request{Key: value(key, ""), DryRun: value(u.DryRun, false), Encryption: make(map[string]string, len(encryption))}
	for name, v := range encryption {
		r.Encryption[name] = *v
	}
	return r
}

var algorithms = []string{symmetricDefault, "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"}

// symmetric refuses algorithms that no key here has.
func symmetric(algorithm ...*string) error {
	for _, a := range algorithm {
		if value(a, symmetricDefault) != symmetricDefault {
			return &kms.Error{Code: kms.InvalidUsage, Text: fmt.Sprintf("The encryption algorithm %s is not that of a key of the spec %s.", *a, symmetricDefault)}
		}
	}
	return nil
}

type encryptInput struct {
	keyInput
	use
	Plaintext           *[]byte            `json:"Plaintext"`
	EncryptionContext   map[string]*string `json:"EncryptionContext"`
	EncryptionAlgorithm *string            `json:"EncryptionAlgorithm"`
}

func (in *encryptInput) check(c *checker) {
	in.keyInput.check(c)
	c.blob("plaintext", in.Plaintext, kms.MaxPlaintext)
	c.encryption("encryptionContext", in.EncryptionContext)
	c.grants(in.GrantTokens)
	c.enum("encryptionAlgorithm", in.EncryptionAlgorithm, algorithms...)
}

type encryptAnswer struct {
	CiphertextBlob      []byte `json:"CiphertextBlob"`
	KeyID               string `json:"KeyId"`
	EncryptionAlgorithm string `json:"EncryptionAlgorithm"`
}

func encrypt(c *call) (any, error) {
	var in encryptInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.supported(); err != nil {
		return nil, err
	}
	if err := symmetric(in.EncryptionAlgorithm); err != nil {
		return nil, err
	}
	sealed, err := c.kms.Seal(c, c.caller, *in.Plaintext, in.request(in.KeyID, in.EncryptionContext))
	if err != nil {
		return nil, err
	}
	return encryptAnswer{sealed.Blob, sealed.Key.ARN, symmetricDefault}, nil
}

type decryptInput struct {
	use
	CiphertextBlob      *[]byte            `json:"CiphertextBlob"`
	EncryptionContext   map[string]*string `json:"EncryptionContext"`
	KeyID               *string            `json:"KeyId"`
	EncryptionAlgorithm *string            `json:"EncryptionAlgorithm"`
}

func (in *decryptInput) check(c *checker) {
	c.blob("ciphertextBlob", in.CiphertextBlob, maxBlob)
	c.encryption("encryptionContext", in.EncryptionContext)
	c.grants(in.GrantTokens)
	c.text("keyId", in.KeyID, 1, maxKeyID)
	c.enum("encryptionAlgorithm", in.EncryptionAlgorithm, algorithms...)
}

type decryptAnswer struct {
	KeyID               string `json:"KeyId"`
	Plaintext           []byte `json:"Plaintext"`
	EncryptionAlgorithm string `json:"EncryptionAlgorithm"`
}

func decrypt(c *call) (any, error) {
	var in decryptInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.supported(); err != nil {
		return nil, err
	}
	if err := symmetric(in.EncryptionAlgorithm); err != nil {
		return nil, err
	}
	opened, err := c.kms.Open(c, c.caller, *in.CiphertextBlob, in.request(in.KeyID, in.EncryptionContext))
	if err != nil {
		return nil, err
	}
	return decryptAnswer{opened.Key.ARN, opened.Plaintext, symmetricDefault}, nil
}

type reEncryptInput struct {
	use
	CiphertextBlob                 *[]byte            `json:"CiphertextBlob"`
	SourceEncryptionContext        map[string]*string `json:"SourceEncryptionContext"`
	SourceKeyID                    *string            `json:"SourceKeyId"`
	DestinationKeyID               *string            `json:"DestinationKeyId"`
	DestinationEncryptionContext   map[string]*string `json:"DestinationEncryptionContext"`
	SourceEncryptionAlgorithm      *string            `json:"SourceEncryptionAlgorithm"`
	DestinationEncryptionAlgorithm *string            `json:"DestinationEncryptionAlgorithm"`
}

func (in *reEncryptInput) check(c *checker) {
	c.blob("ciphertextBlob", in.CiphertextBlob, maxBlob)
	c.encryption("sourceEncryptionContext", in.SourceEncryptionContext)
	c.text("sourceKeyId", in.SourceKeyID, 1, maxKeyID)
	c.key("destinationKeyId", in.DestinationKeyID)
	c.encryption("destinationEncryptionContext", in.DestinationEncryptionContext)
	c.enum("sourceEncryptionAlgorithm", in.SourceEncryptionAlgorithm, algorithms...)
	c.enum("destinationEncryptionAlgorithm", in.DestinationEncryptionAlgorithm, algorithms...)
	c.grants(in.GrantTokens)
}

type reEncryptAnswer struct {
	CiphertextBlob                 []byte `json:"CiphertextBlob"`
	SourceKeyID                    string `json:"SourceKeyId"`
	KeyID                          string `json:"KeyId"`
	SourceEncryptionAlgorithm      string `json:"SourceEncryptionAlgorithm"`
	DestinationEncryptionAlgorithm string `json:"DestinationEncryptionAlgorithm"`
}

func reEncrypt(c *call) (any, error) {
	var in reEncryptInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.supported(); err != nil {
		return nil, err
	}
	if err := symmetric(in.SourceEncryptionAlgorithm, in.DestinationEncryptionAlgorithm); err != nil {
		return nil, err
	}
	source, sealed, err := c.kms.ReEncrypt(c, c.caller, *in.CiphertextBlob,
		in.request(in.SourceKeyID, in.SourceEncryptionContext), in.request(in.DestinationKeyID, in.DestinationEncryptionContext))
	if err != nil {
		return nil, err
	}
	return reEncryptAnswer{sealed.Blob, source.ARN, sealed.Key.ARN, symmetricDefault, symmetricDefault}, nil
}

type dataKeyInput struct {
	keyInput
	use
	EncryptionContext map[string]*string `json:"EncryptionContext"`
	NumberOfBytes     *int32             `json:"NumberOfBytes"`
	KeySpec           *string            `json:"KeySpec"`
}

func (in *dataKeyInput) check(c *checker) {
	in.keyInput.check(c)
	c.encryption("encryptionContext", in.EncryptionContext)
	c.number("numberOfBytes", in.NumberOfBytes, 1, maxBytes)
	c.enum("keySpec", in.KeySpec, "AES_256", "AES_128")
	c.grants(in.GrantTokens)
}

// size is the length of the data key in bytes.
func (in *dataKeyInput) size() (int, error) {
	switch {
	case (in.KeySpec == nil) == (in.NumberOfBytes == nil):
		return 0, &kms.Error{Code: kms.InvalidValue, Text: "Please specify either number of bytes or key spec."}
	case in.NumberOfBytes != nil:
		return int(*in.NumberOfBytes), nil
	case *in.KeySpec == "AES_128":
		return 16, nil
	}
	return 32, nil
}

type dataKeyAnswer struct {
	CiphertextBlob []byte `json:"CiphertextBlob"`
	Plaintext      []byte `json:"Plaintext,omitempty"`
	KeyID          string `json:"KeyId"`
}

func generateDataKey(c *call) (any, error) { return makeDataKey(c, kms.GenerateDataKey) }

func generateDataKeyWithoutPlaintext(c *call) (any, error) {
	out, err := makeDataKey(c, "kms:GenerateDataKeyWithoutPlaintext")
	if err != nil {
		return nil, err
	}
	out.Plaintext = nil
	return out, nil
}

func makeDataKey(c *call, a kms.Action) (*dataKeyAnswer, error) {
	var in dataKeyInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.supported(); err != nil {
		return nil, err
	}
	size, err := in.size()
	if err != nil {
		return nil, err
	}
	opened, sealed, err := c.kms.MakeDataKey(c, c.caller, a, size, in.request(in.KeyID, in.EncryptionContext))
	if err != nil {
		return nil, err
	}
	return &dataKeyAnswer{sealed.Blob, opened.Plaintext, sealed.Key.ARN}, nil
}
