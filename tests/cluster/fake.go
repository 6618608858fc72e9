// The fake node: kwok, which says of each pod what its annotations ask for, and nothing runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	admission "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	fakeNode = "fake"
	// podRange is where pods get their addresses. All of it is this machine: a server that listens at all addresses is
	// every pod.
	podRange = "127.8.0.0/15"
	// fakeNodeControllers are all but those that list the pods of a Service. The API server refuses such addresses there,
	// and they would never cease to try: a third of all calls.
	fakeNodeControllers = "*,-endpoints-controller,-endpointslice-controller"
)

// logsOfPods makes one file, which tests may write to, the log of every container of the fake node. Its lines are as a
// container runtime writes them: "2026-01-31T00:00:00.0Z stdout F text".
const logsOfPods = `
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterLogs
metadata: {name: all}
spec: {logs: [{logsFile: %[1]q, previousLogsFile: %[1]q}]}
`

// startFakeNode starts kwok and makes its node. It is back when the node takes pods.
func (p *plane) startFakeNode(ctx context.Context) error {
	stages, err := stageFile()
	if err != nil {
		return err
	}
	files := map[string]string{
		"stages.yaml": stages + fmt.Sprintf(logsOfPods, p.path("pods.log")),
		"pods.log":    fmt.Sprintf("%s stdout F The log of a fake pod.\n", time.Now().UTC().Format(time.RFC3339Nano)),
	}
	for name, text := range files {
		if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	port, err := freePort("127.0.0.1")
	if err != nil {
		return err
	}
	err = p.family.component("kwok", "--kubeconfig="+p.kubeconfig("kwok"), "--config="+p.path("stages.yaml"),
		"--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--cidr="+podRange, "--node-ip=127.0.0.1",
		// Where the API server asks for logs.
		"--node-port="+strconv.Itoa(port), "--server-address=127.0.0.1:"+strconv.Itoa(port),
		"--tls-cert-file="+p.keys.Certificate, "--tls-private-key-file="+p.keys.Key)
	if err != nil {
		return err
	}
	client, err := p.client()
	if err != nil {
		return err
	}
	node := &core.Node{ObjectMeta: meta.ObjectMeta{
		Name:        fakeNode,
		Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		Labels:      map[string]string{"kubernetes.io/hostname": fakeNode, "kubernetes.io/os": "linux"},
	}}
	if _, err := client.CoreV1().Nodes().Create(ctx, node, meta.CreateOptions{}); err != nil {
		return fmt.Errorf("cannot make the node: %w", err)
	}
	if err := p.forbidLateDeletes(ctx); err != nil {
		return fmt.Errorf("cannot keep kwok from pods that are not being deleted: %w", err)
	}
	return p.waitForNode(ctx, "kwok", fakeNode)
}

// forbidLateDeletes lets kwok remove pods that are being deleted, and no others. It deletes by name, once for each change
// of a pod that ends: a pod that is made under the same name meanwhile would be gone as well. A kubelet names the uid.
func (p *plane) forbidLateDeletes(ctx context.Context) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	name := meta.ObjectMeta{Name: "kwok-removes-what-is-being-deleted"}
	rule := admission.NamedRuleWithOperations{RuleWithOperations: admission.RuleWithOperations{
		Operations: []admission.OperationType{admission.Delete},
		Rule:       admission.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
	}}
	policy := &admission.ValidatingAdmissionPolicy{ObjectMeta: name, Spec: admission.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admission.MatchResources{ResourceRules: []admission.NamedRuleWithOperations{rule}},
		MatchConditions: []admission.MatchCondition{{
			Name: "kwok", Expression: `request.userInfo.username == "kwok"`,
		}},
		Validations: []admission.Validation{{
			Expression: "has(oldObject.metadata.deletionTimestamp)", Message: "the pod is not being deleted",
		}},
	}}
	policies := client.AdmissionregistrationV1()
	if _, err := policies.ValidatingAdmissionPolicies().Create(ctx, policy, meta.CreateOptions{}); err != nil {
		return err
	}
	binding := &admission.ValidatingAdmissionPolicyBinding{
		ObjectMeta: name,
		Spec: admission.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name.Name, ValidationActions: []admission.ValidationAction{admission.Deny},
		},
	}
	_, err = policies.ValidatingAdmissionPolicyBindings().Create(ctx, binding, meta.CreateOptions{})
	return err
}

// waitForNode waits until a node takes pods. The component is what makes it ready.
func (p *plane) waitForNode(ctx context.Context, component, name string) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	return p.wait(ctx, component, func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, name, meta.GetOptions{})
		if err != nil {
			return err
		}
		// The controllers take these away when the node says that it is ready.
		if len(node.Spec.Taints) > 0 {
			return fmt.Errorf("the node still has the taint %s", node.Spec.Taints[0].Key)
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == core.NodeReady && condition.Status == core.ConditionTrue {
				return nil
			}
		}
		return errors.New("the node is not ready")
	})
}

// finish makes what a namespace of its own would expect of a cluster, and waits for what the controllers make. The
// provisioner makes the volumes of the storage class.
func (p *plane) finish(ctx context.Context, provisioner string) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	class := &storage.StorageClass{
		ObjectMeta: meta.ObjectMeta{
			Name:        "standard",
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner: provisioner,
	}
	if _, err := client.StorageV1().StorageClasses().Create(ctx, class, meta.CreateOptions{}); err != nil {
		return fmt.Errorf("cannot make the storage class: %w", err)
	}
	return p.wait(ctx, "kube-controller-manager", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", meta.GetOptions{})
		return err
	})
}

// hostPathProvisioner is part of the controllers. It makes folders below /tmp/hostpath_pv, wherever the cluster is.
const hostPathProvisioner = "kubernetes.io/host-path"

// removeVolumes removes the folders of the volumes that are still there.
func (p *plane) removeVolumes(ctx context.Context) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	volumes, err := client.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for _, volume := range volumes.Items {
		if source := volume.Spec.HostPath; source != nil && volume.Spec.StorageClassName == "standard" {
			if err := os.RemoveAll(source.Path); err != nil {
				return err
			}
		}
	}
	return nil
}
