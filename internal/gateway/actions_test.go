package gateway

import (
	"testing"

	"shale/internal/ec2"
	"shale/internal/iam"
)

// Logs and metrics know every action that a door serves by its name.
func TestActionsHaveNames(t *testing.T) {
	for service, actions := range map[string][]string{
		"ec2": ec2.Actions(), "iam": iam.New(nil).Actions(), "sts": iam.NewSTS(nil).Actions(),
	} {
		for _, action := range actions {
			if got, want := queryOperation(service, action), service+":"+action; got != want {
				t.Errorf("%s is counted as %s", action, got)
			}
		}
	}
}
