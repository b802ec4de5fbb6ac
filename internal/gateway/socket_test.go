package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// connect gives both ends of a TCP connection, the second as the server has it.
func connect(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// A socket does all that is asked of a net.Conn.
func TestSocketIsAConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := connect(t)
		return newSocket(a), newSocket(b), func() { a.Close(); b.Close() }, nil
	})
}

// What is longer than all buffers between the two arrives whole: the rest of it
// waits for room again and again.
func TestSocketWaitsForRoom(t *testing.T) {
	client, server := connect(t)
	want := make([]byte, 32<<20)
	for i := range want {
		want[i] = byte(i * 31 >> 5)
	}
	written := make(chan error, 1)
	go func() {
		n, err := newSocket(server).Write(want)
		if err == nil && n != len(want) {
			err = fmt.Errorf("%d bytes were written, without an error", n)
		}
		written <- errors.Join(err, server.CloseWrite())
	}()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; %d were written", len(got), err, len(want))
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// What happened before a byte was written happened before it is read, for the race
// detector too, which follows the standard library's connections.
func TestSocketOrdersWhatHappens(t *testing.T) {
	client, tcp := connect(t)
	server := newSocket(tcp)
	var asked, answered int // without a lock; client and server take turns
	served := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		answered = asked + 1
		_, werr := server.Write([]byte{0})
		served <- errors.Join(err, werr)
	}()
	asked = 1
	if _, err := client.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err != nil || answered != 2 {
		t.Errorf("got answer %d, %v", answered, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// What goes wrong is told in the words of the standard library, by which net/http
// and the gateway know it.
func TestSocketErrors(t *testing.T) {
	read := func(c net.Conn) (int, error) { return c.Read(make([]byte, 1)) }
	write := func(c net.Conn) (int, error) { return c.Write(make([]byte, 64<<20)) }
	past := time.Unix(1, 0)
	for _, test := range []struct {
		name    string
		prepare func(client, server *net.TCPConn)
		do      func(net.Conn) (int, error)
		want    error
	}{
		{"end", func(client, _ *net.TCPConn) { client.Close() }, read, io.EOF},
		{"read after close", func(_, server *net.TCPConn) { server.Close() }, read, net.ErrClosed},
		{"write after close", func(_, server *net.TCPConn) { server.Close() }, write, net.ErrClosed},
		{"read too late", func(_, server *net.TCPConn) { server.SetDeadline(past) }, read, os.ErrDeadlineExceeded},
		{"write too late", func(_, server *net.TCPConn) { server.SetDeadline(past) }, write, os.ErrDeadlineExceeded},
		{"write for too long", func(_, server *net.TCPConn) {
			server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		}, write, os.ErrDeadlineExceeded},
		{"read after reset", func(client, _ *net.TCPConn) { client.SetLinger(0); client.Close() }, read, syscall.ECONNRESET},
		{"write after close for writing", func(_, server *net.TCPConn) { server.CloseWrite() }, write, syscall.EPIPE},
	} {
		t.Run(test.name, func(t *testing.T) {
			say := func(make func(net.Conn) net.Conn) (string, error) {
				client, server := connect(t)
				test.prepare(client, server)
				_, err := test.do(make(server))
				if err == nil {
					t.Fatal("no error")
				}
				text := fmt.Sprintf("%T: %v", err, err)
				for _, a := range []net.Addr{client.LocalAddr(), server.LocalAddr()} {
					text = strings.ReplaceAll(text, a.String(), a.Network())
				}
				return text, err
			}
			got, err := say(newSocket)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			want, _ := say(func(c net.Conn) net.Conn { return c })
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
