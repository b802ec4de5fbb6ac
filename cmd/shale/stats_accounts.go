package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"shale/internal/block"
	"shale/internal/catalog"
)

// accountJSON is what an account has in a region.
type accountJSON struct {
	Account   string `json:"account"`
	Name      string `json:"name"`
	Region    string `json:"region"`
	Completed int64  `json:"completed_snapshots"`
	Pending   int64  `json:"pending_snapshots"`
	Failed    int64  `json:"failed_snapshots"`
	Bin       int64  `json:"recycle_bin_snapshots"`
	Volume    int64  `json:"volume_bytes"`
	Full      int64  `json:"full_bytes"`
	Unique    int64  `json:"unique_bytes"`
	Uncounted int64  `json:"uncounted_snapshots"` // whose unique bytes are not in that
}

func newAccount(s *catalog.AccountStats) accountJSON {
	return accountJSON{
		Account: s.Account, Name: s.Name, Region: s.Region,
		Completed: s.Completed, Pending: s.Pending, Failed: s.Failed, Bin: s.Binned,
		Volume: s.VolumeGiB * gib, Full: (s.Blocks + s.Written) * block.Size, Unique: s.Unique, Uncounted: s.Completed - s.Counted,
	}
}

// printAccounts prints a line for each.
func printAccounts(w io.Writer, list []accountJSON) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ACCOUNT\tNAME\tREGION\tCOMPLETED\tPENDING\tFAILED\tBIN\tVOLUMES\tFULL\tUNIQUE")
	for i := range list {
		a := &list[i]
		unique := sizeText(a.Unique)
		if a.Uncounted > 0 {
			unique = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", a.Account, a.Name, a.Region,
			a.Completed, a.Pending, a.Failed, a.Bin, sizeText(a.Volume), sizeText(a.Full), unique)
	}
	return t.Flush()
}
