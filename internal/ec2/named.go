package ec2

import (
	"net/http"

	"shale/internal/rest"
	"shale/internal/sigv4"
	"shale/internal/snapshot"
)

// typical is the condition that a name stands for where several have it and the
// first of them is not the one that clients meet.
var typical = map[string]error{
	"OperationNotPermitted":       &snapshot.Error{Code: snapshot.PublicBlocked},
	"InvalidParameterValue":       refuse(invalidValue, "The value of a parameter is not valid."),
	"InvalidRequest":              refuse(invalidRequest, "The request is not valid."),
	"InvalidParameterCombination": refuse(invalidCombination, "The parameters cannot be used together."),
	"RequestLimitExceeded":        &rest.Error{Kind: rest.RateExceeded},
	"ResourceLimitExceeded":       &snapshot.Error{Code: snapshot.TooManyCopies, Value: "20"},
	"SnapshotLimitExceeded":       &snapshot.Error{Code: snapshot.TooManySnapshots, Value: "100000"},
	"UnauthorizedOperation":       rest.ErrDenied,
}

// others are the errors that no row of the tables has: those that the door
// finds by itself, and those of AWS's that no condition here leads to.
// Spec: ec2-snapshots §1.3.
var others = []error{
	errDryRun,
	refuse(filterLimit, "The request has too many filters or values of filters."),
	refuse(invalidGrantee, "An account to share with is not valid."),
	refuse(invalidID, "The ID is not valid."),
	refuse(invalidRegion, "The region is not valid."),
	refuse(malformedID, "The ID of the snapshot is malformed."),
	refuse(malformedUser, "The number of an account is malformed."),
	refuse(missingAction, "The request must contain the parameter Action"),
	refuse(missingParameter, "The request must contain a parameter that it lacks"),
	refuse(code{"ConcurrentSnapshotLimitExceeded", http.StatusBadRequest}, "Maximum allowed in-progress snapshots for a single volume exceeded."),
	refuse(code{"InvalidMaxResults", http.StatusBadRequest}, "The value of MaxResults is not valid."),
	refuse(code{"InvalidNextToken", http.StatusBadRequest}, "The value of NextToken is not valid."),
	refuse(code{"InvalidPaginationToken", http.StatusBadRequest}, "The pagination token is not valid."),
	refuse(code{"InvalidSnapshot.InUse", http.StatusBadRequest}, "The snapshot is currently in use."),
	refuse(code{"InvalidTagKey.Malformed", http.StatusBadRequest}, "A tag key is not valid."),
	refuse(code{"PendingSnapshotLimitExceeded", http.StatusBadRequest}, "The limit of pending snapshots has been reached."),
	refuse(code{"SnapshotCopyUnsupported.InterRegion", http.StatusBadRequest}, "Copying between regions is not supported for this snapshot."),
	refuse(code{"SnapshotCreationPerVolumeRateExceeded", http.StatusBadRequest}, "The rate of snapshots of one volume has been exceeded."),
	refuse(code{"Unavailable", http.StatusServiceUnavailable}, "The server is overloaded and can't handle the request."),
}

// Named returns an error that Refuse tells by the name on the wire, about the
// snapshot if it is about one; nil if there is none of that name here.
func (h *Handler) Named(name, id string) error {
	if err := typical[name]; err != nil {
		return err
	}
	for c, r := range serviceRows {
		if r.code.name == name {
			return &snapshot.Error{Code: snapshot.Code(c), Snapshot: id, Err: rest.ErrAsked}
		}
	}
	for k, r := range requestRows {
		if r.name == name {
			return &rest.Error{Kind: rest.Kind(k), Value: "this operation", Err: rest.ErrAsked}
		}
	}
	for k, r := range signatureRows {
		if r.name == name {
			return &sigv4.Error{Kind: sigv4.Kind(k)}
		}
	}
	for _, err := range others {
		if code, _ := explain(err); code.name == name {
			return err
		}
	}
	return nil
}
