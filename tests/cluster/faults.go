// The faults that a relay can inject into calls, and how it decides what becomes of each call.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// faults are set as a whole: what is left out is off.
type faults struct {
	DelayMS int     `json:"delay_ms"` // Each call waits so long, or until the faults are set anew.
	Answer  *answer `json:"answer"`
	Cut     *cut    `json:"cut"`
	Away    bool    `json:"away"` // Nobody listens, and what was open is closed.
}

// answer refuses every so many calls, without the API server.
type answer struct {
	Status int `json:"status"`
	Every  int `json:"every"` // Every how manieth call it is, counted from when the faults were set.
	// Only such calls are counted and refused.
	Verb     string `json:"verb"`
	Resource string `json:"resource"`
	// What the Status says, instead of the usual reason for that code.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// cut makes one write the last call that is heard, as if the caller or the API server had died: the connection is closed
// without an answer, and so are those of all later calls.
type cut struct {
	Write int    `json:"write"` // Which write it is, counted from when the faults were set.
	When  string `json:"when"`  // "before" the API server gets it, or "after" it has answered.
}

// check says what is wrong with faults that somebody asks for.
func (f *faults) check() error {
	if f.Answer != nil {
		if f.Answer.Every == 0 {
			f.Answer.Every = 1
		}
		if f.Answer.Status < 400 || f.Answer.Status > 599 || f.Answer.Every < 0 {
			return fmt.Errorf("answer needs a status from 400 to 599 and a positive every")
		}
	}
	if f.Cut != nil && (f.Cut.Write < 1 || f.Cut.When != "before" && f.Cut.When != "after") {
		return fmt.Errorf(`cut needs a positive write, and a when of "before" or "after"`)
	}
	return nil
}

// injector applies the faults that are set at the time.
type injector struct {
	lock    sync.Mutex
	faults  faults
	changed chan struct{} // Is closed when the faults are set anew.
	calls   int           // How many calls `answer` has counted.
	writes  int
	isCut   bool // Whether the cut is done.
}

func newInjector() *injector {
	return &injector{changed: make(chan struct{})}
}

// set replaces the faults, and counts from one again.
func (i *injector) set(f faults) {
	i.lock.Lock()
	defer i.lock.Unlock()
	close(i.changed)
	i.faults, i.changed = f, make(chan struct{})
	i.calls, i.writes, i.isCut = 0, 0, false
}

// verdict is what becomes of a call.
type verdict struct {
	delay   time.Duration
	changed <-chan struct{} // Ends the delay early.
	answer  *answer         // Answers it without the API server.
	cut     string          // Closes its connection: "before" or "after".
}

// judge counts a call.
func (i *injector) judge(c *call) verdict {
	i.lock.Lock()
	defer i.lock.Unlock()
	v := verdict{delay: time.Duration(i.faults.DelayMS) * time.Millisecond, changed: i.changed}
	if i.isCut {
		v.cut = "before"
		return v
	}
	if cut := i.faults.Cut; cut != nil && c.isWrite() {
		i.writes++
		if i.writes == cut.Write {
			i.isCut = true
			v.cut = cut.When
			return v
		}
	}
	if a := i.faults.Answer; a != nil && a.matches(c) {
		i.calls++
		if i.calls%a.Every == 0 {
			v.answer = a
		}
	}
	return v
}

func (a *answer) matches(c *call) bool {
	return (a.Verb == "" || a.Verb == c.Verb) && (a.Resource == "" || a.Resource == c.Resource)
}

// reasons are what the API server gives with its codes.
var reasons = map[int]meta.StatusReason{
	http.StatusBadRequest:            meta.StatusReasonBadRequest,
	http.StatusUnauthorized:          meta.StatusReasonUnauthorized,
	http.StatusForbidden:             meta.StatusReasonForbidden,
	http.StatusNotFound:              meta.StatusReasonNotFound,
	http.StatusMethodNotAllowed:      meta.StatusReasonMethodNotAllowed,
	http.StatusConflict:              meta.StatusReasonConflict,
	http.StatusGone:                  meta.StatusReasonExpired,
	http.StatusRequestEntityTooLarge: meta.StatusReasonRequestEntityTooLarge,
	http.StatusUnprocessableEntity:   meta.StatusReasonInvalid,
	http.StatusTooManyRequests:       meta.StatusReasonTooManyRequests,
	http.StatusInternalServerError:   meta.StatusReasonInternalError,
	http.StatusServiceUnavailable:    meta.StatusReasonServiceUnavailable,
	http.StatusGatewayTimeout:        meta.StatusReasonTimeout,
}

// retryAfter is how many seconds a client that asks too much is told to wait.
const retryAfter = 1

// status is the object of an answer.
func (a *answer) status(c *call) meta.Status {
	status := meta.Status{
		TypeMeta: meta.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   meta.StatusFailure,
		Code:     int32(a.Status),
		Reason:   reasons[a.Status],
		Message:  "refused by the test's relay",
		Details:  &meta.StatusDetails{Group: c.Group, Kind: c.Resource, Name: c.Name},
	}
	if a.Reason != "" {
		status.Reason = meta.StatusReason(a.Reason)
	}
	if a.Message != "" {
		status.Message = a.Message
	}
	if a.Status == http.StatusTooManyRequests {
		status.Details.RetryAfterSeconds = retryAfter
	}
	return status
}

// write answers a call.
func (a *answer) write(w http.ResponseWriter, c *call) {
	body, err := json.Marshal(a.status(c))
	if err != nil {
		panic(err)
	}
	if a.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.Status)
	_, _ = w.Write(body)
}

// expired is what a watch is told whose resourceVersion is too old.
var expired = answer{Status: http.StatusGone, Message: "too old resource version: 1 (2)"}
