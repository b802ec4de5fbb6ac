package rest

import (
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"shale/internal/block"
	"shale/internal/seat"
)

// Send sends a whole answer. An error of Write means that the client has gone,
// and nobody is left to tell.
func Send(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// SendBlock sends the bytes of a block and the headers that describe them.
// Spec: ebs-direct §8.4.
func SendBlock(w http.ResponseWriter, data []byte, d block.Digest) {
	length := strconv.Itoa(len(data))
	setHeaders(w.Header(), [...]string{
		"Content-Type", "Content-Length", "X-Amz-Data-Length", "X-Amz-Checksum", "X-Amz-Checksum-Algorithm",
	}, [...]string{
		"application/octet-stream", length, length, d.Base64(), checksumAlgorithm,
	})
	w.WriteHeader(http.StatusOK)
	w.Write(data)
}

// setHeaders sets headers, whose names are in canonical form, in one allocation.
func setHeaders(h http.Header, names, values [5]string) {
	kept := values[:]
	for i, name := range names {
		h[name] = kept[i : i+1 : i+1]
	}
}

// checksumAlgorithm is the only one that there is.
const checksumAlgorithm = "SHA256"

// AppendToken appends a block token as a JSON string. It has nothing that would
// have to be escaped, and to look for that took a fifth of a page's time.
func AppendToken(b []byte, t string) []byte {
	b = append(b, '"')
	b = append(b, t...)
	return append(b, '"')
}

// Client is the one that w answers, for a seat: nil if it is not on a connection.
func Client(w http.ResponseWriter) seat.Client {
	client, _ := w.(seat.Client)
	return client
}

// SetChecksum sets the headers in which a write and a read name the digest of
// a block. Spec: ebs-direct §4, §8.4.
func SetChecksum(h http.Header, d block.Digest) {
	h.Set("X-Amz-Checksum", d.Base64())
	h.Set("X-Amz-Checksum-Algorithm", checksumAlgorithm)
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8, which only
// a path or a parameter quoted in an error can hold, become U+FFFD; that is the
// one error of AppendQuote.
func AppendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
