package ebs_test

import (
	"testing"

	"shale/internal/ebs"
	"shale/internal/rest/resttest"
	"shale/internal/snapshot"
)

func TestGolden(t *testing.T) {
	resttest.Run(t, func(s *snapshot.Service) resttest.Door { return ebs.New(s) })
}
