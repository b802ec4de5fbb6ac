package plain

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"shale/internal/audit"
	"shale/internal/rest"
	"shale/internal/snapshot"
)

// auditOwn tells of an operation that only this dialect has: its name, which the
// audit has no other place for, and its parameters under the names that AWS's
// operation has which does the same. The six that both dialects have are rest's
// to tell. Spec: ebs-direct §13.
func auditOwn(r *http.Request, rt rest.Route) {
	record := audit.Management(r.Context())
	if c, _ := audit.CallOf(rt.Op.String()); c.Data {
		record = audit.Data(r.Context())
	}
	if record == nil {
		return
	}
	q, err := rest.ParseQuery(r.URL.RawQuery)
	if err != nil {
		q = nil // it is refused
	}
	id := rt.SnapshotID
	switch rt.Op {
	case rest.GetImage:
		record.Parameters, record.Snapshots = map[string]any{"snapshotId": id}, []string{id}
		if ranges := r.Header.Values("Range"); len(ranges) > 0 {
			record.Parameters["range"] = strings.Join(ranges, ",")
		}
	case rest.ListExtents:
		record.Parameters, record.Snapshots = map[string]any{"snapshotId": id}, []string{id}
	case rest.DiffSnapshots:
		record.Parameters, record.Snapshots = map[string]any{"secondSnapshotId": id}, []string{id}
		if from := q.Get("from"); from != "" {
			record.Parameters["firstSnapshotId"], record.Snapshots = from, []string{from, id}
		}
	case rest.ListSnapshots:
		record.Parameters = auditList(record, q)
	case rest.DescribeSnapshot:
		record.Parameters = map[string]any{"snapshotSet": auditSet(map[string]any{"snapshotId": id})}
	case rest.DeleteSnapshot:
		record.Parameters = map[string]any{"snapshotId": id}
	case rest.SetTags, rest.RemoveTags:
		record.Parameters = map[string]any{"resourcesSet": auditSet(map[string]any{"resourceId": id})}
		if q.Has("key") {
			record.Parameters["tagSet"] = auditSet(map[string]any{"key": q.Get("key")})
		}
	default:
		return
	}
	record.Add("operation", rt.Op.String())
}

// auditList are the parameters of a listing: those that there are.
func auditList(record *audit.Record, q url.Values) map[string]any {
	p := map[string]any{}
	for name := range q {
		switch value := q.Get(name); {
		case name == "cursor":
			p["nextToken"] = record.Hide(value)
		case name == "limit":
			p["maxResults"] = audit.Typed(value)
		case name == "status", name == "parent", strings.HasPrefix(name, "tag:"):
			p[name] = value
		}
	}
	return p
}

// auditTags tells the tags that a snapshot is to have.
func auditTags(ctx context.Context, tags []snapshot.Tag) {
	record := audit.Management(ctx)
	if record == nil {
		return
	}
	items := make([]any, len(tags))
	for i, t := range rest.AuditTags(tags) {
		items[i] = t
	}
	record.Parameters["tagSet"] = auditSet(items...)
}

// auditSet is a list as CloudTrail has those of EC2.
func auditSet(items ...any) map[string]any { return map[string]any{"items": items} }
