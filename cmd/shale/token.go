package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"shale/internal/bearer"
	"shale/internal/catalog"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token and print it."`
	List   tokenListCmd   `cmd:"" help:"List the tokens there are."`
	Revoke tokenRevokeCmd `cmd:"" help:"Make a token worthless, at once."`
}

// Help is shown by --help.
func (tokenCmd) Help() string {
	return `A bearer token lets scripts, curl and web pages use the plain JSON dialect as an
account or a user, without signing. It is no use for AWS's clients. The commands work on a
server's data folder, whether the server is running or not; it need not be
restarted.

Examples:

    token=$(shale token create --data-dir ./data --name backup --expires 90d)
    curl -H "Authorization: Bearer $token" http://127.0.0.1:8484/snapshots
    shale token list --data-dir ./data
    shale token revoke --data-dir ./data mfzwiylumvwgk3lc`
}

// dataDirFlag is the folder of commands that look past a running server.
type dataDirFlag struct {
	DataDir string     `required:"" placeholder:"DIR" env:"SHALE_DATA_DIR" help:"The server's data folder."`
	Catalog catalogURL `placeholder:"URL" env:"SHALE_CATALOG" help:"The server's catalog, if that is in PostgreSQL."`
}

// open opens the folder's catalog beside the server. Who makes accounts and
// tokens may not have started the server yet.
func (f dataDirFlag) open(ctx context.Context) (*catalog.Catalog, error) {
	cat, err := openBeside(ctx, f.DataDir, string(f.Catalog))
	if errors.As(err, new(noStoreError)) {
		return nil, fmt.Errorf("there is no server in %s yet; start it first: shale serve --data-dir %s", f.DataDir, shellQuote(f.DataDir))
	}
	return cat, err
}

type tokenCreateCmd struct {
	dataDirFlag
	Name    string `placeholder:"TEXT" help:"What the token is for."`
	Account string `default:"default" placeholder:"NAME" help:"Account that the token stands for. (${default})"`
	User    string `placeholder:"NAME" help:"User of that account that it stands for, and whose policies bind it; without it, the account's root user."`
	Expires life   `placeholder:"DURATION" help:"How long the token can be used: 12h, 90d. Without it, until it is revoked."`
	JSON    bool   `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (tokenCreateCmd) Help() string {
	return `Prints the token on stdout. It is shown this once: the server keeps only a hash.

Examples:

    shale token create --data-dir ./data --name backup --expires 90d
    shale token create --data-dir ./data --user alice
    shale token create --data-dir ./data --json | jq -r .token`
}

// Run makes a token and prints it.
func (c *tokenCreateCmd) Run(ctx context.Context, std streams) (err error) {
	if len(c.Name) > 255 {
		return usagef("--name has more than 255 bytes")
	}
	cat, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	token, id, sum := bearer.New()
	t, found, err := cat.CreateBearer(ctx, catalog.BearerToken{
		ID: id, AccountName: c.Account, UserName: c.User, Name: c.Name, Sum: sum,
	}, time.Duration(c.Expires))
	if err != nil {
		return err
	}
	if !found && c.User != "" {
		return fmt.Errorf("there is no user %q of an account %q; users are made with IAM: aws iam create-user --user-name %s", c.User, c.Account, shellQuote(c.User))
	}
	if !found {
		return noAccount(c.Account, c.DataDir)
	}
	if c.JSON {
		shown := describeToken(&t)
		shown.Token = token
		return printObject(std, shown)
	}
	fmt.Fprintf(std.err, "Keep it, it is not shown again. To revoke it: shale token revoke --data-dir %s %s\n", shellQuote(c.DataDir), id)
	_, err = fmt.Fprintln(std.out, token)
	return err
}

type tokenListCmd struct {
	dataDirFlag
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Run lists the tokens.
func (c *tokenListCmd) Run(ctx context.Context, std streams) (err error) {
	cat, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	list, err := cat.Bearers(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		shown := struct {
			Tokens []tokenJSON `json:"tokens"`
		}{make([]tokenJSON, len(list))}
		for i := range list {
			shown.Tokens[i] = describeToken(&list[i])
		}
		return printObject(std, shown)
	}
	if len(list) == 0 {
		fmt.Fprintln(std.err, "There are no tokens.")
		return nil
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tACCOUNT\tUSER\tCREATED\tEXPIRES\tNAME")
	for _, t := range list {
		expires := "never"
		if !t.Expires.IsZero() {
			expires = t.Expires.Local().Format("2006-01-02 15:04")
			if !time.Now().Before(t.Expires) {
				expires += " (over)"
			}
		}
		user := "-"
		if t.UserName != "" {
			user = oneLine(t.UserName)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, oneLine(t.AccountName), user, t.Created.Local().Format("2006-01-02 15:04"), expires, oneLine(t.Name))
	}
	return w.Flush()
}

type tokenRevokeCmd struct {
	dataDirFlag
	ID string `arg:"" help:"The token's ID, as listed."`
}

// Run revokes a token.
func (c *tokenRevokeCmd) Run(ctx context.Context, _ streams) (err error) {
	cat, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	done, err := cat.RevokeBearer(ctx, c.ID)
	if err == nil && !done {
		what := "this ID, which is too long for one" // it may be a part of a token, and is not repeated
		switch id, _, pasted := bearer.Parse(c.ID); {
		case pasted:
			what = fmt.Sprintf("this ID: that is a token, whose ID is %s", id)
		case len(c.ID) <= bearer.IDLength:
			what = fmt.Sprintf("the ID %q", c.ID)
		}
		err = fmt.Errorf("there is no token with %s; see: shale token list --data-dir %s", what, shellQuote(c.DataDir))
	}
	return err
}

// tokenJSON is a token as --json shows it.
type tokenJSON struct {
	ID          string     `json:"id"`
	CreatedAt   time.Time  `json:"created_at"`
	Account     string     `json:"account"`
	AccountName string     `json:"account_name"`
	User        string     `json:"user,omitempty"`
	Name        string     `json:"name,omitempty"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	Token       string     `json:"token,omitempty"`
}

func describeToken(t *catalog.BearerToken) tokenJSON {
	shown := tokenJSON{ID: t.ID, CreatedAt: t.Created, Account: t.Account, AccountName: t.AccountName, User: t.UserName, Name: t.Name}
	if !t.Expires.IsZero() {
		shown.ExpiresAt = &t.Expires
	}
	return shown
}

func printObject(std streams, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = std.out.Write(append(b, '\n'))
	return err
}

// A life is how long something lasts: a duration of Go's, or days.
type life time.Duration

// maxLife is 100 years, within what a time.Duration holds.
const maxLife = 36_500 * 24 * time.Hour

// Decode implements kong.MapperValue.
func (l *life) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, err := time.ParseDuration(text)
	if digits, isDays := strings.CutSuffix(text, "d"); isDays {
		var days int64
		days, err = strconv.ParseInt(digits, 10, 64)
		d = time.Duration(min(max(days, 0), int64(2*maxLife/(24*time.Hour)))) * 24 * time.Hour
	}
	if err != nil || d < time.Millisecond || d > maxLife {
		return fmt.Errorf("%q is no duration: it should look like 12h or 90d, up to 36500d", text)
	}
	*l = life(d)
	return nil
}
