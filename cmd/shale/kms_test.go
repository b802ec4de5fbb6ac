package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shale/internal/datadir"
)

// Where the root key may be, and that another one is refused.
func TestRootKeySources(t *testing.T) {
	key := bytes.Repeat([]byte("k"), 32)
	file := filepath.Join(t.TempDir(), "root")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(key)
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "shale-root-key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(key)
	data := filepath.Join(t.TempDir(), "data")
	for _, tt := range []struct {
		name, flag, variable, credentials string
		want                              string // of the error; empty if it starts
	}{
		{name: "flag, first start", flag: file},
		{name: "variable", variable: encoded},
		{name: "credential", credentials: credentials},
		{name: "a folder of credentials for others", flag: file, credentials: t.TempDir()},
		{name: "none", want: "keys/root is missing"},
		{name: "another", variable: base64.StdEncoding.EncodeToString(make([]byte, 32)), want: "not the root key"},
		{name: "too short", variable: "AAAA", want: "a root key has 32 bytes, not 3"},
		{name: "no base64", variable: "%", want: "not base64"},
		{name: "no file", flag: file + ".none", want: "--root-key-file"},
		{name: "two", flag: file, variable: encoded, want: "more than once"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("SHALE_ROOT_KEY", tt.variable)
			t.Setenv("CREDENTIALS_DIRECTORY", tt.credentials)
			s, err := start(t, serveCmd{DataDir: data, RootKeyFile: tt.flag})
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.stop(); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(data, "keys", "root")); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestKMSEndpointFlags(t *testing.T) {
	for want, c := range map[string]serveCmd{
		"want an address":  {KMSEndpoint: "nonsense"},
		"use one of them":  {KMSEndpoint: "http://127.0.0.1:1", RootKeyFile: "x"},
		"want an address ": {KMSEndpoint: "kms.us-east-1.amazonaws.com:443"},
	} {
		c.DataDir = t.TempDir()
		_, err := start(t, c)
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	// With a KMS elsewhere there is none here.
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	dir := t.TempDir()
	mustStart(t, serveCmd{DataDir: dir, KMSEndpoint: "http://127.0.0.1:1"})
	if entries, err := os.ReadDir(filepath.Join(dir, "keys", "kms")); err != nil || len(entries) != 0 {
		t.Errorf("keys were made: %v, %v", entries, err)
	}
}

// The root key is exchanged only while no server runs, and only where there are
// keys.
func TestRotateRootRefused(t *testing.T) {
	dir := t.TempDir()
	rotate := func(c rotateRootCmd) error { return c.Run(streams{out: io.Discard, err: io.Discard}) }
	if err := rotate(rotateRootCmd{DataDir: dir}); err == nil {
		t.Error("done in an empty folder")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the empty folder has %v, %v", entries, err)
	}
	s := mustStart(t, serveCmd{DataDir: dir})
	var busy *datadir.BusyError
	if err := rotate(rotateRootCmd{DataDir: dir}); !errors.As(err, &busy) {
		t.Errorf("beside a server: %v", err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := rotate(rotateRootCmd{DataDir: dir}); err != nil {
		t.Error(err)
	}
	t.Setenv("SHALE_ROOT_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	var usage usageError
	if err := rotate(rotateRootCmd{DataDir: dir}); !errors.As(err, &usage) {
		t.Errorf("without a place for the new one: %v", err)
	}
	if err := rotate(rotateRootCmd{DataDir: dir, NewRootKeyFile: filepath.Join(t.TempDir(), "new")}); err == nil || !strings.Contains(err.Error(), "not the root key") {
		t.Errorf("with a wrong one: %v", err)
	}
}
