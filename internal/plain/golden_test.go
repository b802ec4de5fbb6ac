package plain_test

import (
	"testing"

	"shale/internal/plain"
	"shale/internal/rest/resttest"
	"shale/internal/snapshot"
)

func TestGolden(t *testing.T) {
	resttest.Run(t, func(s *snapshot.Service) resttest.Door { return plain.New(s) })
}
