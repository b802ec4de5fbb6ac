package behaviour

// presets are lists of rules that have a name.
var presets = map[string]string{
	// The quotas of ebs-direct §10 that are rates, as of the larger regions, that on
	// pending snapshots, and the lags of §2.5 and §5.1: a write right after
	// StartSnapshot may find no snapshot, EC2 calls it completed 1.5 s after
	// CompleteSnapshot, and the blocks are listed half a minute later. What was
	// deleted is seen for a moment.
	"aws-like": `[
	  {"operation": "StartSnapshot", "when": {"over_per_second": 10}, "effect": {"error": "ThrottlingException"}},
	  {"operation": "StartSnapshot", "when": {"over_pending": 100}, "effect": {"error": "ConcurrentLimitExceededException"}},
	  {"operation": "CompleteSnapshot", "when": {"over_per_second": 10}, "effect": {"error": "ThrottlingException"}},
	  {"operation": "PutSnapshotBlock", "when": {"over_per_second": 1000, "each": "snapshot"}, "effect": {"error": "RequestThrottledException"}},
	  {"operation": "PutSnapshotBlock", "when": {"over_per_second": 5000}, "effect": {"error": "ThrottlingException"}},
	  {"operation": "GetSnapshotBlock", "when": {"over_per_second": 1000, "each": "snapshot"}, "effect": {"error": "RequestThrottledException"}},
	  {"operation": "GetSnapshotBlock", "when": {"over_per_second": 5000}, "effect": {"error": "ThrottlingException"}},
	  {"operation": "ListSnapshotBlocks", "when": {"over_per_second": 50}, "effect": {"error": "ThrottlingException"}},
	  {"operation": "ListChangedBlocks", "when": {"over_per_second": 50}, "effect": {"error": "ThrottlingException"}},
	  {"operation": "StartSnapshot", "effect": {"lag_ms": 500}},
	  {"operation": "CompleteSnapshot", "effect": {"lag_ms": 30000}},
	  {"operation": "ec2:DeleteSnapshot", "effect": {"lag_ms": 5000}}
	]`,
	// All but what no client can get over. Of the operations that come in great
	// number few requests fail, or some would fail as often as SDKs try; of the
	// others at most two kinds do, so that of three attempts one succeeds. A lag
	// that shows as a 404 is left out, for AWS says not to retry those, and so is
	// a cut answer where a repeated request finds its work done and fails.
	"hostile": `[
	  {"operation": "PutSnapshotBlock", "when": {"every": 97}, "effect": {"error": "RequestThrottledException"}},
	  {"operation": "PutSnapshotBlock", "when": {"every": 211}, "effect": {"cut": "request"}},
	  {"operation": "PutSnapshotBlock", "when": {"every": 7}, "effect": {"delay_ms": 40}},
	  {"operation": "GetSnapshotBlock", "when": {"every": 89}, "effect": {"error": "InternalServerException"}},
	  {"operation": "GetSnapshotBlock", "when": {"every": 223}, "effect": {"error": "ThrottlingException"}},
	  {"operation": "GetSnapshotBlock", "when": {"probability": 0.1, "seed": 7}, "effect": {"delay_ms": 60}},
	  {"operation": "StartSnapshot", "when": {"every": 2}, "effect": {"cut": "response"}},
	  {"operation": "CompleteSnapshot", "when": {"every": 2}, "effect": {"silent_ms": 500}},
	  {"operation": "ListSnapshotBlocks", "when": {"every": 5}, "effect": {"error": "ThrottlingException"}},
	  {"operation": "ListSnapshotBlocks", "when": {"every": 3}, "effect": {"page": "empty"}},
	  {"operation": "ListSnapshotBlocks", "when": {"every": 2}, "effect": {"page": "short"}},
	  {"operation": "ListSnapshotBlocks", "effect": {"token_life_s": 1800}},
	  {"operation": "ListChangedBlocks", "when": {"every": 4}, "effect": {"error": "InternalServerException"}},
	  {"operation": "ListChangedBlocks", "when": {"every": 3}, "effect": {"page": "short"}},
	  {"operation": "ListChangedBlocks", "when": {"every": 2}, "effect": {"page": "empty"}},
	  {"operation": "ec2:DescribeSnapshots", "when": {"every": 4}, "effect": {"error": "RequestLimitExceeded"}},
	  {"operation": "ec2:DescribeSnapshots", "when": {"every": 5}, "effect": {"delay_ms": 200}},
	  {"operation": "ec2:DeleteSnapshot", "when": {"every": 3}, "effect": {"error": "Unavailable"}},
	  {"operation": "ec2:DeleteSnapshot", "effect": {"lag_ms": 300}}
	]`,
}
