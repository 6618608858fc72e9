// The watches that run through a relay. They can be ended between two events, as an API server does it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// watches are those of one relay.
type watches struct {
	lock    sync.Mutex
	running map[*watch]struct{}
	// How many of the next watches of a resource that go on from a version are refused, by group and resource.
	expired map[string]int
}

// watch is one that runs.
type watch struct {
	of  string
	end chan bool // Ends it; true says that its version is too old.
}

// kind is what a call is about.
func kind(c *call) string {
	return c.Group + "/" + c.Resource
}

func (w *watches) add(c *call) *watch {
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.running == nil {
		w.running = map[*watch]struct{}{}
	}
	one := &watch{of: kind(c), end: make(chan bool, 1)}
	w.running[one] = struct{}{}
	return one
}

func (w *watches) remove(one *watch) {
	w.lock.Lock()
	defer w.lock.Unlock()
	delete(w.running, one)
}

// endAll ends the running watches and says how many they were. If their versions are gone, each hears so, and so does
// the next one for each of them that would go on from a version.
func (w *watches) endAll(gone bool) int {
	w.lock.Lock()
	defer w.lock.Unlock()
	if gone {
		w.expired = map[string]int{}
	}
	for one := range maps.Keys(w.running) {
		if gone {
			w.expired[one.of]++
		}
		one.end <- gone
	}
	ended := len(w.running)
	w.running = nil
	return ended
}

// isExpired says whether a watch is refused because its version is too old, and counts that.
func (w *watches) isExpired(c *call, request *http.Request) bool {
	version := request.URL.Query().Get("resourceVersion")
	w.lock.Lock()
	defer w.lock.Unlock()
	if version == "" || version == "0" || w.expired[kind(c)] == 0 {
		return false
	}
	w.expired[kind(c)]--
	return true
}

// watch forwards a watch event by event.
func (r *relay) watch(w http.ResponseWriter, request *http.Request, c *call) {
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	response, err := r.send(ctx, request)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	flusher := http.NewResponseController(w)
	if flusher.Flush() != nil {
		return
	}
	one := r.watches.add(c)
	defer r.watches.remove(one)
	isJSON := strings.HasPrefix(response.Header.Get("Content-Type"), "application/json")

	events := make(chan []byte)
	broken := make(chan error, 1)
	go readEvents(ctx, response, isJSON, events, broken)
	for {
		select {
		case event := <-events:
			if _, err := w.Write(event); err != nil || flusher.Flush() != nil {
				return
			}
		case gone := <-one.end:
			if gone && isJSON {
				writeExpired(w, c)
			}
			return
		case err := <-broken:
			if err != nil {
				// It did not end well, and must not look as if it did.
				panic(http.ErrAbortHandler)
			}
			return
		}
	}
}

// readEvents reads a watch until it ends; nil says that it ended well. JSON comes event by event, one a line; of other
// formats the frames are not known, and are passed on as they come.
func readEvents(ctx context.Context, response *http.Response, isJSON bool, events chan<- []byte, broken chan<- error) {
	reader := bufio.NewReaderSize(response.Body, 64<<10)
	for {
		var part []byte
		var err error
		if isJSON {
			part, err = reader.ReadBytes('\n')
		} else {
			_, err = reader.Peek(1)
			part, _ = reader.Peek(reader.Buffered())
			part = append([]byte(nil), part...)
			_, _ = reader.Discard(len(part))
		}
		if len(part) > 0 {
			select {
			case events <- part:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			broken <- err
			return
		}
	}
}

// writeExpired writes the last event of a watch whose version is too old.
func writeExpired(w http.ResponseWriter, c *call) {
	line, err := json.Marshal(struct {
		Type   string      `json:"type"`
		Object meta.Status `json:"object"`
	}{"ERROR", expired.status(c)})
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(append(line, '\n'))
}
