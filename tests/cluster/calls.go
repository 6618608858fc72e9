// The record of the calls that came through a relay.
package main

import (
	"net/http"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// call is one call, in the words of a Role's rules.
type call struct {
	Verb      string `json:"verb"`
	Group     string `json:"group"`
	Resource  string `json:"resource"` // With its subresource; the path if it is not about a resource.
	Namespace string `json:"namespace"`
	Name      string `json:"name"` // Empty for create: the name is in what is sent.
	Agent     string `json:"agent"`
	Status    int    `json:"status"`        // What was answered; 0 while nothing is, or if nothing was.
	Cut       string `json:"cut,omitempty"` // How it was cut off, see faults.go. Status is what the API server said then.
}

// isWrite says whether the call changes objects.
func (c *call) isWrite() bool {
	return slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, c.Verb)
}

// resources are told from paths as the API server itself does it.
var resources = request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

// newCall describes a request.
func newCall(r *http.Request) call {
	info, err := resources.NewRequestInfo(r)
	if err != nil || !info.IsResourceRequest {
		return call{Verb: info.Verb, Resource: r.URL.Path, Agent: r.UserAgent()}
	}
	resource := info.Resource
	if info.Subresource != "" {
		resource += "/" + info.Subresource
	}
	return call{
		Verb:      info.Verb,
		Group:     info.APIGroup,
		Resource:  resource,
		Namespace: info.Namespace,
		Name:      info.Name,
		Agent:     r.UserAgent(),
	}
}

// record holds calls in the order in which they came.
type record struct {
	lock  sync.Mutex
	calls []*call
}

// add puts a call at the end.
func (r *record) add(c call) *call {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.calls = append(r.calls, &c)
	return &c
}

// answered notes how a call ended.
func (r *record) answered(c *call, status int, cut string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	c.Status = status
	c.Cut = cut
}

// all copies the calls.
func (r *record) all() []call {
	r.lock.Lock()
	defer r.lock.Unlock()
	calls := make([]call, len(r.calls))
	for i, c := range r.calls {
		calls[i] = *c
	}
	return calls
}

func (r *record) clear() {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.calls = nil
}
