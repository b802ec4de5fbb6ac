package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Server serves a Gateway on listeners, and has net/http's own refusals told
// as the gateway would.
type Server struct {
	g      *Gateway
	crowd  *crowd
	lounge *lounge
	http   *http.Server
}

// connKey is where the context of a request has its *conn.
type connKey struct{}

// headerTime is how long a client may take for the header of its request.
const headerTime = 10 * time.Second

// NewServer returns a server for g, with the limits that keep one client from
// holding up others: a header of at most 64 KiB within ten seconds, idle
// connections closed after three minutes, which is longer than SDKs keep
// theirs, and a greatest number of connections. How long bodies and answers may take is the Gateway's to say, by what
// moves and not by the clock alone; WriteTimeout only covers what net/http
// writes before the handler does. log gets the server's own complaints; nil
// discards them.
func NewServer(g *Gateway, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	crowd := newCrowd(g.o.MaxConnections, g.o.Registry)
	s := &Server{g: g, crowd: crowd, lounge: newLounge(), http: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := r.Context().Value(connKey{}).(*conn)
			c.begin()
			r.TLS = c.secure.Load()
			g.ServeHTTP(w, r)
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateIdle { // the answer went out, the next request may come
				c.(*conn).end()
			}
		},
		ReadHeaderTimeout: headerTime,
		WriteTimeout:      writeStall,
		IdleTimeout:       idleTime,
		// An OPTIONS * is a request like any other.
		DisableGeneralOptionsHandler: true,
		MaxHeaderBytes:               maxHeaderRead,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
	s.http.RegisterOnShutdown(g.misbehaviour.stop)
	return s
}

// Serve answers what comes through l, which it closes, until Shutdown or Close
// and then returns http.ErrServerClosed. What l hands out is not encrypted:
// where there is to be TLS, the Server does it. It speaks HTTP/1.1 only.
func (s *Server) Serve(l net.Listener) error {
	s.lounge.addr = l.Addr()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer s.lounge.Close()
	waiting.Go(func() {
		s.http.Serve(s.lounge) //nolint:errcheck // it ends when the other does
	})
	return s.http.Serve(listener{l, s.g, s.crowd, s.lounge})
}

// Open is how many connections are open.
func (s *Server) Open() int { return s.crowd.count() }

// Shutdown takes no more connections, closes those that are idle, and waits for
// the others until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close closes all listeners and connections.
func (s *Server) Close() error { return s.http.Close() }
