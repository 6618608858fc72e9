// A control plane: etcd, the API server, the controllers and the scheduler, with everything they need in one folder.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The addresses of Services. The first is the API server's own, the Service `kubernetes`.
const (
	serviceRange   = "10.96.0.0/12"
	serviceAddress = "10.96.0.1"
)

// How long the start of a component may take on a busy machine.
const patience = 60 * time.Second

// The users of the token file. All are administrators: the names tell them apart in the audit log.
var users = []string{"admin", "kube-controller-manager", "kube-scheduler", "kwok", "node"}

// plane is a control plane that is starting or running.
type plane struct {
	home    string // Everything is below this folder.
	address string // Where the API server listens.
	port    int
	keys    keys
	tokens  map[string]string // By user.
	family  *children

	etcdPort  int
	apiserver []string // Its arguments, to start it again.
}

// newPlane prepares a folder for a control plane whose API server listens at the address.
func newPlane(home, address string) (*plane, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return nil, err
	}
	p := &plane{home: home, address: address, tokens: map[string]string{}}
	if _, err := os.Stat(p.path("etcd")); err == nil {
		return nil, fmt.Errorf("%s already holds a cluster; give a new folder", home)
	}
	for _, folder := range []string{"", "etcd", "logs", "keys"} {
		if err := os.MkdirAll(p.path(folder), 0o700); err != nil {
			return nil, err
		}
	}
	if p.port, err = freePort(address); err != nil {
		return nil, err
	}
	if p.etcdPort, err = freePort("127.0.0.1"); err != nil {
		return nil, err
	}
	addresses := []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(address), net.ParseIP(serviceAddress)}
	if p.keys, err = makeKeys(p.path("keys"), addresses); err != nil {
		return nil, err
	}
	p.family = newChildren(p.path("logs"))
	return p, p.writeFiles()
}

// path is a path below the home folder.
func (p *plane) path(parts ...string) string {
	return filepath.Join(append([]string{p.home}, parts...)...)
}

// server is the URL of the API server.
func (p *plane) server() string {
	return "https://" + net.JoinHostPort(p.address, strconv.Itoa(p.port))
}

// kubeconfig is the path of a user's file.
func (p *plane) kubeconfig(user string) string {
	return p.path(user + ".kubeconfig")
}

// auditPolicy logs who did what to which object, once for each answer and for the start of each watch.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// writeFiles writes the tokens and what reads them.
func (p *plane) writeFiles() error {
	tokens := ""
	for _, user := range users {
		p.tokens[user] = newToken()
		tokens += fmt.Sprintf("%s,%s,%s,system:masters\n", p.tokens[user], user, user)
		if err := writeKubeconfig(p.kubeconfig(user), p.server(), p.keys.CA, user, p.tokens[user]); err != nil {
			return err
		}
	}
	files := map[string]string{
		"tokens.csv":        tokens,
		"audit-policy.yaml": auditPolicy,
		"scheduler.yaml":    fmt.Sprintf(schedulerConfiguration, p.kubeconfig("kube-scheduler")),
	}
	for name, text := range files {
		if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig writes a file that stands alone. A plain-HTTP server has no CA.
func writeKubeconfig(path, server, ca, user, token string) error {
	cluster := &clientcmdapi.Cluster{Server: server}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		cluster.CertificateAuthorityData = text
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["cluster"] = cluster
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["cluster"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: user}
	config.CurrentContext = "cluster"
	return clientcmd.WriteToFile(*config, path)
}

// config is how this program itself reaches the API server.
func (p *plane) config() *rest.Config {
	return &rest.Config{
		Host:            p.server(),
		BearerToken:     p.tokens["admin"],
		TLSClientConfig: rest.TLSClientConfig{CAFile: p.keys.CA},
		QPS:             -1,
		UserAgent:       "cluster",
	}
}

func (p *plane) client() (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfig(p.config())
}

// start starts the control plane with these controllers. It is back when the API server is ready; the others are starting
// then.
func (p *plane) start(ctx context.Context, controllers string) error {
	client := "http://127.0.0.1:" + strconv.Itoa(p.etcdPort)
	// With one member nobody connects to the peers' port, but etcd wants one: the kernel chooses it.
	err := p.family.component("etcd", "--name=cluster", "--data-dir="+p.path("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls=http://127.0.0.1:0", "--log-level=warn")
	if err != nil {
		return err
	}
	p.apiserver = []string{
		"--etcd-servers=" + client,
		"--secure-port=" + strconv.Itoa(p.port),
		"--bind-address=" + p.address,
		"--advertise-address=" + p.address,
		"--endpoint-reconciler-type=lease",
		"--tls-cert-file=" + p.keys.Certificate,
		"--tls-private-key-file=" + p.keys.Key,
		"--client-ca-file=" + p.keys.CA,
		"--service-account-key-file=" + p.keys.ServiceAccount,
		"--service-account-signing-key-file=" + p.keys.ServiceAccount,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--authorization-mode=Node,RBAC",
		"--token-auth-file=" + p.path("tokens.csv"),
		"--service-cluster-ip-range=" + serviceRange,
		"--allow-privileged",
		"--kubelet-preferred-address-types=InternalIP",
		"--audit-policy-file=" + p.path("audit-policy.yaml"),
		"--audit-log-path=" + p.path("audit.log"),
		// In megabytes: a log that is rotated would look as if it began anew.
		"--audit-log-maxsize=1000000",
	}
	if err := p.startAPIServer(ctx); err != nil {
		return err
	}
	// No ports: nobody asks these two for their health or metrics.
	err = p.family.component("kube-controller-manager", "--kubeconfig="+p.kubeconfig("kube-controller-manager"),
		"--controllers="+controllers, "--leader-elect=false", "--secure-port=0", "--root-ca-file="+p.keys.CA,
		"--service-account-private-key-file="+p.keys.ServiceAccount, "--enable-hostpath-provisioner=true",
		"--kube-api-qps=200", "--kube-api-burst=400",
		// A node that says nothing for a while has a busy machine, and is not lost.
		"--node-monitor-grace-period=1h")
	if err != nil {
		return err
	}
	return p.family.component("kube-scheduler", "--config="+p.path("scheduler.yaml"), "--secure-port=0")
}

// startAPIServer starts the API server and waits until it is ready.
func (p *plane) startAPIServer(ctx context.Context) error {
	if err := p.family.component("kube-apiserver", p.apiserver...); err != nil {
		return err
	}
	client, err := p.client()
	if err != nil {
		return err
	}
	return p.wait(ctx, "kube-apiserver", func(ctx context.Context) error {
		return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// stopAPIServer kills the API server: what it was writing is cut off.
func (p *plane) stopAPIServer() {
	p.family.stop("kube-apiserver")
}

// wait asks until the answer is no error. The component is the one to blame if that takes too long; if any child ends,
// waiting is over.
func (p *plane) wait(ctx context.Context, component string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	for {
		once, done := context.WithTimeout(ctx, 5*time.Second)
		err := ask(once)
		done()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-p.family.died:
			return p.family.death()
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("%s is not ready after %s: %w; its log: %s", component, patience, last,
				p.family.log(component))
		case <-time.After(25 * time.Millisecond):
		}
	}
}
