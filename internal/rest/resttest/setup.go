package resttest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"shale/internal/block"
	"shale/internal/snapshot"
	"shale/internal/snapshot/snapshottest"
)

// setup does one command of a setup section, past the door:
//
//	start NAME [size=GIB] [parent=NAME] [timeout=MINUTES] [token=TOKEN]
//	      [description=TEXT] [tag=KEY:VALUE]… [caller=ACCOUNT]
//	      where 444455556666 is the one other account that can have snapshots
//	put NAME INDEX[-INDEX] LETTER   writes blocks full of the letter, of zeros for 0
//	complete NAME COUNT             and waits until that is verified
//	list NAME                       makes {{NAME/INDEX}} its block tokens
//	share NAME ACCOUNT              the account may be "all"
//	unshare NAME ACCOUNT
//	delete NAME
//	count usage                     of all completed snapshots
//	advance DURATION                moves the clock, and waits for what is due
//	work on|off                     lets background work go on, or not
//	bin DAYS                        starts the service anew, with a recycle bin
//
// and those of keys.go. Start also takes encrypted=BOOL and key=NAME.
//
// NAME is then the variable with the snapshot's ID. Empty lines and lines that
// begin with # are skipped.
func (p *player) setup(line string) {
	p.t.Helper()
	if line == "" || line[0] == '#' {
		return
	}
	words := strings.Fields(line)
	if err := p.command(words[0], words[1], words[2:]); err != nil {
		p.t.Fatalf("line %d: %s: %v", p.line, line, err)
	}
}

func (p *player) command(verb, name string, args []string) error {
	ctx, service, caller := p.t.Context(), p.env.Service, snapshottest.Caller
	switch verb {
	case "start":
		return p.start(name, args)
	case "put":
		return p.put(name, args)
	case "complete":
		count, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return err
		}
		if _, err := service.Complete(ctx, caller, snapshot.CompleteRequest{SnapshotID: p.vars[name], ChangedBlocks: &count}); err != nil {
			return err
		}
		return service.Settle(ctx)
	case "list":
		page, err := service.ListBlocks(ctx, caller, snapshot.ListBlocksRequest{SnapshotID: p.vars[name]})
		for _, b := range page.Blocks {
			p.vars[fmt.Sprintf("%s/%d", name, b.Index)] = b.Token
		}
		return err
	case "share":
		return service.Share(ctx, caller, snapshot.ShareRequest{SnapshotID: p.vars[name], Accounts: args})
	case "unshare":
		return service.Unshare(ctx, caller, snapshot.ShareRequest{SnapshotID: p.vars[name], Accounts: args})
	case "count":
		return service.CountUsage(ctx)
	case "delete":
		return service.Delete(ctx, caller, p.vars[name])
	case "advance":
		d, err := time.ParseDuration(name)
		if err != nil {
			return err
		}
		p.env.Clock.Advance(d)
		return service.Settle(ctx)
	case "work":
		if name == "off" {
			p.env.Halt()
		} else {
			p.env.Resume()
		}
		return nil
	case "bin":
		days, err := strconv.Atoi(name)
		if err != nil {
			return err
		}
		p.env.BinTime = time.Duration(days) * 24 * time.Hour
		p.env.Restart(p.t)
		p.server = serve(p.t, p.newDoor(p.t, p.env))
		return nil
	}
	return p.keyCommand(verb, name, args)
}

func (p *player) start(name string, args []string) error {
	size := int64(1)
	caller := snapshottest.Caller
	req := snapshot.StartRequest{VolumeSize: &size}
	for _, arg := range args {
		option, value, _ := strings.Cut(arg, "=")
		var err error
		switch option {
		case "size":
			size, err = strconv.ParseInt(value, 10, 64)
		case "timeout":
			var minutes int64
			minutes, err = strconv.ParseInt(value, 10, 64)
			req.Timeout = &minutes
		case "parent":
			req.ParentSnapshotID = new(p.vars[value])
		case "token":
			req.ClientToken = &value
		case "description":
			req.Description = &value
		case "tag":
			key, v, _ := strings.Cut(value, ":")
			req.Tags = append(req.Tags, snapshot.Tag{Key: key, Value: v})
		case "encrypted":
			req.Encrypted = new(value == "true")
		case "key":
			req.KMSKeyARN = new(p.vars[value])
		case "caller":
			caller.Account = value
		default:
			err = fmt.Errorf("there is no option %s", option)
		}
		if err != nil {
			return err
		}
	}
	s, err := p.env.Service.Start(p.t.Context(), caller, req)
	p.vars[name] = s.ID
	return err
}

func (p *player) put(name string, args []string) error {
	first, last, isRange := strings.Cut(args[0], "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return err
	}
	to, err := strconv.ParseInt(last, 10, 64)
	if err != nil {
		return err
	}
	data := bytes.Repeat([]byte(args[1][:1]), block.Size)
	if args[1] == "0" {
		clear(data)
	}
	for i := from; i <= to; i++ {
		_, err := p.env.Service.PutBlock(p.t.Context(), snapshottest.Caller, snapshot.PutBlockRequest{
			SnapshotID: p.vars[name], Index: i, ChecksumOptional: true, Body: bytes.NewReader(data),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
