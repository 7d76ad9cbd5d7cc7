//! Pod: the row. Its table cells are in `print`, its rules on changes in `update`, its class of service in `qos`.

mod print;
pub mod qos;
mod update;

use api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};
use api::{FieldErrors, Path};
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::{defaults, validation};

impl Kind for Pod {
    const INFO: KindInfo = KindInfo {
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            Subresource { name: "attach", kind: Some(("", "v1", "PodAttachOptions")), verbs: &["create", "get"] },
            Subresource { name: "binding", kind: Some(("", "v1", "Binding")), verbs: &["create"] },
            Subresource { name: "ephemeralcontainers", kind: None, verbs: &["get", "patch", "update"] },
            Subresource { name: "eviction", kind: Some(("policy", "v1", "Eviction")), verbs: &["create"] },
            Subresource { name: "exec", kind: Some(("", "v1", "PodExecOptions")), verbs: &["create", "get"] },
            Subresource { name: "log", kind: None, verbs: &["get"] },
            Subresource { name: "portforward", kind: Some(("", "v1", "PodPortForwardOptions")), verbs: &["create", "get"] },
            Subresource {
                name: "proxy",
                kind: Some(("", "v1", "PodProxyOptions")),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource { name: "resize", kind: None, verbs: &["get", "patch", "update"] },
            Subresource::STATUS,
        ],
        schema: "io.k8s.api.core.v1.Pod",
        has_generation: true,
        graceful_delete: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        defaults::pod_spec::pod_spec(spec);
        defaults::pod_spec::pod(spec);
        self.status.get_or_insert_default();
    }

    fn prepare_create(&mut self) {
        let spec = self.spec.get_or_insert_default();
        fix_negative_grace(spec);
        let mut status = PodStatus { phase: Some("Pending".into()), qos_class: Some(qos::class(spec).into()), ..PodStatus::default() };
        if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
            status.conditions = Some(vec![PodCondition {
                type_: "PodScheduled".into(),
                status: "False".into(),
                reason: Some("SchedulingGated".into()),
                message: Some("Scheduling is blocked due to non-empty scheduling gates".into()),
                ..PodCondition::default()
            }]);
        }
        self.status = Some(status);
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status = old.status.clone();
        let spec = self.spec.get_or_insert_default();
        fix_negative_grace(spec);
        // Only their own subresource adds ephemeral containers.
        spec.ephemeral_containers = old.spec.as_ref().and_then(|spec| spec.ephemeral_containers.clone());
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec = old.spec.clone();
        self.metadata.owner_references = old.metadata.owner_references.clone();
        self.metadata.deletion_timestamp = old.metadata.deletion_timestamp.clone();
        let status = self.status.get_or_insert_default();
        let old = old.status.as_ref();
        if status.qos_class.as_deref().unwrap_or_default().is_empty() {
            status.qos_class = old.and_then(|old| old.qos_class.clone());
        }
    }

    fn prepare_part(&mut self, part: &str, old: &Self) {
        match part {
            "ephemeralcontainers" => update::prepare_ephemeral_containers(self, old),
            "resize" => update::prepare_resize(self, old),
            _ => {}
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let default = PodSpec::default();
        validation::pod_spec::pod_spec(errors, &Path::new("spec"), self.spec.as_ref().unwrap_or(&default));
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        update::validate(self, old, errors);
    }

    fn validate_status_update(&self, old: &Self, errors: &mut FieldErrors) {
        update::validate_status(self, old, errors);
    }

    fn validate_part(&self, part: &str, old: &Self, errors: &mut FieldErrors) {
        match part {
            "ephemeralcontainers" => update::validate_ephemeral_containers(self, old, errors),
            "resize" => update::validate_resize(self, old, errors),
            _ => {}
        }
    }

    fn spec_changed(&self, old: &Self) -> bool {
        self.spec != old.spec
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let text = |field: Option<&String>| field.cloned().unwrap_or_default();
        let (spec, status) = (self.spec.as_ref(), self.status.as_ref());
        let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
        vec![
            ("spec.nodeName", text(spec.and_then(|spec| spec.node_name.as_ref()))),
            ("spec.restartPolicy", text(spec.and_then(|spec| spec.restart_policy.as_ref()))),
            ("spec.schedulerName", text(spec.and_then(|spec| spec.scheduler_name.as_ref()))),
            ("spec.serviceAccountName", text(spec.and_then(|spec| spec.service_account_name.as_ref()))),
            ("spec.hostNetwork", host_network.to_string()),
            ("status.phase", text(status.and_then(|status| status.phase.as_ref()))),
            ("status.podIP", text(status.and_then(|status| status.pod_ip.as_ref()))),
            ("status.nominatedNodeName", text(status.and_then(|status| status.nominated_node_name.as_ref()))),
        ]
    }

    fn columns() -> &'static [Column] {
        print::COLUMNS
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        print::cells(self, now)
    }
}

/// Times below zero count as the shortest (pkg/registry/core/pod/strategy.go).
fn fix_negative_grace(spec: &mut PodSpec) {
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        spec.termination_grace_period_seconds = Some(1);
    }
}
