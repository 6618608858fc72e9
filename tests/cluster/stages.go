// What the pods of the fake node do, as kwok's stages: how each state of a pod leads to the next one.
//
// Without annotations a pod is Ready at once, and gone at once when it is deleted. Its annotations change that. They
// can be added to a pod that runs, and a pod gets well again when `fail` is taken away:
//
//	cluster.test/start-delay  "5s": how long its container is being created. Counted once, whatever happens to the pod.
//	cluster.test/stop-delay   "5s": how long it takes to end; deleting without a grace period does not wait for it.
//	cluster.test/address      The address it gets. kwok's own are in podRange, and are used again when a pod is gone.
//	cluster.test/fail         image, image-name, never-pull, config, command or mount: its container does not come to run;
//	                          crash or oom: its container runs, ends, and is not started again; unready: it runs, but is
//	                          never Ready; evicted: it has failed for good; unschedulable: it gets no node.
//	cluster.test/message      The failure's message in its status, instead of its usual one. Events keep theirs.
package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	node "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	heartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	pod "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
)

const (
	failAnnotation    = "cluster.test/fail"
	messageAnnotation = "cluster.test/message"
)

// stage is one step of a pod's life.
type stage struct {
	name  string
	when  string // A jq expression about the pod.
	after string // What it waits for, as a jq expression that gives a duration or a time.
	next  *state // What the pod becomes; nil removes it.
	event *event
}

// state is what status.tmpl makes a pod's status of.
type state struct {
	Phase     string `json:"phase"`
	Ready     string `json:"ready"`     // yes, no, or "without probe": only containers that have no probe.
	Container string `json:"container"` // running, waiting or terminated.
	Reason    string `json:"reason"`    // Why it waits or has ended.
	Message   string `json:"message"`   // The words NAME and IMAGE are replaced by the container's.
	Exit      int    `json:"exit"`
	Restarts  int    `json:"restarts"` // How many it adds.
	Creating  bool   `json:"creating"` // Whether the pod has no network yet.
}

type event struct {
	Type    string `json:"type"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

//go:embed status.tmpl
var statusTemplate string

// words are the states of a pod in jq. The start delay is over at `due`.
const words = `
def annotation(name): .metadata.annotations["cluster.test/" + name] // "";
def alive: .metadata.deletionTimestamp == null and (.status.phase == "Pending" or .status.phase == "Running");
def pending: .status.phase == "Pending";
def fails(word): annotation("fail") == word;
def ready: any(.status.conditions[]?; .type == "Ready" and .status == "True");
def due: [.status.conditions[]? | select(.type == "cluster.test/Due") | .message][0] // "";
def created: annotation("start-delay") == "" or due != "";
def container(state): any(.status.containerStatuses[]?; .state[state] != null);
def waits(reason): any(.status.containerStatuses[]?; .state.waiting.reason == reason);
`

// podStages are all stages of pods but kwok's own one for Jobs.
func podStages() []stage {
	stages := []stage{
		{
			name: "creating",
			when: `alive and pending and (created | not)`,
			next: &state{Phase: "Pending", Ready: "no", Container: "waiting", Reason: "ContainerCreating", Creating: true},
		},
		{
			name:  "ready",
			when:  `alive and fails("") and created and (ready | not)`,
			after: `due`,
			next:  &state{Phase: "Running", Ready: "yes", Container: "running"},
		},
		{
			name:  "unready",
			when:  `alive and fails("unready") and created and (ready or (container("running") | not))`,
			after: `due`,
			next:  &state{Phase: "Running", Ready: "no", Container: "running"},
		},
		{
			name:  "evicted",
			when:  `alive and fails("evicted") and created`,
			after: `due`,
			next: &state{Phase: "Failed", Ready: "no", Container: "terminated", Reason: "Evicted", Exit: 137,
				Message: "The node was low on resource: memory."},
			event: &event{"Warning", "Evicted", "The node was low on resource: memory."},
		},
		{
			name:  "delete",
			when:  `.metadata.deletionTimestamp != null`,
			after: `annotation("stop-delay")`,
		},
	}
	stages = append(stages, crashes("crash", "Error", 1)...)
	stages = append(stages, crashes("oom", "OOMKilled", 137)...)
	const pull = `failed to pull and unpack image "IMAGE": not found`
	return append(stages,
		fails("image", "ErrImagePull", pull, `waits("ErrImagePull") or waits("ImagePullBackOff")`,
			event{"Warning", "Failed", "Error: ErrImagePull"}),
		stage{
			name:  "image-back-off",
			when:  `alive and fails("image") and waits("ErrImagePull")`,
			after: `"1s"`,
			next: &state{Phase: "Pending", Ready: "no", Container: "waiting", Reason: "ImagePullBackOff",
				Message: `Back-off pulling image "IMAGE": ErrImagePull: ` + pull},
			event: &event{"Normal", "BackOff", "Back-off pulling image"},
		},
		fails("image-name", "InvalidImageName", `Failed to apply default image tag "IMAGE": couldn't parse image name`, "",
			event{"Warning", "InspectFailed", "Failed to apply default image tag: couldn't parse image name"}),
		fails("never-pull", "ErrImageNeverPull", `Container image "IMAGE" is not present with pull policy of Never`, "",
			event{"Warning", "ErrImageNeverPull", "Container image is not present with pull policy of Never"}),
		fails("config", "CreateContainerConfigError", `configmap "missing" not found`, "",
			event{"Warning", "Failed", `Error: configmap "missing" not found`}),
		fails("command", "RunContainerError", `exec: "missing": executable file not found in $PATH`, "",
			event{"Warning", "Failed", `Error: exec: "missing": executable file not found in $PATH`}),
		// Only the event tells it from a container that is being created.
		fails("mount", "ContainerCreating", "", `waits("ContainerCreating") and .status.podIP != null`,
			event{"Warning", "FailedMount", `MountVolume.SetUp failed for volume "missing": secret "missing" not found`}),
	)
}

// fails is a failure that keeps containers from running. It is there already if `already` is true of the pod, or if
// containers wait for that reason.
func fails(word, reason, message, already string, told event) stage {
	if already == "" {
		already = fmt.Sprintf("waits(%q)", reason)
	}
	return stage{
		name:  "fail-" + word,
		when:  fmt.Sprintf(`alive and fails(%q) and created and (%s | not)`, word, already),
		after: `due`,
		next:  &state{Phase: "Pending", Ready: "no", Container: "waiting", Reason: reason, Message: message},
		event: &told,
	}
}

// crashes are the stages of a container that ends soon after its start, and again: first it is as good as any other.
// The node starts it a second time at once, which is not seen here, and then lets it wait.
func crashes(word, reason string, exit int) []stage {
	fails := fmt.Sprintf(`alive and fails(%q) and `, word)
	return []stage{
		{
			name:  word + "-run",
			when:  fails + `created and pending`,
			after: `due`,
			next:  &state{Phase: "Running", Ready: "without probe", Container: "running"},
		},
		{
			name:  word + "-end",
			when:  fails + `container("running")`,
			after: `"200ms"`,
			next: &state{Phase: "Running", Ready: "no", Container: "terminated", Reason: reason, Exit: exit,
				Restarts: 1},
		},
		{
			name:  word + "-back-off",
			when:  fails + `container("terminated")`,
			after: `"1s"`,
			next: &state{Phase: "Running", Ready: "no", Container: "waiting", Reason: "CrashLoopBackOff",
				Message: "back-off 10s restarting failed container=NAME"},
			event: &event{"Warning", "BackOff", "Back-off restarting failed container"},
		},
	}
}

// stageFile is the configuration that kwok is given. JSON is YAML too.
func stageFile() (string, error) {
	documents := []string{node.DefaultNodeInit, heartbeat.DefaultNodeHeartbeatWithLease, pod.DefaultPodComplete}
	for _, s := range podStages() {
		text, err := s.document()
		if err != nil {
			return "", err
		}
		documents = append(documents, text)
	}
	return strings.Join(documents, "\n---\n"), nil
}

// document is a stage as kwok reads it.
func (s stage) document() (string, error) {
	next := map[string]any{}
	if s.next == nil {
		next["delete"] = true
	} else {
		values, err := json.Marshal(s.next)
		if err != nil {
			return "", err
		}
		next["statusTemplate"] = strings.Replace(statusTemplate, "STATE", string(values), 1)
	}
	if s.event != nil {
		next["event"] = s.event
	}
	spec := map[string]any{
		"resourceRef": map[string]any{"apiGroup": "v1", "kind": "Pod"},
		"selector": map[string]any{"matchExpressions": []any{
			map[string]any{"key": words + s.when, "operator": "In", "values": []string{"true"}},
		}},
		"next": next,
	}
	if s.after != "" {
		spec["delay"] = map[string]any{"durationFrom": map[string]any{"expressionFrom": words + s.after}}
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "kwok.x-k8s.io/v1alpha1",
		"kind":       "Stage",
		"metadata":   map[string]any{"name": s.name},
		"spec":       spec,
	})
	return string(text), err
}
