package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// helpWidth is where help is wrapped, in columns.
const helpWidth = 84

// groups are the headings of the help, in its order.
var groups = []kong.Group{
	{Key: "server", Title: "Run a server"},
	{Key: "disks", Title: "Move disks"},
	{Key: "snapshots", Title: "Look and tidy up"},
	{Key: "about", Title: "About"},
	{Key: "tls", Title: "Encryption on the way:"},
	{Key: "where", Title: "Which server, as whom (as the AWS CLI does):"},
}

const helpIntro = `shale keeps block snapshots of disks. It speaks Amazon's EBS direct APIs, so the
AWS tools work against it, and these commands work against AWS.

Usage: shale COMMAND [OPERANDS] [FLAGS]

Begin here
  shale serve --data-dir ./data            a server of your own; leave it running
  eval "$(shale env --data-dir ./data)"    in a second terminal: use that server
  shale upload disk.img                    prints the ID of the new snapshot
`

const helpOutro = `
Every command explains itself: shale help COMMAND
Results go to stdout, all else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.
`

// printHelp prints the help of the command that the arguments name, or of the
// program.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if ctx.Selected() != nil {
		return kong.DefaultHelpPrinter(options, ctx)
	}
	return printProgramHelp(ctx.Stdout, ctx.Model.Children)
}

func printProgramHelp(w io.Writer, all []*kong.Node) error {
	var b strings.Builder
	b.WriteString(helpIntro)
	for _, g := range groups {
		members := slices.DeleteFunc(slices.Clone(all), func(n *kong.Node) bool {
			return n.Hidden || n.Group == nil || n.Group.Key != g.Key
		})
		if len(members) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", g.Title)
		for _, n := range members {
			fmt.Fprintf(&b, "  %-10s %s\n", n.Name, n.Help)
		}
	}
	b.WriteString(helpOutro)
	_, err := io.WriteString(w, b.String())
	return err
}

type helpCmd struct {
	Topic []string `arg:"" optional:"" name:"command" help:"The command to explain; without it, the whole."`
}

// Run prints what --help of the topic prints.
func (h helpCmd) Run(std streams) error {
	err := fmt.Errorf("no help about %q", strings.Join(h.Topic, " "))
	switch run(append(slices.Clone(h.Topic), "--help"), std) {
	case exitDone:
		return nil
	case exitUsage:
		return silentError{usageError{err}}
	}
	return silentError{err}
}
