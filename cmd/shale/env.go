package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"shale/internal/datadir"
)

type envCmd struct {
	DataDir string `required:"" placeholder:"DIR" env:"SHALE_DATA_DIR" help:"The server's data folder."`
}

// Help is shown by --help.
func (envCmd) Help() string {
	return `Prints shell commands after which AWS's clients, and shale's own, use the server
of the data folder: two variables that name its credentials and config files,
and an unset of every AWS variable that would win over them, so that your real
AWS keys do not come here and commands meant for here do not go to AWS.

Example:

    eval "$(shale env --data-dir ./data)"
    aws ec2 describe-snapshots --owner-ids self`
}

// overriding are the variables that win over the two files, in AWS's clients.
var overriding = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
	"AWS_ACCESS_KEY", "AWS_SECRET_KEY",
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE",
	"AWS_REGION", "AWS_DEFAULT_REGION",
	"AWS_ENDPOINT_URL", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT",
	"AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"AWS_CREDENTIAL_EXPIRATION", "AWS_ACCOUNT_ID",
	"AWS_ENDPOINT_URL_EBS", "AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL_IAM", "AWS_ENDPOINT_URL_STS",
}

// Run prints the commands.
func (c envCmd) Run(std streams) error {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return err
	}
	files := datadir.FilesOf(dir)
	for _, f := range []string{files.Credentials, files.Config} {
		if _, err := os.Stat(f); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s does not exist; start the server first: shale serve --data-dir %s", f, shellQuote(c.DataDir))
		} else if err != nil {
			return err
		}
	}
	unset := slices.Clone(overriding)
	for _, v := range os.Environ() { // those of services that nobody here knows
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "AWS_ENDPOINT_URL_") && isName(name) && !slices.Contains(unset, name) {
			unset = append(unset, name)
		}
	}
	private, err := datadir.HasBundle(dir)
	if err != nil {
		return err
	}
	if private {
		unset = append(unset, "AWS_CA_BUNDLE")
	}
	_, err = fmt.Fprintf(std.out, "unset %s\nexport AWS_SHARED_CREDENTIALS_FILE=%s\nexport AWS_CONFIG_FILE=%s\n",
		strings.Join(unset, " "), shellQuote(files.Credentials), shellQuote(files.Config))
	return err
}

// isName reports whether a shell takes s as the name of a variable.
func isName(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
	})
}

// shellQuote gives s as one word of a POSIX shell.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !isName(string(r)) && !strings.ContainsRune("./-+,:@%", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
