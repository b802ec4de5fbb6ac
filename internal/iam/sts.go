package iam

import (
	"strconv"

	"shale/internal/identity"
	"shale/internal/query"
)

// Bounds of the duration of a session, in seconds. Source: STS's model.
const (
	minSeconds     = 900
	maxRoleSeconds = 43_200
	maxUserSeconds = 129_600
)

// getCallerIdentity tells everybody who he is, whatever policies say.
func getCallerIdentity(c *call) ([]byte, error) {
	b := query.AppendElement(nil, "Arn", c.caller.By.ARN)
	b = query.AppendElement(b, "UserId", c.caller.By.ID)
	return query.AppendElement(b, "Account", c.caller.Account), nil
}

func assumeRole(c *call) ([]byte, error) {
	d := c.decoder()
	r := identity.AssumeRole{
		RoleARN: d.required("RoleArn", roleARN), Name: d.required("RoleSessionName", sessionName),
		Policy: d.optional("Policy", document), Duration: d.seconds("DurationSeconds", minSeconds, maxRoleSeconds),
		ExternalID: d.optional("ExternalId", externalID),
	}
	d.refuse("PolicyArns", "Tags", "TransitiveTagKeys", "SerialNumber", "TokenCode", "SourceIdentity", "ProvidedContexts")
	if err := d.done(); err != nil {
		return nil, err
	}
	s, err := c.service.AssumeRole(c, c.caller, r)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), "<AssumedRoleUser>"...)
	b = query.AppendElement(b, "AssumedRoleId", s.ID)
	b = query.AppendElement(b, "Arn", s.ARN)
	b = append(b, "</AssumedRoleUser>"...)
	b = appendCredentials(b, &s)
	if r.Policy != nil {
		b = query.AppendElement(b, "PackedPolicySize", strconv.Itoa(s.PackedPolicy))
	}
	return b, nil
}

func getSessionToken(c *call) ([]byte, error) {
	d := c.decoder()
	duration := d.seconds("DurationSeconds", minSeconds, maxUserSeconds)
	d.refuse("SerialNumber", "TokenCode")
	if err := d.done(); err != nil {
		return nil, err
	}
	s, err := c.service.GetSessionToken(c, c.caller, duration)
	if err != nil {
		return nil, err
	}
	return appendCredentials(nil, &s), nil
}

func appendCredentials(b []byte, s *identity.Session) []byte {
	b = append(b, "<Credentials>"...)
	b = query.AppendElement(b, "AccessKeyId", s.AccessKey)
	b = query.AppendElement(b, "SecretAccessKey", s.Secret)
	b = query.AppendElement(b, "SessionToken", s.Token)
	b = query.AppendElement(b, "Expiration", formatTime(s.Expires))
	return append(b, "</Credentials>"...)
}
