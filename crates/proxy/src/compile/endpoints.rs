//! Which endpoints a service's traffic may go to from this node.
//! Source: pkg/proxy/topology.go (CategorizeEndpoints).

use crate::model::{Endpoint, NodeView, ServicePort};

/// The endpoints of one family that are usable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Usable<'a> {
    /// For traffic that may leave the node.
    pub cluster: Vec<&'a Endpoint>,
    /// For traffic that must not.
    pub local: Vec<&'a Endpoint>,
    /// Some endpoint of the cluster is usable, perhaps not from here.
    pub any: bool,
}

pub fn usable<'a>(service: &ServicePort, endpoints: impl Iterator<Item = &'a Endpoint> + Clone, node: &NodeView) -> Usable<'a> {
    let external = service.node_port != 0 || !service.load_balancer_ips.is_empty() || !service.external_ips.is_empty();
    let uses_cluster = !service.internal_local || external;
    let uses_local = service.internal_local || (service.external_local && external);
    let fallback = |e: &&Endpoint| e.serving && e.terminating;
    let mut usable = Usable::default();
    if uses_cluster {
        let preferred = preference(endpoints.clone(), node);
        usable.cluster = endpoints.clone().filter(|e| e.ready && preferred.admits(e, node)).collect();
        if usable.cluster.is_empty() {
            usable.cluster = endpoints.clone().filter(fallback).collect();
        }
        usable.any = !usable.cluster.is_empty();
    }
    if uses_local {
        usable.local = endpoints.clone().filter(|e| e.local && e.ready).collect();
        if usable.local.is_empty() {
            usable.local = endpoints.clone().filter(|e| e.local).filter(fallback).collect();
        }
        usable.any |= endpoints.clone().any(|e| e.ready || fallback(&e));
    }
    usable
}

enum Preference {
    All,
    SameNode,
    SameZone,
}

impl Preference {
    fn admits(&self, endpoint: &Endpoint, node: &NodeView) -> bool {
        match self {
            Preference::All => true,
            Preference::SameNode => endpoint.node_hints.contains(&node.name),
            Preference::SameZone => endpoint.zone_hints.contains(&node.zone),
        }
    }
}

/// Hints count only if every ready endpoint has them and one is for us.
fn preference<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone, node: &NodeView) -> Preference {
    let ready = endpoints.filter(|e| e.ready);
    let all = |has: fn(&Endpoint) -> bool| ready.clone().all(has);
    if all(|e| !e.node_hints.is_empty()) && ready.clone().any(|e| e.node_hints.contains(&node.name)) {
        return Preference::SameNode;
    }
    if all(|e| !e.zone_hints.is_empty()) && ready.clone().any(|e| e.zone_hints.contains(&node.zone)) {
        return Preference::SameZone;
    }
    Preference::All
}
