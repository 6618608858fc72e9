// The scheduler, with one addition: a pod can ask not to be scheduled, so that a test need not know what the node has.
package main

import (
	"context"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	framework "k8s.io/kube-scheduler/framework"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// unschedulable refuses pods with the annotation `cluster.test/fail: unschedulable`. They are tried again when the
// annotation goes.
type unschedulable struct{}

const unschedulableName = "ClusterTestUnschedulable"

func init() {
	components["kube-scheduler"] = cobraCommand(func() *cobra.Command {
		return scheduler.NewSchedulerCommand(scheduler.WithPlugin(unschedulableName,
			func(context.Context, runtime.Object, framework.Handle) (framework.Plugin, error) {
				return unschedulable{}, nil
			}))
	})
}

func (unschedulable) Name() string { return unschedulableName }

func (unschedulable) PreFilter(_ context.Context, _ framework.CycleState, pod *core.Pod,
	_ []framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	if pod.Annotations[failAnnotation] != "unschedulable" {
		return nil, framework.NewStatus(framework.Skip)
	}
	message := pod.Annotations[messageAnnotation]
	if message == "" {
		message = "Insufficient cpu"
	}
	return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, message)
}

func (unschedulable) PreFilterExtensions() framework.PreFilterExtensions { return nil }

// schedulerConfiguration is the file that turns the addition on.
const schedulerConfiguration = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: %q, qps: 200, burst: 400}
profiles:
- schedulerName: default-scheduler
  plugins:
    multiPoint: {enabled: [{name: ` + unschedulableName + `}]}
`
