// Command cluster is a real Kubernetes control plane for the tests, as one program: the first argument chooses the
// component. `up` starts a whole cluster by running the other components of the same program as its children.
//
// It is built with CGO_ENABLED=0, and with the version that the servers are to tell, which Helm reads:
//
//	go build -trimpath -ldflags "-s -w -X $V.gitVersion=v1.36.3 -X $V.gitMajor=1 -X $V.gitMinor=36 -X $V.gitTreeState=clean"
//
// where V is k8s.io/component-base/version. Helm is a tool of the same module: `go build helm.sh/helm/v3/cmd/helm`.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // Jobs name time zones, and the machine may know none.

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's ways to sign in.
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// A component is given the arguments that follow its name and returns the exit code of the process.
type component func(arguments []string) int

// components are what the first argument can be. Files that add one do so in an init function.
var components = map[string]component{
	"etcd":                    runEtcd,
	"kube-apiserver":          cobraCommand(apiserver.NewAPIServerCommand),
	"kube-controller-manager": cobraCommand(controllers.NewControllerManagerCommand),
	"kube-proxy":              cobraCommand(proxy.NewProxyCommand),
	"kubelet":                 cobraCommand(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":                 runKubectl,
}

func main() {
	if len(os.Args) > 1 {
		if run, known := components[os.Args[1]]; known {
			// The components read os.Args themselves, so each finds its own name in front.
			os.Args = os.Args[1:]
			os.Exit(run(os.Args[1:]))
		}
	}
	var names []string
	for name := range components {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "usage: %s COMPONENT [ARGUMENT...]\ncomponents: %s\n",
		filepath.Base(os.Args[0]), strings.Join(names, ", "))
	os.Exit(2)
}

// cobraCommand makes a component of a Kubernetes server's command.
func cobraCommand(command func() *cobra.Command) component {
	return func([]string) int { return cli.Run(command()) }
}

func runEtcd([]string) int {
	etcdmain.Main(os.Args)
	return 0
}

func runKubectl([]string) int {
	// As kubectl's own main does: the verbosity counts while the command is made, before its flags are read.
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
		return 1
	}
	return 0
}
