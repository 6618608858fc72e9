// The control server of `cluster up`: how a test makes relays, injects faults and stops the API server. It is plain
// HTTP with JSON; errors are answered as {"error": "..."} with status 400, 404 or 500.
//
//	POST   /relays                 {"token": "..."}           -> {"id": 1, "server": "URL", "kubeconfig": "PATH"}
//	                               Without a token, or without a body, the kubeconfig holds an administrator's. (kubectl
//	                               sends no tokens over plain HTTP: a relay is not for it.)
//	DELETE /relays/{id}
//	GET    /relays/{id}/calls      -> [{"verb": "get", "group": "", "resource": "pods/log", ...}], see calls.go
//	DELETE /relays/{id}/calls      Forgets them.
//	PUT    /relays/{id}/faults     {"delay_ms": 200, "answer": {"status": 429, "every": 3},
//	                                "cut": {"write": 2, "when": "before"}, "away": true}, see faults.go
//	POST   /relays/{id}/end-watches {"gone": true}            -> {"ended": 2}
//	                               Ends the running watches between two events. `gone` lets each hear 410 Expired first,
//	                               and answers the next watch of the same resource that names a version with 410.
//	PUT    /control-plane          {"apiserver": "stopped"}   or "running": is back when it is so.
//	POST   /pods-address           {"namespace": "...", "name": "...", "ip": "127.8.0.9"}
//	                               Gives a pod another address. Give a pod that is yet to come one by an annotation.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// control is the server.
type control struct {
	plane  *plane
	url    string
	server *http.Server
	errors *log.Logger

	lock   sync.Mutex
	relays map[int]*relay
	last   int        // The newest relay's id.
	power  sync.Mutex // Is held while the API server is started or stopped.
}

// wrong is an error of whoever asks.
type wrong struct {
	status  int
	message string
}

func (w wrong) Error() string { return w.message }

// startControl starts the server on a free port.
func startControl(p *plane) (*control, error) {
	file, err := os.OpenFile(p.family.log("relays"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.path("relays"), 0o700); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &control{plane: p, relays: map[int]*relay{}, errors: log.New(file, "", log.LstdFlags)}
	c.url = "http://" + listener.Addr().String()
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(*http.Request) (any, error){
		"POST /relays":                  c.addRelay,
		"DELETE /relays/{id}":           c.removeRelay,
		"GET /relays/{id}/calls":        c.calls,
		"DELETE /relays/{id}/calls":     c.clearCalls,
		"PUT /relays/{id}/faults":       c.setFaults,
		"POST /relays/{id}/end-watches": c.endWatches,
		"PUT /control-plane":            c.setPower,
		"POST /pods-address":            c.setAddress,
	} {
		mux.HandleFunc(pattern, answering(handle))
	}
	c.server = &http.Server{Handler: mux, ErrorLog: c.errors}
	go func() { _ = c.server.Serve(listener) }()
	return c, nil
}

func (c *control) close() {
	_ = c.server.Close()
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, r := range c.relays {
		r.goAway()
	}
}

// answering makes a handler of a function that gives what is to be answered.
func answering(handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		status := http.StatusOK
		value, err := handle(request)
		if err != nil {
			status = http.StatusInternalServerError
			var theirs wrong
			if errors.As(err, &theirs) {
				status = theirs.status
			}
			value = map[string]string{"error": err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value)
	}
}

// done is the answer if there is nothing to say.
var done = struct{}{}

// read reads a request's body. None at all is as good as an empty object; a word that is not known is an error.
func read(request *http.Request, into any) error {
	decoder := json.NewDecoder(request.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return wrong{http.StatusBadRequest, fmt.Sprintf("cannot read the body: %s", err)}
	}
	return nil
}

func (c *control) addRelay(request *http.Request) (any, error) {
	asked := struct {
		Token string `json:"token"`
	}{c.plane.tokens["admin"]}
	if err := read(request, &asked); err != nil {
		return nil, err
	}
	r, err := newRelay(c.plane.server(), c.plane.keys.CA, c.errors)
	if err != nil {
		return nil, err
	}
	c.lock.Lock()
	c.last++
	id := c.last
	c.relays[id] = r
	c.lock.Unlock()
	path := c.plane.path("relays", strconv.Itoa(id)+".kubeconfig")
	if err := writeKubeconfig(path, r.url(), "", "caller", asked.Token); err != nil {
		return nil, err
	}
	return map[string]any{"id": id, "server": r.url(), "kubeconfig": path}, nil
}

// relay finds the relay that a request names.
func (c *control) relay(request *http.Request) (*relay, error) {
	name := request.PathValue("id")
	id, err := strconv.Atoi(name)
	c.lock.Lock()
	defer c.lock.Unlock()
	if r := c.relays[id]; err == nil && r != nil {
		return r, nil
	}
	return nil, wrong{http.StatusNotFound, "there is no relay " + name}
}

func (c *control) removeRelay(request *http.Request) (any, error) {
	r, err := c.relay(request)
	if err != nil {
		return nil, err
	}
	r.goAway()
	c.lock.Lock()
	defer c.lock.Unlock()
	for id, one := range c.relays {
		if one == r {
			delete(c.relays, id)
		}
	}
	return done, nil
}

func (c *control) calls(request *http.Request) (any, error) {
	r, err := c.relay(request)
	if err != nil {
		return nil, err
	}
	return r.record.all(), nil
}

func (c *control) clearCalls(request *http.Request) (any, error) {
	r, err := c.relay(request)
	if err != nil {
		return nil, err
	}
	r.record.clear()
	return done, nil
}

func (c *control) setFaults(request *http.Request) (any, error) {
	r, err := c.relay(request)
	if err != nil {
		return nil, err
	}
	var asked faults
	if err := read(request, &asked); err != nil {
		return nil, err
	}
	if err := asked.check(); err != nil {
		return nil, wrong{http.StatusBadRequest, err.Error()}
	}
	return done, r.setFaults(asked)
}

func (c *control) endWatches(request *http.Request) (any, error) {
	r, err := c.relay(request)
	if err != nil {
		return nil, err
	}
	var asked struct {
		Gone bool `json:"gone"`
	}
	if err := read(request, &asked); err != nil {
		return nil, err
	}
	return map[string]int{"ended": r.watches.endAll(asked.Gone)}, nil
}

func (c *control) setPower(request *http.Request) (any, error) {
	var asked struct {
		APIServer string `json:"apiserver"`
	}
	if err := read(request, &asked); err != nil {
		return nil, err
	}
	c.power.Lock()
	defer c.power.Unlock()
	switch asked.APIServer {
	case "stopped":
		c.plane.stopAPIServer()
		return done, nil
	case "running":
		if c.plane.family.isRunning("kube-apiserver") {
			return done, nil
		}
		// Whoever asked may not wait for it; it is started all the same.
		return done, c.plane.startAPIServer(context.WithoutCancel(request.Context()))
	default:
		return nil, wrong{http.StatusBadRequest, `apiserver is "stopped" or "running"`}
	}
}

func (c *control) setAddress(request *http.Request) (any, error) {
	var asked struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		IP        string `json:"ip"`
	}
	if err := read(request, &asked); err != nil {
		return nil, err
	}
	client, err := c.plane.client()
	if err != nil {
		return nil, err
	}
	// A merge patch replaces the list of addresses; no stage of the fake node changes an address that is there.
	patch, err := json.Marshal(map[string]any{"status": map[string]any{
		"podIP":  asked.IP,
		"podIPs": []any{map[string]string{"ip": asked.IP}},
	}})
	if err != nil {
		return nil, err
	}
	_, err = client.CoreV1().Pods(asked.Namespace).Patch(request.Context(), asked.Name, types.MergePatchType, patch,
		meta.PatchOptions{}, "status")
	return done, err
}
