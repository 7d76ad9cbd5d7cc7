//! NetworkPolicy.

use api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use api::{FieldErrors, Path};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::defaults::set_text;
use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{AGE, NAME, age, column, name, selector};
use crate::rows::hooks::all_is_spec;
use crate::validation::{self, one_of_present, selectors, shown};

impl Kind for NetworkPolicy {
    const INFO: KindInfo = KindInfo {
        singular: "networkpolicy",
        short_names: &["netpol"],
        schema: "io.k8s.api.networking.v1.NetworkPolicy",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        let egress = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        for port in ingress.chain(egress) {
            set_text(&mut port.protocol, "TCP");
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let types = if egress { vec!["Ingress", "Egress"] } else { vec!["Ingress"] };
            spec.policy_types = Some(types.into_iter().map(str::to_owned).collect());
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let none = NetworkPolicySpec::default();
        let (path, spec) = (Path::new("spec"), self.spec.as_ref().unwrap_or(&none));
        selectors::label_selector(errors, &path.child("podSelector"), spec.pod_selector.as_ref());
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = path.child("ingress").index(index);
            ports(errors, &path.child("ports"), rule.ports.as_deref().unwrap_or_default());
            peers(errors, &path.child("from"), rule.from.as_deref().unwrap_or_default());
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let path = path.child("egress").index(index);
            ports(errors, &path.child("ports"), rule.ports.as_deref().unwrap_or_default());
            peers(errors, &path.child("to"), rule.to.as_deref().unwrap_or_default());
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.len() > 2 {
            errors.invalid(&path.child("policyTypes"), &shown(&types), "may not specify more than two policyTypes");
            return;
        }
        for (index, type_) in types.iter().enumerate() {
            one_of_present(errors, &path.child("policyTypes").index(index), Some(type_), &["Egress", "Ingress"]);
        }
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Pod-Selector", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let pods = self.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
        vec![name(&self.metadata), json!(selector(pods)), age(&self.metadata, now)]
    }
}

fn ports(errors: &mut FieldErrors, path: &Path, ports: &[NetworkPolicyPort]) {
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        one_of_present(errors, &path.child("protocol"), port.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
        if let Some(number) = &port.port {
            validation::port(errors, &path.child("port"), number);
        }
        let Some(end) = port.end_port else { continue };
        match &port.port {
            Some(api::IntOrString::Int(start)) if *start > end => {
                errors.invalid(&path.child("endPort"), end, "must be greater than or equal to `port`");
            }
            Some(api::IntOrString::Int(_)) => {}
            Some(api::IntOrString::String(_)) => {
                errors.invalid(&path.child("endPort"), end, "may not be specified when `port` is non-numeric");
            }
            None => errors.invalid(&path.child("endPort"), end, "may not be specified when `port` is not specified"),
        }
    }
}

fn peers(errors: &mut FieldErrors, path: &Path, peers: &[NetworkPolicyPeer]) {
    for (index, peer) in peers.iter().enumerate() {
        let path = path.index(index);
        selectors::label_selector(errors, &path.child("podSelector"), peer.pod_selector.as_ref());
        selectors::label_selector(errors, &path.child("namespaceSelector"), peer.namespace_selector.as_ref());
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match &peer.ip_block {
            None if !selects => errors.required(&path, "must specify a peer"),
            None => {}
            Some(_) if selects => errors.forbidden(&path, "may not specify both ipBlock and another peer"),
            Some(block) => {
                let path = path.child("ipBlock");
                let Ok(cidr) = block.cidr.parse::<IpNet>() else {
                    cidr_error(errors, &path.child("cidr"), &block.cidr);
                    continue;
                };
                for (index, except) in block.except.iter().flatten().enumerate() {
                    let path = path.child("except").index(index);
                    match except.parse::<IpNet>() {
                        Err(_) => cidr_error(errors, &path, except),
                        Ok(inner) if !cidr.contains(&inner) || cidr == inner => {
                            let detail = format!("must be a strict subset of `cidr`: {:?}", block.cidr);
                            errors.invalid(&path, except, &detail);
                        }
                        Ok(_) => {}
                    }
                }
            }
        }
    }
}

fn cidr_error(errors: &mut FieldErrors, path: &Path, text: &str) {
    if text.is_empty() {
        errors.required(path, "");
    } else {
        errors.invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}
