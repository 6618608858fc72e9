// The network of a real node: a bridge that joins the pods. Everything happens inside the cluster's own network
// namespace, so the addresses can be the same in every cluster.
package main

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

const (
	podBridge  = "pods"
	podSubnet  = "10.244.0.0/16"
	podGateway = "10.244.0.1" // The bridge's own address: the node's, and the API server's.
)

// podNetwork is what the CNI plug-ins are told.
const podNetwork = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge",
    "bridge": "` + podBridge + `",
    "isDefaultGateway": true,
    "hairpinMode": true,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "` + podSubnet + `", "gateway": "` + podGateway + `"}]]}
  }]
}
`

// makeNetwork makes the bridge before there are pods, so that the API server can listen at its address.
func makeNetwork() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find the loopback interface: %w", err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: podBridge}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("cannot add a bridge: %w", err)
	}
	_, subnet, err := net.ParseCIDR(podSubnet)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(podGateway), Mask: subnet.Mask}}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("cannot give the bridge its address: %w", err)
	}
	for _, link := range []netlink.Link{loopback, bridge} {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("cannot bring %s up: %w", link.Attrs().Name, err)
		}
	}
	// kube-proxy changes where a packet to a Service goes, but the kernel asks for a route before.
	_, services, err := net.ParseCIDR(serviceRange)
	if err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: bridge.Index, Dst: services}); err != nil {
		return fmt.Errorf("cannot route to Services: %w", err)
	}
	return nil
}
