package plain

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"shale/internal/rest"
	"shale/internal/snapshot"
)

// image answers GET and HEAD of /snapshots/{id}/image: the volume as bytes,
// whole or in ranges. http.ServeContent is not used: it copies 32 KiB at a
// time, bounds no set of ranges, tells refusals as plain text and does not
// notice an error in the middle. An error after the first byte is returned all
// the same; it cuts the connection. Spec: plain-json, What this dialect adds;
// RFC 9110 §13, §14, §15.3.7.
func (h *Handler) image(w http.ResponseWriter, r *http.Request, c snapshot.Caller, rt rest.Route) error {
	img, err := h.service.OpenImage(r.Context(), c, rt.SnapshotID)
	if err != nil {
		return err
	}
	root := hex.EncodeToString(img.Root[:])
	tag := `"` + root + `"`
	if list := r.Header.Values("If-None-Match"); len(list) > 0 && matchesTag(strings.Join(list, ","), tag) {
		w.Header().Set("Etag", tag)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	ranges, err := wanted(r, tag, img.Size())
	if err != nil {
		return err
	}
	b := imageBody{w: w, img: img, tag: tag}
	switch {
	case r.Method == http.MethodHead:
		b.header(http.StatusOK, octets, img.Size())
		return nil
	case len(ranges) == 0:
		return b.send(r, []part{{byteRange: byteRange{0, img.Size()}}}, http.StatusOK, octets, "")
	case len(ranges) == 1:
		w.Header().Set("Content-Range", ranges[0].contentRange(img.Size()))
		return b.send(r, []part{{byteRange: ranges[0]}}, http.StatusPartialContent, octets, "")
	}
	// The root is a hash of hashes of the bytes: they cannot hold it.
	parts, end := multipart(ranges, img.Size(), root)
	return b.send(r, parts, http.StatusPartialContent, "multipart/byteranges; boundary="+root, end)
}

const octets = "application/octet-stream"

// wanted gives the ranges asked for, none for the whole image. A Range means
// something to a GET only, and under an If-Range only if that still holds.
func wanted(r *http.Request, tag string, size int64) ([]byteRange, error) {
	values := r.Header.Values("Range")
	condition := r.Header.Values("If-Range")
	if r.Method != http.MethodGet || len(values) == 0 || len(condition) > 0 && (len(condition) > 1 || condition[0] != tag) {
		return nil, nil
	}
	return parseRanges(strings.Join(values, ","), size)
}

// A part is a range with what is sent before it.
type part struct {
	before string
	byteRange
}

// multipart gives the parts of an answer with several ranges, and its end.
func multipart(ranges []byteRange, size int64, boundary string) (parts []part, end string) {
	newline := ""
	for _, r := range ranges {
		parts = append(parts, part{
			newline + "--" + boundary + "\r\nContent-Type: " + octets + "\r\nContent-Range: " + r.contentRange(size) + "\r\n\r\n", r,
		})
		newline = "\r\n"
	}
	return parts, "\r\n--" + boundary + "--\r\n"
}

// An imageBody is an answer with bytes of an image.
type imageBody struct {
	w     http.ResponseWriter
	img   *snapshot.Image
	tag   string
	begun bool // the header was sent
}

func (b *imageBody) header(status int, contentType string, length int64) {
	h := b.w.Header()
	h.Set("Accept-Ranges", "bytes")
	h.Set("Etag", b.tag)
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	b.w.WriteHeader(status)
	b.begun = true
}

// send sends the parts. Nothing is sent before the first block has been read.
func (b *imageBody) send(r *http.Request, parts []part, status int, contentType, end string) error {
	length := int64(len(end))
	for _, p := range parts {
		length += int64(len(p.before)) + p.length
	}
	for _, p := range parts {
		before := p.before
		for piece, err := range b.img.Read(r.Context(), rest.Client(b.w), p.offset, p.length) {
			if err != nil {
				if !b.begun {
					b.w.Header().Del("Content-Range")
				}
				return err
			}
			if !b.begun {
				b.header(status, contentType, length)
			}
			if before != "" {
				b.w.Write([]byte(before))
				before = ""
			}
			if _, err := b.w.Write(piece); err != nil {
				return nil //nolint:nilerr // the client has gone, and nobody is left to tell
			}
		}
	}
	if end != "" {
		b.w.Write([]byte(end))
	}
	return nil
}
