//! Tracked UDP connections that lead to endpoints which are gone: UDP has no end that would remove them, so clients that keep
//! sending would never reach another endpoint. Pure. Source: pkg/proxy/conntrack/cleanup.go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use host::Flows;

use crate::compile::usable;
use crate::model::{PortKey, Protocol, ServicePort, Snapshot};
use crate::ruleset::Family;

/// Where a service is reached: its address, or any address of the node, and the port.
type Frontend = (Option<IpAddr>, u16);

/// A UDP service's frontends and endpoints of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    frontends: BTreeSet<Frontend>,
    endpoints: BTreeSet<IpAddr>,
}

pub type States = BTreeMap<(PortKey, Family), State>;

/// What a snapshot makes of UDP services.
pub fn states(snapshot: &Snapshot) -> States {
    let udp = snapshot.services.iter().filter(|s| s.key.protocol == Protocol::Udp);
    let of = |s: &ServicePort, family: Family| {
        let endpoints = snapshot.endpoints_of(&s.key).iter().filter(move |e| family.holds(&e.ip));
        let usable = usable(s, endpoints, &snapshot.node);
        let ips = s.cluster_ips.iter().chain(&s.external_ips).chain(&s.load_balancer_ips).filter(|ip| family.holds(ip));
        let mut frontends: BTreeSet<Frontend> = ips.map(|ip| (Some(*ip), s.port)).collect();
        frontends.extend((s.node_port != 0).then_some((None, s.node_port)));
        State { frontends, endpoints: usable.cluster.iter().chain(&usable.local).map(|e| e.ip).collect() }
    };
    udp.flat_map(|s| [Family::Ip, Family::Ip6].map(|f| ((s.key.clone(), f), of(s, f)))).collect()
}

/// The connections to forget when `old` becomes `new`. Without an `old` nothing is known of what went before.
pub fn stale(old: Option<&States>, new: &States) -> Vec<Flows> {
    let mut flows = BTreeSet::new();
    let forget = |family: Family, (ip, port): Frontend, endpoint: Option<IpAddr>| Flows {
        protocol: "udp",
        ipv6: family == Family::Ip6,
        original_dst: ip,
        original_port: Some(port),
        reply_src: endpoint,
    };
    let empty = State::default();
    for ((key, family), state) in new {
        let before = match old {
            Some(old) => old.get(&(key.clone(), *family)).unwrap_or(&empty),
            None => &empty,
        };
        let gone = before.endpoints.difference(&state.endpoints);
        for endpoint in gone {
            flows.extend(state.frontends.iter().map(|f| forget(*family, *f, Some(*endpoint))));
        }
        // What was sent while there was no endpoint went nowhere and would do so on.
        if before.endpoints.is_empty() && !state.endpoints.is_empty() {
            flows.extend(state.frontends.iter().map(|f| forget(*family, *f, None)));
        }
    }
    for ((_, family), state) in old.into_iter().flatten().filter(|(key, _)| !new.contains_key(*key)) {
        flows.extend(state.frontends.iter().map(|f| forget(*family, *f, None)));
    }
    flows.into_iter().collect()
}
