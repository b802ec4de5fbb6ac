package audit

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"shale/internal/policy"
)

// An Event is one call, finished.
type Event struct {
	Call     Call
	Identity Identity
	// Account is the account that the call is one of; empty if that is not known.
	Account   string
	Region    string
	Time      time.Time // when the call was finished
	SourceIP  string
	UserAgent string
	RequestID string
	ID        string // of the event: a UUID
	TLS       *tls.ConnectionState
	Host      string // as the client names it; shown with TLS
	Record    *Record
}

// An Identity is who asked. Source: CloudTrail User Guide, userIdentity element.
type Identity struct {
	Type           string          `json:"type"`
	PrincipalID    string          `json:"principalId,omitzero"`
	ARN            string          `json:"arn,omitzero"`
	AccountID      string          `json:"accountId,omitzero"`
	AccessKeyID    string          `json:"accessKeyId,omitzero"`
	UserName       string          `json:"userName,omitzero"`
	SessionContext *sessionContext `json:"sessionContext,omitzero"`
}

type sessionContext struct {
	SessionIssuer *sessionIssuer    `json:"sessionIssuer,omitzero"` // of a role's
	Attributes    sessionAttributes `json:"attributes"`
}

type sessionIssuer struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"`
}

// Nobody here has a second factor.
type sessionAttributes struct {
	CreationDate     string `json:"creationDate,omitzero"`
	MFAAuthenticated string `json:"mfaAuthenticated"`
}

// IdentityOf describes who asked, and with which access key, which may be empty.
func IdentityOf(by *policy.Principal, accessKey string) Identity {
	id := Identity{PrincipalID: by.ID, ARN: by.ARN, AccountID: by.Account, AccessKeyID: accessKey}
	switch by.Kind {
	case policy.User:
		id.Type, id.UserName = "IAMUser", by.Name
	case policy.AssumedRole:
		id.Type = "AssumedRole"
	default:
		id.Type = "Root"
	}
	if !by.Issued.IsZero() {
		id.SessionContext = &sessionContext{roleOf(by), sessionAttributes{by.Issued.UTC().Format(timeForm), "false"}}
	}
	return id
}

// timeForm is that of all times but those in answers.
const timeForm = "2006-01-02T15:04:05Z"

// roleOf describes the role of a session, whose ID is ROLE:SESSION; nil if it is
// a session of a user.
func roleOf(session *policy.Principal) *sessionIssuer {
	if session.Kind != policy.AssumedRole {
		return nil
	}
	id, _, _ := strings.Cut(session.ID, ":")
	return &sessionIssuer{
		Type: "Role", PrincipalID: id, ARN: session.Role, AccountID: session.Account,
		UserName: session.Role[strings.LastIndexByte(session.Role, '/')+1:],
	}
}

// Anonymous is a caller without credentials, as CloudTrail has it.
func Anonymous() Identity { return Identity{Type: "AWSAccount", AccountID: "ANONYMOUS_PRINCIPAL"} }

// Unproved is a caller who failed to show who he is. account and accessKey are
// those that he claims, as far as they are known; either may be empty.
func Unproved(account, accessKey string) Identity {
	return Identity{Type: Unknown, AccountID: account, AccessKeyID: cut(accessKey, maxAccessKey)}
}

// line is an Event as it is written.
type line struct {
	EventVersion        string         `json:"eventVersion"`
	UserIdentity        Identity       `json:"userIdentity"`
	EventTime           string         `json:"eventTime"`
	EventSource         string         `json:"eventSource"`
	EventName           string         `json:"eventName"`
	AWSRegion           string         `json:"awsRegion"`
	SourceIPAddress     string         `json:"sourceIPAddress"`
	UserAgent           string         `json:"userAgent"`
	ErrorCode           string         `json:"errorCode,omitzero"`
	ErrorMessage        string         `json:"errorMessage,omitzero"`
	RequestParameters   jsontext.Value `json:"requestParameters"`
	ResponseElements    jsontext.Value `json:"responseElements"`
	AdditionalEventData map[string]any `json:"additionalEventData,omitzero"`
	RequestID           string         `json:"requestID"`
	EventID             string         `json:"eventID"`
	ReadOnly            bool           `json:"readOnly"`
	Resources           []resource     `json:"resources,omitzero"`
	EventType           string         `json:"eventType"`
	ManagementEvent     bool           `json:"managementEvent"`
	RecipientAccountID  string         `json:"recipientAccountId,omitzero"`
	EventCategory       string         `json:"eventCategory"`
	TLSDetails          *tlsDetails    `json:"tlsDetails,omitzero"`
}

type resource struct {
	AccountID string `json:"accountId,omitzero"`
	Type      string `json:"type"`
	ARN       string `json:"ARN"`
}

type tlsDetails struct {
	Version string `json:"tlsVersion"`
	Cipher  string `json:"cipherSuite"`
	Host    string `json:"clientProvidedHostHeader"`
}

// What is longer is cut, or left out whole. The first four are CloudTrail's own.
// Source: CloudTrail User Guide, Record contents.
const (
	maxUserAgent = 1 << 10
	maxCode      = 1 << 10
	maxMessage   = 1 << 10
	maxMembers   = 100 << 10 // of parameters, and of an answer
	maxAccessKey = 128       // IAM's limit
	maxHost      = 255
)

// options of the encoding: what is not UTF-8, which headers and forms may hold,
// becomes U+FFFD.
var options = json.JoinOptions(json.Deterministic(true), jsontext.AllowInvalidUTF8(true))

// encode returns the event's line, with its newline.
func (e *Event) encode() ([]byte, error) {
	r := e.Record
	l := line{
		EventVersion: "1.11", UserIdentity: e.Identity, EventTime: e.Time.UTC().Format(timeForm),
		EventSource: e.Call.Source, EventName: e.Call.Name, AWSRegion: e.Region,
		SourceIPAddress: e.SourceIP, UserAgent: cut(e.UserAgent, maxUserAgent),
		ErrorCode: cut(r.code, maxCode), ErrorMessage: cut(r.text(), maxMessage), AdditionalEventData: r.Additional,
		RequestID: e.RequestID, EventID: e.ID, ReadOnly: e.Call.ReadOnly, EventType: "AwsApiCall",
		ManagementEvent: !e.Call.Data, RecipientAccountID: e.Account, EventCategory: "Management",
	}
	if e.Call.Data {
		l.EventCategory = "Data"
	}
	var err error
	if l.RequestParameters, err = members(r.Parameters); err != nil {
		return nil, err
	}
	if l.ResponseElements, err = members(r.Response); err != nil {
		return nil, err
	}
	for _, id := range r.Snapshots {
		l.Resources = append(l.Resources, resource{e.Account, "AWS::EC2::Snapshot", "arn:aws:ec2:" + e.Region + "::snapshot/" + id})
	}
	if e.TLS != nil {
		l.TLSDetails = &tlsDetails{tlsVersion(e.TLS.Version), tls.CipherSuiteName(e.TLS.CipherSuite), cut(e.Host, maxHost)}
	}
	b, err := json.Marshal(&l, options)
	if err != nil {
		return nil, err
	}
	return append(e.Call.withoutKeys(b), '\n'), nil
}

// members encodes parameters or an answer. Too many are left out in CloudTrail's
// way.
func members(m map[string]any) (jsontext.Value, error) {
	if m == nil {
		return jsontext.Value("null"), nil
	}
	b, err := json.Marshal(m, options)
	if err != nil || len(b) <= maxMembers {
		return b, err
	}
	return fmt.Appendf(nil, `{"omitted":true,"originalSize":%d,"reason":"longer than %d bytes"}`, len(b), maxMembers), nil
}

// shortestSecret is how long a hidden value is at least to be looked for in a
// text: what is shorter is no token, and may be a part of any word.
const shortestSecret = 8

// text is the message of the refusal without the values that are hidden.
func (r *Record) text() string {
	text := r.message
	for _, secret := range r.secrets {
		if len(secret) >= shortestSecret {
			text = strings.ReplaceAll(text, secret, Hidden)
		}
	}
	return text
}

// keyARN is the ARN of a KMS key or alias, in any text. A pattern of a policy for
// all keys of an account is none, and is shown as it is.
var keyARN = regexp.MustCompile(`arn:aws[a-z-]*:kms:[A-Za-z0-9-]*:[0-9]*:((?:key|alias)/[A-Za-z0-9:/_-]+)`)

// withoutKeys hides the ARNs of KMS keys in a line. What is about keys, calls of
// KMS and policies, keeps what stands after the account, key/ID or alias/NAME,
// or it would not tell which key was used, disabled, or opened to whom.
func (c *Call) withoutKeys(b []byte) []byte {
	if !bytes.Contains(b, []byte(":kms:")) {
		return b
	}
	if c.Source == ebs || c.Source == ec2 {
		return keyARN.ReplaceAll(b, []byte(Hidden))
	}
	return keyARN.ReplaceAll(b, []byte("$1"))
}

// tlsVersion is CloudTrail's name of a version, TLSv1.3.
func tlsVersion(v uint16) string { return strings.Replace(tls.VersionName(v), " ", "v", 1) }

// cut returns at most n bytes of s, and no part of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Date is a time as CloudTrail has those of answers in JSON.
// Spec: ebs-direct §13.
func Date(t time.Time) string { return t.UTC().Format("Jan 2, 2006 3:04:05 PM") }
