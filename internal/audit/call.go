package audit

import "strings"

// A Call is an operation as CloudTrail names it.
type Call struct {
	Source string // eventSource
	Name   string // eventName
	// Data tells a call of data from one of management.
	Data bool
	// ReadOnly tells that the call changes nothing.
	ReadOnly bool
}

// Unknown is the eventName of a request that is no operation, or that was
// refused before it could be known which one.
const Unknown = "Unknown"

const (
	ebs = "ebs.amazonaws.com"
	ec2 = "ec2.amazonaws.com"
)

// snapshots are the operations on /snapshots, by the gateway's names. Those that
// only the plain dialect has appear under the names of AWS's that do the same.
// Spec: ebs-direct §13.
var snapshots = map[string]Call{
	"StartSnapshot":      {Source: ebs, Name: "StartSnapshot"},
	"CompleteSnapshot":   {Source: ebs, Name: "CompleteSnapshot"},
	"PutSnapshotBlock":   {Source: ebs, Name: "PutSnapshotBlock", Data: true},
	"GetSnapshotBlock":   {Source: ebs, Name: "GetSnapshotBlock", Data: true, ReadOnly: true},
	"ListSnapshotBlocks": {Source: ebs, Name: "ListSnapshotBlocks", Data: true, ReadOnly: true},
	"ListChangedBlocks":  {Source: ebs, Name: "ListChangedBlocks", Data: true, ReadOnly: true},

	"GetImage":         {Source: ebs, Name: "GetSnapshotBlock", Data: true, ReadOnly: true},
	"ListExtents":      {Source: ebs, Name: "ListSnapshotBlocks", Data: true, ReadOnly: true},
	"DiffSnapshots":    {Source: ebs, Name: "ListChangedBlocks", Data: true, ReadOnly: true},
	"ListSnapshots":    {Source: ec2, Name: "DescribeSnapshots", ReadOnly: true},
	"DescribeSnapshot": {Source: ec2, Name: "DescribeSnapshots", ReadOnly: true},
	"DeleteSnapshot":   {Source: ec2, Name: "DeleteSnapshot"},
	"SetTags":          {Source: ec2, Name: "CreateTags"},
	"RemoveTags":       {Source: ec2, Name: "DeleteTags"},
}

// services are those whose operations the gateway names with theirs.
var services = map[string]bool{"ec2": true, "iam": true, "kms": true, "sts": true}

// silent are the gateway's operations that are no calls of a service.
var silent = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true, "/_test": true, "DescribeAPI": true}

// readers are the operations of KMS and STS that CloudTrail calls reads, though
// their names do not begin as those of reads do.
var readers = map[string]bool{
	"Decrypt": true, "Encrypt": true, "ReEncrypt": true, "GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true,
	"AssumeRole": true,
}

// CallOf returns the call that the gateway names op: the name of an operation on
// /snapshots, or service:Operation. ok is false for what leaves no line.
func CallOf(op string) (c Call, ok bool) {
	if silent[op] {
		return Call{}, false
	}
	if c, ok := snapshots[op]; ok {
		return c, true
	}
	service, name, _ := strings.Cut(op, ":")
	if !services[service] { // it is no operation of any
		return Call{Source: ebs, Name: Unknown}, true
	}
	if name == "unknown" {
		name = Unknown
	}
	return Call{Source: service + ".amazonaws.com", Name: name, ReadOnly: readers[name] || reads(name)}, true
}

func reads(name string) bool {
	for _, verb := range []string{"Describe", "Get", "List"} {
		if strings.HasPrefix(name, verb) {
			return true
		}
	}
	return false
}
