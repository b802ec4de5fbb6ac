// Command shale keeps block snapshots of disks: it is the server that speaks
// Amazon's EBS direct APIs, and the clients that move disk images in and out,
// here or at AWS.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"github.com/alecthomas/kong"

	"shale/internal/gateway"
	"shale/internal/transfer"
)

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// commands is the command line. The order within a group is that of the help.
type commands struct {
	Serve serveCmd `cmd:"" group:"server" help:"Serve snapshots from a folder."`
	Env   envCmd   `cmd:"" group:"server" help:"Print what a shell needs to use a server."`
	Key   keyCmd   `cmd:"" group:"server" help:"Exchange the root key (shale key rotate-root)."`

	Account accountCmd `cmd:"" group:"server" help:"Add accounts to a server, or list them."`
	Token   tokenCmd   `cmd:"" group:"server" help:"Make, list and revoke bearer tokens for plain HTTP clients."`

	Check   checkCmd   `cmd:"" group:"server" help:"Prove that a stopped server's folder is as it has to be."`
	Scrub   scrubCmd   `cmd:"" group:"server" help:"Read everything, name what is damaged, and heal it."`
	Stats   statsCmd   `cmd:"" group:"server" help:"Say what a data folder holds and where its space goes."`
	Reclaim reclaimCmd `cmd:"" group:"server" help:"Free the space of deleted snapshots on a stopped server."`
	Backup  backupCmd  `cmd:"" group:"server" help:"Copy a data folder while its server runs."`
	Rebuild rebuildCmd `cmd:"" group:"server" help:"Make a lost catalog anew from the segments."`

	Upload   uploadCmd   `cmd:"" group:"disks" help:"Make a snapshot of a disk image."`
	Download downloadCmd `cmd:"" group:"disks" help:"Make a disk image of a snapshot."`

	List   listCmd   `cmd:"" group:"snapshots" help:"List your snapshots."`
	Diff   diffCmd   `cmd:"" group:"snapshots" help:"Name the blocks in which two snapshots differ."`
	Delete deleteCmd `cmd:"" group:"snapshots" help:"Delete snapshots."`

	Version versionCmd `cmd:"" group:"about" help:"Print the version."`
	Help    helpCmd    `cmd:"" group:"about" help:"Explain a command."`

	ShowVersion bool `name:"version" hidden:"" help:"Print the version."`
}

// streams are where a command writes: its result to out, everything else to
// err.
type streams struct {
	out, err io.Writer
}

// usageError reports a command line that makes no sense, whatever the server
// would say.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A resultWriter remembers the first error of writing. What prints a table or a
// report line by line need not look at each of them.
type resultWriter struct {
	w io.Writer

	mu     sync.Mutex // guards what follows
	failed error
}

func (r *resultWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil {
		r.mu.Lock()
		r.failed = cmp.Or(r.failed, err)
		r.mu.Unlock()
	}
	return n, err
}

// join adds what was remembered to the outcome of a command, and forgets it.
func (r *resultWriter) join(err error) error {
	r.mu.Lock()
	failed := r.failed
	r.failed = nil
	r.mu.Unlock()
	switch {
	case failed == nil || errors.Is(err, failed):
		return err
	case err == nil || errors.As(err, new(silentError)):
		return failed // of which nothing has been said
	}
	return errors.Join(err, failed)
}

// plainWriter is what w writes to.
func plainWriter(w io.Writer) io.Writer {
	if r, ok := w.(*resultWriter); ok {
		return r.w
	}
	return w
}

func main() { os.Exit(run(os.Args[1:], streams{out: os.Stdout, err: os.Stderr})) }

// run executes one command line and returns the exit code.
func run(args []string, std streams) int {
	out, nested := std.out.(*resultWriter) // by shale help
	if !nested {
		out = &resultWriter{w: std.out}
		std.out = out
	}
	helped := false
	var cli commands
	parser, err := kong.New(&cli,
		kong.Name("shale"),
		kong.Writers(std.out, std.err),
		kong.Help(printHelp),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: helpWidth}),
		kong.ExplicitGroups(groups),
		kong.Vars{"max_connections": strconv.Itoa(gateway.DefaultMaxConnections)},
		kong.Exit(func(int) { helped = true }),
	)
	if err != nil {
		panic(err) // the struct tags above are wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	switch failed := out.join(nil); {
	case helped, failed != nil: // a help that was not printed is no wrong usage
		return report(std, "", failed)
	case cli.ShowVersion:
		return report(std, "", versionCmd{}.Run(std))
	case err != nil:
		return report(std, commandName(err), usageError{err})
	}
	if err := checkDataDir(command); err != nil {
		return report(std, path(command.Selected()), err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first interrupt ends the command in order; the second, at once.
	context.AfterFunc(ctx, stop)
	command.BindTo(ctx, (*context.Context)(nil))
	return report(std, path(command.Selected()), out.join(command.Run(std)))
}

// checkDataDir refuses an empty --data-dir, of a script whose variable is empty:
// it would be the current folder, in which a store would be made.
func checkDataDir(command *kong.Context) error {
	for _, flag := range command.Flags() {
		if flag.Name == "data-dir" && flag.Target.String() == "" {
			return usagef("--data-dir is empty; name a folder")
		}
	}
	return nil
}

// commandName is the command that a parse error is about, if it got that far.
func commandName(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context.Selected() != nil {
		return path(parse.Context.Selected())
	}
	return ""
}

// path names a command with the one that it belongs to.
func path(n *kong.Node) string {
	if n.Parent == nil || n.Parent.Type == kong.ApplicationNode {
		return n.Name
	}
	return path(n.Parent) + " " + n.Name
}

// report tells of an error, with the next step where one is known, and returns
// the exit code.
func report(std streams, command string, err error) int {
	if err == nil {
		return exitDone
	}
	name := "shale"
	if command != "" {
		name += " " + command
	}
	var usage usageError
	var silent silentError
	var leftover *transfer.LeftoverError
	switch {
	case errors.As(err, &silent):
		if errors.As(silent.error, &usage) {
			return exitUsage
		}
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(std.err, "%s: %v\nSee: %s --help\n", name, err, name)
		return exitUsage
	case errors.Is(err, context.Canceled) && !errors.As(err, &leftover):
		fmt.Fprintf(std.err, "%s: interrupted\n", name)
	default:
		for _, e := range parts(err) {
			fmt.Fprintf(std.err, "%s: %v\n", name, e)
		}
	}
	if next := hint(err); next != "" {
		fmt.Fprintf(std.err, "  %s\n", next)
	}
	return exitFailed
}

// parts are the errors that err was joined from, or err alone.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// silentError is a failure of which everything has been said.
type silentError struct{ error }
