// The volumes of a real node: folders below /var/lib/volumes. The controllers' own host-path volumes belong to root,
// whatever a pod's fsGroup says; local volumes obey it, as the disks of a production cluster do.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
)

const (
	localProvisioner = "cluster.test/local"
	volumesFolder    = "/var/lib/volumes"
)

// provisioner makes a volume for each claim of the storage class, and removes it when the claim is gone.
type provisioner struct {
	client kubernetes.Interface
	errors *log.Logger
}

// startProvisioner starts watching the claims. What fails is in a log; a claim that is changed is tried again.
func (p *plane) startProvisioner(ctx context.Context) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(p.family.log("provisioner"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	// The client has its own words to say when the API server is away.
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(file, nil)))
	maker := &provisioner{client: client, errors: log.New(file, "", log.LstdFlags)}
	factory := informers.NewSharedInformerFactory(client, 0)
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	volumes := factory.Core().V1().PersistentVolumes().Informer()
	if err := follow(claims, func(claim *core.PersistentVolumeClaim) error { return maker.provide(ctx, claim) },
		maker.errors); err != nil {
		return err
	}
	if err := follow(volumes, func(volume *core.PersistentVolume) error { return maker.remove(ctx, volume) },
		maker.errors); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	return nil
}

// follow calls a function with each object that is new or has changed.
func follow[T any](informer cache.SharedIndexInformer, saw func(T) error, errors *log.Logger) error {
	see := func(object any) {
		if err := saw(object.(T)); err != nil {
			errors.Print(err)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    see,
		UpdateFunc: func(_, object any) { see(object) },
	})
	return err
}

// provide makes the volume of a claim that the controllers want one for.
func (m *provisioner) provide(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	if claim.Annotations[volume.AnnStorageProvisioner] != localProvisioner || claim.Spec.VolumeName != "" {
		return nil
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(volumesFolder, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	_, err := m.client.CoreV1().PersistentVolumes().Create(ctx, &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{volume.AnnDynamicallyProvisioned: localProvisioner},
		},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      claim.Spec.Resources.Requests,
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			StorageClassName:              *claim.Spec.StorageClassName,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{realNode},
				}}}},
			}},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
		},
	}, meta.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot make the volume of %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// remove removes a volume whose claim is gone, with all that is in it.
func (m *provisioner) remove(ctx context.Context, one *core.PersistentVolume) error {
	if one.Annotations[volume.AnnDynamicallyProvisioned] != localProvisioner ||
		one.Status.Phase != core.VolumeReleased || one.DeletionTimestamp != nil ||
		one.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		return nil
	}
	if err := os.RemoveAll(one.Spec.Local.Path); err != nil {
		return err
	}
	err := m.client.CoreV1().PersistentVolumes().Delete(ctx, one.Name, meta.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot remove the volume %s: %w", one.Name, err)
	}
	return nil
}
