package gateway

import (
	"log/slog"
	"net/http"
	"time"
)

// NewServer returns a server for h, with the limits that keep one client from
// holding up others: a header of at most 64 KiB within ten seconds (a larger
// one is answered 431), and idle connections closed after three minutes, which
// is longer than SDKs keep theirs. How long bodies and answers may take is the
// Gateway's to say, by what moves and not by the clock alone; WriteTimeout only
// covers what net/http writes before the handler does. log gets the server's
// own complaints; nil discards them.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      writeStall,
		IdleTimeout:       3 * time.Minute,
		// An OPTIONS * is a request like any other.
		DisableGeneralOptionsHandler: true,
		MaxHeaderBytes:               64 << 10,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
