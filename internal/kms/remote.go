package kms

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/maypok86/otter/v2"
)

const (
	// remoteTimeout bounds one call of a Remote, repetitions included.
	remoteTimeout = 10 * time.Second
	// remoteAge is for how long what a Remote has learned of a key is believed.
	remoteAge = 5 * time.Second
	// remoteKeys bounds the keys of which a Remote remembers anything.
	remoteKeys = 1000
)

// A Remote is a KMS elsewhere: AWS's own, or a service that speaks its
// protocol. It calls with the credentials of this process, whoever asks: which
// keys may be used is decided there, for these credentials. Before that, Key asks
// the caller's own policies, which are known here only. What Key says of a
// key's state may be 5 seconds old, and it does not know whether they may
// decrypt; GenerateDataKey and Decrypt ask each time.
// A call takes at most 10 seconds.
type Remote struct {
	client *awskms.Client
	known  *otter.Cache[remoteName, types.KeyMetadata]
}

var _ Provider = (*Remote)(nil)

// A remoteName is what a key is asked for by.
type remoteName struct{ region, name string }

// NewRemote returns a Provider over the KMS at the URL. Credentials are those
// that the SDK finds, in the environment, in AWS's files or on the instance. It
// does not call yet.
func NewRemote(ctx context.Context, url string) (*Remote, error) {
	// The region is the caller's, at each call; this one only has to be there.
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"))
	if err != nil {
		return nil, fmt.Errorf("KMS at %s: %w", url, err)
	}
	return &Remote{
		client: awskms.NewFromConfig(cfg, func(o *awskms.Options) { o.BaseEndpoint = &url }),
		known: otter.Must(&otter.Options[remoteName, types.KeyMetadata]{
			MaximumSize:      remoteKeys,
			ExpiryCalculator: otter.ExpiryWriting[remoteName, types.KeyMetadata](remoteAge),
		}),
	}, nil
}

// Believed is for how long a key that Decrypt has given out may be used before
// Decrypt has to be asked again.
func (r *Remote) Believed() time.Duration { return remoteAge }

func inRegion(c Caller) func(*awskms.Options) {
	return func(o *awskms.Options) { o.Region = c.Region }
}

// Key implements Provider. Whether the actions are allowed shows when they are
// used; here the key has to be found, to be for symmetric encryption and, if it
// is to be used, enabled.
func (r *Remote) Key(ctx context.Context, c Caller, name string, actions ...Action) (Key, error) {
	asked := remoteName{c.Region, name}
	m, known := r.known.GetIfPresent(asked)
	if !known {
		ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
		defer cancel()
		answer, err := r.client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &name}, inRegion(c))
		if err != nil {
			return Key{}, remoteError("describe a key", err)
		}
		if answer.KeyMetadata == nil {
			return Key{}, errors.New("KMS: describe a key: the answer says nothing of it")
		}
		m = *answer.KeyMetadata
		r.known.Set(asked, m)
	}
	k, err := remoteKey(m)
	if err != nil {
		return Key{}, err
	}
	if len(actions) == 0 {
		actions = []Action{DescribeKey}
	}
	for _, a := range actions {
		if err := c.Authorize(a, k); err != nil {
			return Key{}, err
		}
	}
	for _, a := range actions {
		if a != DescribeKey {
			return k, usableRemote(m, k.ARN)
		}
	}
	return k, nil
}

// remoteARN is what the ARN of a key looks like, of whatever partition.
var remoteARN = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]{1,32}):([0-9]{12}):key/([^/:]{1,256})$`)

func remoteKey(m types.KeyMetadata) (Key, error) {
	found := remoteARN.FindStringSubmatch(aws.ToString(m.Arn))
	if found == nil {
		return Key{}, fmt.Errorf("KMS: describe a key: %.64q is no ARN of a key", aws.ToString(m.Arn))
	}
	k := Key{ID: found[3], ARN: found[0], Account: found[2], Region: found[1], Manager: Customer}
	if m.KeyManager == types.KeyManagerTypeAws {
		k.Manager = AWS
	}
	// Some who speak the protocol leave out what is the default.
	if m.KeyUsage != "" && m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.KeySpec != "" && m.KeySpec != types.KeySpecSymmetricDefault {
		return Key{}, refuse(InvalidUsage, "%s is not a key for symmetric encryption.", k.ARN)
	}
	return k, nil
}

func usableRemote(m types.KeyMetadata, arn string) error {
	switch m.KeyState {
	case types.KeyStateEnabled:
		return nil
	case types.KeyStateDisabled:
		return refuse(Disabled, "%s is disabled.", arn)
	case types.KeyStatePendingDeletion:
		return refuse(InvalidState, "%s is pending deletion.", arn)
	}
	return refuse(InvalidState, "%s is %s.", arn, m.KeyState)
}

// GenerateDataKey implements Provider.
func (r *Remote) GenerateDataKey(ctx context.Context, c Caller, arn string, encryption map[string]string) (DataKey, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	answer, err := r.client.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{
		KeyId: &arn, KeySpec: types.DataKeySpecAes256, EncryptionContext: encryption,
	}, inRegion(c))
	if err != nil {
		return DataKey{}, remoteError("generate a data key", err)
	}
	if len(answer.Plaintext) != 32 || len(answer.CiphertextBlob) == 0 || len(answer.CiphertextBlob) > maxBlob {
		return DataKey{}, fmt.Errorf("KMS: generate a data key: the answer has %d bytes of key and %d wrapped",
			len(answer.Plaintext), len(answer.CiphertextBlob))
	}
	return DataKey{Plaintext: [32]byte(answer.Plaintext), Wrapped: answer.CiphertextBlob}, nil
}

// Decrypt implements Provider.
func (r *Remote) Decrypt(ctx context.Context, c Caller, arn string, wrapped []byte, encryption map[string]string) ([32]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	answer, err := r.client.Decrypt(ctx, &awskms.DecryptInput{
		KeyId: &arn, CiphertextBlob: wrapped, EncryptionContext: encryption,
	}, inRegion(c))
	if err != nil {
		return [32]byte{}, remoteError("decrypt a data key", err)
	}
	if len(answer.Plaintext) != 32 {
		return [32]byte{}, refuse(InvalidCiphertext, "")
	}
	return [32]byte(answer.Plaintext), nil
}

// remoteCodes are the exceptions that are about the key or the caller's
// request. Whatever else goes wrong, from an unreachable host to credentials
// that nobody knows, means that the provider cannot answer now.
var remoteCodes = map[Code]bool{
	AccessDenied: true, Disabled: true, IncorrectKey: true, InvalidARN: true, InvalidCiphertext: true,
	InvalidState: true, InvalidUsage: true, InvalidValue: true, NotFound: true, Throttled: true,
}

func remoteError(doing string, err error) error {
	if e, ok := errors.AsType[smithy.APIError](err); ok && remoteCodes[Code(e.ErrorCode())] {
		return &Error{Code: Code(e.ErrorCode()), Text: e.ErrorMessage()}
	}
	return fmt.Errorf("KMS: %s: %w", doing, err)
}
