//! Who this gateway is to a session's NetworkPolicy.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicyPeer},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::Config;

/// The label of the gateway's own pods, which its chart sets.
const GATEWAY: (&str, &str) = ("app.kubernetes.io/name", "session-gateway");
/// The label of every namespace with its name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// Inside the cluster the gateway's pods of this namespace; outside it the address from which this machine reaches
/// the API server. Empty if that cannot be found out.
pub(super) fn peers(config: &Config) -> Vec<NetworkPolicyPeer> {
    if config.auth_info.token_file.is_some() {
        let select = |key: &str, value: &str| {
            Some(LabelSelector {
                match_labels: Some([(key.to_owned(), value.to_owned())].into()),
                match_expressions: None,
            })
        };
        return vec![NetworkPolicyPeer {
            namespace_selector: select(NAMESPACE, &config.default_namespace),
            pod_selector: select(GATEWAY.0, GATEWAY.1),
            ip_block: None,
        }];
    }
    let block = |address: IpAddr| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }),
            except: None,
        }),
        ..NetworkPolicyPeer::default()
    };
    own_address(config).map(block).into_iter().collect()
}

/// The address that packets to the API server leave from. Nothing is sent.
fn own_address(config: &Config) -> Option<IpAddr> {
    let host = config.cluster_url.host()?.trim_matches(['[', ']']);
    let server = (host, config.cluster_url.port_u16().unwrap_or(443));
    let server = server.to_socket_addrs().ok()?.next()?;
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(server).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
