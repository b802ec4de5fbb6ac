package main

import (
	"context"
	"log/slog"
	"regexp"
	"slices"

	"shale/internal/catalog"
)

// regionName is what a region may be called: its name stands in ARNs, in host
// names and in credential scopes.
var regionName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// checkRegions refuses names that are no region's.
func checkRegions(names []string) error {
	for i, name := range names {
		if !regionName.MatchString(name) {
			return usagef("--region %q: a region's name has 1 to 32 lower-case letters, digits and hyphens", name)
		}
		if slices.Contains(names[:i], name) {
			return usagef("--region %s is given twice", name)
		}
	}
	return nil
}

// warnUnserved names the regions that the folder has snapshots in and that are
// not served: whoever left out a --region by mistake would miss them.
func warnUnserved(ctx context.Context, c *catalog.Catalog, served []string, log *slog.Logger) error {
	regions, err := c.RegionsBut(ctx, served)
	if err != nil {
		return err
	}
	for _, r := range regions {
		log.Warn("a region of the folder is not served: its snapshots stay, and are seen again once --region names it",
			"region", r.Name, "snapshots", r.Snapshots)
	}
	return nil
}
