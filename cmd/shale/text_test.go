package main

import (
	"bytes"
	"testing"
	"time"

	"shale/internal/transfer"
)

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1 KiB", 524288: "512 KiB", 1536: "1.5 KiB",
		1<<20 - 1: "1.0 MiB", 1 << 30: "1 GiB", 3 << 29: "1.5 GiB", 64 << 40: "64 TiB", 1 << 60: "1048576 TiB",
	} {
		if got := sizeText(n); got != want {
			t.Errorf("sizeText(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestProgressLine(t *testing.T) {
	tests := []struct {
		reading transfer.Reading
		watched time.Duration
		want    string
	}{
		{transfer.Reading{Phase: transfer.PhaseComplete}, time.Minute, "completing"},
		{transfer.Reading{Phase: transfer.PhaseUpload, Total: 4 << 20}, 10 * time.Second, "uploading: 0 B of 4 MiB (0%)"},
		{
			transfer.Reading{Phase: transfer.PhaseUpload, Done: 1 << 20, Total: 4 << 20},
			2 * time.Second,
			"uploading: 1 MiB of 4 MiB (25%), 512 KiB/s, 6s left",
		},
		{transfer.Reading{Phase: transfer.PhaseDownload, Done: 4 << 20, Total: 4 << 20}, time.Millisecond, "downloading: 4 MiB of 4 MiB (100%)"},
	}
	for _, test := range tests {
		if got := progressLine(test.reading, test.watched); got != test.want {
			t.Errorf("progressLine(%+v, %v) = %q, want %q", test.reading, test.watched, got, test.want)
		}
	}
}

// A table for people: aligned, one line each whatever a description holds.
func TestPrintTable(t *testing.T) {
	started := time.Date(2026, 9, 25, 12, 0, 0, 0, time.Local)
	var b bytes.Buffer
	err := printTable(&b, []transfer.Snapshot{
		{
			ID: "snap-0123456789abcdef0", State: "completed", VolumeSize: 1, StartTime: started, Description: "a\nb\x1b[31m",
			Tags: []transfer.Tag{{Key: transfer.LengthTag, Value: "1048576"}, {Key: "team", Value: "disks"}},
		},
		{ID: "snap-0123456789abcdef1", State: "error", VolumeSize: 1024, StartTime: started, Message: "Checksum mismatch for snapshot"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `SNAPSHOT                STATUS     VOLUME    IMAGE  STARTED           DESCRIPTION
snap-0123456789abcdef0  completed  1 GiB     1 MiB  2026-09-25 12:00  a b [31m team=disks
snap-0123456789abcdef1  error      1024 GiB  -      2026-09-25 12:00  ! Checksum mismatch for snapshot
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestIsAWS(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"https://ebs.us-east-1.amazonaws.com":                         true,
		"https://ebs.cn-north-1.amazonaws.com.cn":                     true,
		"https://ebs.us-east-1.api.aws":                               true,
		"https://vpce-1.ebs.us-east-1.vpce.amazonaws.com":             true,
		"http://127.0.0.1:8484":                                       false,
		"http://ebs.us-east-1.localhost:8484":                         false,
		"https://snapshots.example.com/amazonaws.com":                 false,
		"https://amazonaws.com.example.com":                           false,
		"https://ebs.us-east-1.amazonaws.com.example.com:443/api.aws": false,
	} {
		if got := isAWS(endpoint); got != want {
			t.Errorf("isAWS(%q) = %v, want %v", endpoint, got, want)
		}
	}
}
