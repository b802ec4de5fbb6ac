package iam

import (
	"encoding/base64"
	"strconv"
	"strings"

	"shale/internal/identity"
	"shale/internal/query"
)

// usualPage is how many entries a page has if nobody says so, and maxPage how
// many at most. Source: IAM's model.
const (
	usualPage = 100
	maxPage   = 1000
)

// page reads which part of a list is asked for. A marker is the list's kind and
// the name of the last entry told, so that a page is right whatever has come and
// gone meanwhile.
func (d *decoder) page(kind string) identity.Page {
	p := identity.Page{Limit: d.number("MaxItems", 1, maxPage, usualPage)}
	if text := d.optional("Marker", marker); text != nil && d.err == nil {
		b, err := base64.RawURLEncoding.DecodeString(*text)
		after, ok := strings.CutPrefix(string(b), kind+"\x00")
		if err != nil || !ok {
			d.err = &identity.Error{Code: identity.InvalidInput, Text: "Invalid Marker."}
		}
		p.After = after
	}
	return p
}

// cut gives the page of all, which are in the order of their names, and what
// the marker of the next one is made of, empty if there is none.
func cut[T any](all []T, name func(T) string, p identity.Page) (page []T, next string) {
	for len(all) > 0 && p.After != "" && name(all[0]) <= p.After {
		all = all[1:]
	}
	if len(all) <= p.Limit {
		return all, ""
	}
	return all[:p.Limit], name(all[p.Limit-1])
}

// appendPage appends what stands after the entries of a page.
func appendPage(b []byte, kind, next string) []byte {
	b = query.AppendElement(b, "IsTruncated", strconv.FormatBool(next != ""))
	if next != "" {
		b = query.AppendElement(b, "Marker", base64.RawURLEncoding.EncodeToString([]byte(kind+"\x00"+next)))
	}
	return b
}
