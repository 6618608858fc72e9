// The real node: containerd, kubelet and kube-proxy run pods as a cluster in production does. It needs root and some
// packages of the machine, see checkTools, and namespaces of its own, see node_space.go. Nothing can be pulled: `up`
// is given all images, the one of the sandboxes among them:
//
//	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o session ./session
//	cluster image pause:test session pause.tar
//	cluster image dev-session:test session session.tar
//	cluster up --home FOLDER --node real --image pause.tar --image session.tar
//	nsenter --target PID --net ...    is how to reach it, where PID is the ready line's "pid"
//
// With `--net --mount --pid`, `ctr --namespace=k8s.io` and `ps` tell what runs there.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	realNode = "real"
	// sandboxImage holds a pod's network while its containers come and go. It is among the images that `up` is given.
	sandboxImage = "docker.io/library/pause:test"
)

// pluginFolders are where distributions put the CNI plug-ins.
var pluginFolders = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// checkTools says what the machine lacks.
func checkTools() error {
	if os.Getuid() != 0 {
		return errors.New("a real node needs root")
	}
	var missing []string
	for _, tool := range []string{"containerd", "ctr", "runc", "nft", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if plugins() == "" {
		missing = append(missing, "the CNI plug-ins")
	}
	if len(missing) > 0 {
		return fmt.Errorf("a real node needs %s; to get it: apt-get install %s", strings.Join(missing, ", "),
			"containerd runc containernetworking-plugins nftables")
	}
	return nil
}

// plugins is the folder of the CNI plug-ins, empty if there is none.
func plugins() string {
	for _, folder := range pluginFolders {
		if _, err := os.Stat(filepath.Join(folder, "bridge")); err == nil {
			return folder
		}
	}
	return ""
}

// startRuntime starts containerd and gives it the images. It needs no API server.
func (p *plane) startRuntime(ctx context.Context, images []string) error {
	files := map[string]string{
		"containerd.toml":   fmt.Sprintf(containerdConfiguration, sandboxImage, plugins(), nodePath(p.home, "cni")),
		"cni/pods.conflist": podNetwork,
		"kubelet.yaml":      kubeletConfiguration,
		"kube-proxy.yaml":   fmt.Sprintf(proxyConfiguration, p.kubeconfig("node"), realNode),
	}
	for name, text := range files {
		path := nodePath(p.home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	// containerd finds its shim, and that runc, on PATH.
	command := exec.Command("containerd", "--config="+nodePath(p.home, "containerd.toml"))
	if err := p.family.start("containerd", command); err != nil {
		return err
	}
	err := p.wait(ctx, "containerd", func(ctx context.Context) error {
		_, err := ctr(ctx, "version")
		return err
	})
	if err != nil {
		return err
	}
	for _, image := range images {
		if _, err := ctr(ctx, "images", "import", image); err != nil {
			return fmt.Errorf("cannot import %s: %w", image, err)
		}
	}
	names, err := ctr(ctx, "images", "list", "--quiet")
	if err != nil {
		return err
	}
	if !strings.Contains("\n"+names, "\n"+sandboxImage+"\n") {
		return fmt.Errorf("no --image holds %s, which every pod needs; see `cluster image`", sandboxImage)
	}
	return nil
}

// ctr calls containerd's own client on what Kubernetes sees, and gives what it printed.
func ctr(ctx context.Context, arguments ...string) (string, error) {
	output, err := exec.CommandContext(ctx, "ctr", append([]string{"--namespace=k8s.io"}, arguments...)...).Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return "", errors.New(strings.TrimSpace(string(ended.Stderr)))
	}
	return string(output), err
}

// startRealNode starts the parts of the node that need the API server. It is back when the node takes pods.
func (p *plane) startRealNode(ctx context.Context) error {
	// Its kubeconfig is an administrator's, so it needs no certificate of its own.
	err := p.family.component("kubelet", "--config="+nodePath(p.home, "kubelet.yaml"),
		"--kubeconfig="+p.kubeconfig("node"), "--hostname-override="+realNode, "--node-ip="+podGateway)
	if err != nil {
		return err
	}
	if err := p.family.component("kube-proxy", "--config="+nodePath(p.home, "kube-proxy.yaml")); err != nil {
		return err
	}
	if err := p.startProvisioner(ctx); err != nil {
		return err
	}
	return p.waitForNode(ctx, "kubelet", realNode)
}
