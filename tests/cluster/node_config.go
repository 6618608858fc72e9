// The settings of a real node's programs. Their own paths below /run and /var/lib are kept: there they have these
// folders for themselves.
package main

// containerdConfiguration takes the sandbox image and the folders of CNI's plug-ins and networks.
const containerdConfiguration = `version = 2
# This one makes a folder in /opt.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # A machine without CAP_SYS_RESOURCE cannot give a container a lower score than this process has.
  restrict_oom_score_adj = true
  # Profiles would stay loaded.
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
`

// kubeletConfiguration lets the node be a guest: the machine's control groups, swap and disk are not its to manage.
const kubeletConfiguration = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
cgroupsPerQOS: false
enforceNodeAllocatable: []
resolvConf: ""
# Nobody answers there, but without an address every pod gets a warning.
clusterDNS: ["` + podGateway + `"]
clusterDomain: cluster.local
# An image that is here may be used, also after a pod has tried in vain to pull it again.
imagePullCredentialsVerificationPolicy: NeverVerify
# How the API server comes to logs and exec.
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
# A full disk of the machine must neither evict pods nor remove images, which nobody could pull again.
evictionHard: {memory.available: 1Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
`

// proxyConfiguration takes the kubeconfig and the node's name.
const proxyConfiguration = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %q}
hostnameOverride: %q
mode: nftables
nftables:
  # Without it, what a pod on the same bridge answers would not come back through here.
  masqueradeAll: true
  minSyncPeriod: 50ms
# The machine's own limits stay.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`
