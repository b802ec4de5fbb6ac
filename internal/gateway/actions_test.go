package gateway

import (
	"testing"

	"shale/internal/ec2"
)

// Logs and metrics know every action that the door serves by its name.
func TestActionsHaveNames(t *testing.T) {
	for _, action := range ec2.Actions() {
		if got, want := ec2Operation(action), "ec2:"+action; got != want {
			t.Errorf("%s is counted as %s", action, got)
		}
	}
}
