package ec2_test

import (
	"testing"

	"shale/internal/ec2"
	"shale/internal/rest/resttest"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

func TestGolden(t *testing.T) {
	resttest.Run(t, func(s *snapshot.Service) resttest.Door { return ec2.New(s, []string{snapshottest.Region}) })
}
