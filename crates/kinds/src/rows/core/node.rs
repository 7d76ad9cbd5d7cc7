//! Node.

use std::collections::BTreeSet;

use api::core::v1::{Node, NodeSpec, NodeStatus};
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::defaults::resource_list;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource};
use crate::printing::{AGE, NAME, UNKNOWN, age, column, name, or_none, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{each, required_text, scheduling};

impl Kind for Node {
    const INFO: KindInfo = KindInfo {
        singular: "node",
        short_names: &["no"],
        scope: Scope::Cluster,
        subresources: &[
            Subresource {
                name: "proxy",
                kind: Some(("", "v1", "NodeProxyOptions")),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::STATUS,
        ],
        storage_prefix: "minions",
        schema: "io.k8s.api.core.v1.Node",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.pod_cidrs.is_none() {
            spec.pod_cidrs = spec.pod_cidr.clone().filter(|cidr| !cidr.is_empty()).map(|cidr| vec![cidr]);
        }
        if spec.pod_cidr.as_deref().unwrap_or_default().is_empty() {
            spec.pod_cidr = spec.pod_cidrs.as_ref().and_then(|cidrs| cidrs.first().cloned());
        }
        let status = self.status.get_or_insert_default();
        resource_list(&mut status.capacity);
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
        resource_list(&mut status.allocatable);
        status.daemon_endpoints.get_or_insert_default().kubelet_endpoint.get_or_insert_default();
        status.node_info.get_or_insert_default();
    }

    // A kubelet sends its status with the creation: it stays.

    spec_and_status!(updates);

    fn validate(&self, errors: &mut FieldErrors) {
        let default = NodeSpec::default();
        spec_rules(errors, &Path::new("spec"), self.spec.as_ref().unwrap_or(&default));
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else { return };
        let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if set(&old.pod_cidr) && new.pod_cidrs != old.pod_cidrs {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&Path::new("spec").child("podCIDRs"), detail);
        }
        if set(&old.provider_id) && new.provider_id != old.provider_id {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(&Path::new("spec").child("providerID"), detail);
        }
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let unschedulable = self.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        vec![("spec.unschedulable", unschedulable.to_string())]
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Status", "string"),
                column("Roles", "string"),
                AGE,
                column("Version", "string"),
                wide("Internal-IP", "string"),
                wide("External-IP", "string"),
                wide("OS-Image", "string"),
                wide("Kernel-Version", "string"),
                wide("Container-Runtime", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let none = NodeStatus::default();
        let status = self.status.as_ref().unwrap_or(&none);
        let info = status.node_info.clone().unwrap_or_default();
        let or_unknown = |text: String| if text.is_empty() { UNKNOWN.to_owned() } else { text };
        vec![
            name(&self.metadata),
            json!(state(self)),
            json!(roles(self)),
            age(&self.metadata, now),
            json!(info.kubelet_version),
            json!(or_none(address(status, "InternalIP"))),
            json!(or_none(address(status, "ExternalIP"))),
            json!(or_unknown(info.os_image)),
            json!(or_unknown(info.kernel_version)),
            json!(or_unknown(info.container_runtime_version)),
        ]
    }
}

fn spec_rules(errors: &mut FieldErrors, path: &Path, spec: &NodeSpec) {
    let mut seen = BTreeSet::new();
    for (index, taint) in spec.taints.iter().flatten().enumerate() {
        let path = path.child("taints").index(index);
        required_text(errors, &path.child("key"), &taint.key, names::qualified_name);
        let value = taint.value.as_deref().unwrap_or_default();
        each(errors, &path.child("value"), value, names::label_value(value));
        scheduling::taint_effect(errors, &path.child("effect"), &taint.effect, false);
        if !seen.insert((taint.key.as_str(), taint.effect.as_str())) {
            errors.duplicate(&path, &crate::validation::shown(taint));
        }
    }
    for (index, cidr) in spec.pod_cidrs.iter().flatten().enumerate() {
        if cidr.parse::<ipnet::IpNet>().is_err() {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.invalid(&path.child("podCIDRs").index(index), cidr, detail);
        }
    }
}

fn state(node: &Node) -> String {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if cordoned { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => Some(value.as_str()),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    or_none(Some(&roles.into_iter().collect::<Vec<_>>().join(","))).to_owned()
}

fn address<'a>(status: &'a NodeStatus, type_: &str) -> Option<&'a str> {
    status.addresses.iter().flatten().find(|address| address.type_ == type_).map(|address| address.address.as_str())
}
