// A relay is a plain-HTTP server in front of the API server: it forwards every call, watches included, with the caller's
// own token, records it, and injects the faults it is told to.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

// relay is one of them. It keeps its port while it is away.
type relay struct {
	port     int
	upstream *url.URL
	proxy    *httputil.ReverseProxy
	record   record
	injector *injector
	watches  watches

	lock     sync.Mutex
	server   *http.Server // nil while it is away.
	listener *listener
}

// newRelay starts a relay to an API server.
func newRelay(server, ca string, errors *log.Logger) (*relay, error) {
	upstream, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	port, err := freePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	r := &relay{port: port, upstream: upstream, injector: newInjector()}
	r.proxy = &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(upstream)
			request.Out.Host = upstream.Host
		},
		// One connection for each call that runs, so that a caller that goes away ends its call.
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: pool},
			DisableCompression:  true,
			MaxIdleConnsPerHost: 100,
			IdleConnTimeout:     time.Minute,
		},
		FlushInterval: -1,
		ErrorLog:      errors,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			// What an API server that is not there answers: nothing.
			panic(http.ErrAbortHandler)
		},
	}
	return r, r.listen()
}

// url is where the relay listens.
func (r *relay) url() string {
	return fmt.Sprintf("http://127.0.0.1:%d", r.port)
}

// listen opens the port.
func (r *relay) listen() error {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.server != nil {
		return nil
	}
	inner, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(r.port))
	if err != nil {
		return err
	}
	r.listener = &listener{Listener: inner, open: map[net.Conn]struct{}{}}
	r.server = &http.Server{Handler: r, ErrorLog: r.proxy.ErrorLog}
	go func(server *http.Server, listener net.Listener) { _ = server.Serve(listener) }(r.server, r.listener)
	return nil
}

// goAway closes the port and every connection.
func (r *relay) goAway() {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.server != nil {
		_ = r.server.Close()
		r.listener.closeAll()
		r.server = nil
	}
}

// setFaults replaces the faults.
func (r *relay) setFaults(f faults) error {
	r.injector.set(f)
	if f.Away {
		r.goAway()
		return nil
	}
	return r.listen()
}

// ServeHTTP is a call.
func (r *relay) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	described := newCall(request)
	call := r.record.add(described)
	verdict := r.injector.judge(&described)
	if verdict.delay > 0 {
		select {
		case <-time.After(verdict.delay):
		case <-verdict.changed:
		case <-request.Context().Done():
		}
	}
	answer := verdict.answer
	if answer == nil && described.Verb == "watch" && r.watches.isExpired(&described, request) {
		answer = &expired
	}
	switch {
	case verdict.cut == "before":
		r.record.answered(call, 0, verdict.cut)
		panic(http.ErrAbortHandler)
	case verdict.cut == "after":
		r.record.answered(call, r.forwardOnly(request), verdict.cut)
		panic(http.ErrAbortHandler)
	case answer != nil:
		r.record.answered(call, answer.Status, "")
		answer.write(w, &described)
	default:
		// Noted before it is sent, so that whoever has the answer finds it in the record.
		noted := &statusWriter{ResponseWriter: w, note: func(status int) { r.record.answered(call, status, "") }}
		if described.Verb == "watch" {
			r.watch(noted, request, &described)
		} else {
			r.proxy.ServeHTTP(noted, request)
		}
	}
}

// forwardOnly sends a request to the API server and keeps the answer from the caller, who may have gone meanwhile. It
// gives the status.
func (r *relay) forwardOnly(request *http.Request) int {
	response, err := r.send(context.WithoutCancel(request.Context()), request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// send forwards a request by hand.
func (r *relay) send(ctx context.Context, request *http.Request) (*http.Response, error) {
	out := request.Clone(ctx)
	out.URL.Scheme = r.upstream.Scheme
	out.URL.Host = r.upstream.Host
	out.Host = r.upstream.Host
	out.RequestURI = ""
	out.Header.Del("Connection")
	out.Close = false
	return r.proxy.Transport.RoundTrip(out)
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	note func(status int)
}

func (w *statusWriter) WriteHeader(status int) {
	w.note(status)
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is how others come to flush and to take over connections.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// listener knows its open connections: a server forgets those that were taken over.
type listener struct {
	net.Listener
	lock     sync.Mutex
	open     map[net.Conn]struct{}
	isClosed bool
}

func (l *listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.isClosed {
		inner.Close()
		return nil, errors.New("closed")
	}
	one := &connection{Conn: inner, listener: l}
	l.open[one] = struct{}{}
	return one, nil
}

// closeAll closes what is open.
func (l *listener) closeAll() {
	l.lock.Lock()
	l.isClosed = true
	open := l.open
	l.open = nil
	l.lock.Unlock()
	for one := range open {
		_ = one.Close()
	}
}

type connection struct {
	net.Conn
	listener *listener
}

func (c *connection) Close() error {
	c.listener.lock.Lock()
	delete(c.listener.open, c)
	c.listener.lock.Unlock()
	return c.Conn.Close()
}
