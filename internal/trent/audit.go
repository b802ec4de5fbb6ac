package trent

import (
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"shale/internal/audit"
)

// audited are the members of inputs that the audit shows: neither plaintext nor
// ciphertext, nor tokens of grants and pages.
var audited = map[string]bool{
	"AliasName": true, "BypassPolicyLockoutSafetyCheck": true, "CustomerMasterKeySpec": true,
	"Description": true, "DestinationEncryptionAlgorithm": true, "DestinationEncryptionContext": true,
	"DestinationKeyId": true, "DryRun": true, "EncryptionAlgorithm": true, "EncryptionContext": true, "KeyId": true,
	"KeySpec": true, "KeyUsage": true, "Limit": true, "MultiRegion": true, "NumberOfBytes": true, "Origin": true,
	"PendingWindowInDays": true, "Policy": true, "PolicyName": true, "SourceEncryptionAlgorithm": true,
	"SourceEncryptionContext": true, "SourceKeyId": true, "TagKeys": true, "Tags": true, "TargetKeyId": true,
}

// auditInput tells the parameters, if the body has any.
func auditInput(ctx context.Context, body []byte) {
	r := audit.Management(ctx)
	if r == nil {
		return
	}
	var in map[string]any
	if json.Unmarshal(body, &in) != nil {
		return // for the operation to refuse
	}
	r.Parameters = make(map[string]any, len(in))
	for name, value := range in {
		if audited[name] {
			r.Parameters[audit.LowerFirst(name)] = lowerNames(name, value)
		} else if text, ok := value.(string); ok {
			r.Hide(text) // or a refusal might quote it
		}
	}
}

// auditAnswer tells what an operation that changes something answered, and of
// one that uses a key, which one it was.
func auditAnswer(ctx context.Context, operation string, answer []byte) {
	r := audit.Management(ctx)
	if r == nil || len(answer) == 0 {
		return
	}
	var out map[string]any
	if json.Unmarshal(answer, &out) != nil {
		return // an answer is an object
	}
	if c, _ := audit.CallOf("kms:" + operation); !c.ReadOnly {
		r.Response, _ = lowerNames("", out).(map[string]any)
		return
	}
	for _, name := range []string{"KeyId", "SourceKeyId"} {
		if key, ok := out[name]; ok {
			r.Add(audit.LowerFirst(name), key)
		}
	}
}

// lowerNames turns the names of members below the one called name into lowerCamel
// spelling. Those of an encryption context are the caller's own. Numbers of time
// become dates.
func lowerNames(name string, value any) any {
	switch value := value.(type) {
	case map[string]any:
		if strings.HasSuffix(name, "EncryptionContext") {
			return value
		}
		m := make(map[string]any, len(value))
		for name, v := range value {
			m[audit.LowerFirst(name)] = lowerNames(name, v)
		}
		return m
	case []any:
		for i, v := range value {
			value[i] = lowerNames(name, v)
		}
	case float64:
		if strings.HasSuffix(name, "Date") {
			return audit.Date(time.UnixMilli(int64(value * 1000)))
		}
	}
	return value
}
