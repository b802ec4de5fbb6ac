package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shale/internal/blockstore/segment"
	"shale/internal/domain"
	"shale/internal/keyring"
	"shale/internal/scrub"
	"shale/internal/vfs"
)

type checkCmd struct {
	dataDirFlag
	ReadData    bool   `help:"Read and prove all payloads, too, as shale scrub does."`
	RootKeyFile string `placeholder:"FILE" help:"The root key, if it is not in the folder: with it the MACs of encrypted maps are checked, too."`
	JSON        bool   `name:"json" help:"Print one JSON object."`
}

// Help is shown by --help.
func (checkCmd) Help() string {
	return `Proves that everything in a data folder fits together, and changes nothing: the
pages and rows of the catalog, the segments and their frames, the records, the
maps of all snapshots, the encryption domains. What it proves are the invariants
of docs/formats.md; what is wrong is named with the number of its invariant. The
server must be stopped. Of blocks it proves that each is where it has to be; what
is in them is read with --read-data only.

If the server's catalog is in PostgreSQL, --catalog says where; its pages are for
PostgreSQL's own tools to check.

Exit codes: 0 all is as it has to be, 1 something is not, 2 wrong usage.

Examples:

    shale check --data-dir ./data
    shale check --data-dir ./data --read-data --json`
}

// checkResult is the outcome in the form of --json.
type checkResult struct {
	Sound      bool          `json:"sound"`
	Containers int64         `json:"segments"`
	Records    int64         `json:"records_proved"` // that were read: map nodes, and with --read-data all
	Snapshots  int64         `json:"snapshots"`
	Seconds    float64       `json:"seconds"`
	Notes      []string      `json:"notes"`
	Findings   []findingJSON `json:"findings"`
	Total      int64         `json:"findings_total"`
}

// Run checks.
func (c *checkCmd) Run(ctx context.Context, std streams) (failed error) {
	f, err := openFolder(ctx, c.DataDir, string(c.Catalog))
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, f.close()) }()
	if f.dir == nil {
		return fmt.Errorf("a server has %s: stop it first; while it runs, shale scrub reads everything", f.path)
	}
	result := checkResult{Notes: []string{}}
	keyless, err := f.openKeys(c.RootKeyFile)
	if err != nil {
		return err
	}
	if keyless != nil {
		result.Notes = append(result.Notes, fmt.Sprintf("the MACs of encrypted maps are not checked: %v", keyless))
	}
	began := time.Now()
	report, err := f.check(ctx, c.ReadData, &result, std)
	if err != nil {
		return err
	}
	result.Containers, result.Records, result.Snapshots = report.Containers, report.Records, report.Snapshots
	result.Seconds = time.Since(began).Seconds()
	result.Total = report.Damaged + report.Wrong
	result.Sound = result.Total == 0
	result.Findings = findingsJSON(report.Findings)
	if c.JSON {
		err = printJSON(std, result)
	} else {
		result.print(std)
	}
	if err == nil && !result.Sound {
		if !c.JSON {
			fmt.Fprintf(std.err, "The numbers are those of the invariants in docs/formats.md. What is damaged is healed by\n"+
				"shale scrub --from DIR, or by an upload of the same content; for all else put back the\nnewest backup that has no findings.\n")
		}
		err = silentError{errors.New("not as it has to be")}
	}
	return err
}

// check proves all invariants.
func (f *folder) check(ctx context.Context, read bool, result *checkResult, std streams) (*scrub.Report, error) {
	report, err := f.walk(ctx, scrub.Options{Catalog: f.catalog, Medium: f.medium, Key: f.key, Read: read, Count: true}, std)
	if err != nil {
		return nil, err
	}
	more, notes, err := scrub.Check(ctx, scrub.CheckOptions{
		Catalog: f.catalog, Medium: f.medium, Key: f.key, ARN: f.arn, FileName: segment.FileName,
	})
	result.Notes = append(result.Notes, notes...)
	report.Include(more)
	return report, err
}

// print prints the findings, and a line about the whole.
func (r *checkResult) print(std streams) {
	for _, n := range r.Notes {
		fmt.Fprintf(std.err, "shale: %s\n", n)
	}
	printFindings(std.out, r.Findings)
	verdict := "all is as it has to be"
	if !r.Sound {
		verdict = count(r.Total, "finding")
	}
	fmt.Fprintf(std.out, "%s, %s checked in %s: %s\n", count(r.Containers, "segment"), count(r.Snapshots, "snapshot"), secondsText(r.Seconds), verdict)
}

// arn gives the ARN in the file of a domain, for which no key is needed.
func (f *folder) arn(n domain.Number) (string, error) {
	return keyring.ReadARN(vfs.Dir(f.dir.Domains()), n)
}
