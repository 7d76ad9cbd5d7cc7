//! Rules on the spec of a pod, in a Pod or in a template (pkg/apis/core/validation: ValidatePodSpec).

use api::core::v1::{HostAlias, PodDNSConfig, PodSpec};
use api::{FieldErrors, Path, names};

use super::{
    containers, each, each_int, metadata, one_of, one_of_present, optional_text, required_text, resources, scheduling, security, volumes,
};

pub const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

/// Everything that is wrong with a spec. `path` is where the spec stands.
pub fn pod_spec(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    volumes::volumes(errors, &path.child("volumes"), spec.volumes.as_deref().unwrap_or_default());
    containers::containers(errors, path, spec);
    one_of(errors, &path.child("restartPolicy"), spec.restart_policy.as_deref(), RESTART_POLICIES);
    one_of(errors, &path.child("dnsPolicy"), spec.dns_policy.as_deref(), DNS_POLICIES);
    metadata::labels(spec.node_selector.as_ref(), &path.child("nodeSelector"), errors);
    host_sharing(errors, &path.child("securityContext"), spec);
    security::pod(errors, &path.child("securityContext"), spec.security_context.as_ref());
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            errors.required(&path.child("imagePullSecrets").index(index).child("name"), "");
        }
    }
    placement(errors, path, spec);
    dns(errors, &path.child("dnsConfig"), spec.dns_policy.as_deref(), spec.dns_config.as_ref());
    names_and_numbers(errors, path, spec);
    host_aliases(errors, &path.child("hostAliases"), spec.host_aliases.as_deref().unwrap_or_default());
    one_of_present(errors, &path.child("preemptionPolicy"), spec.preemption_policy.as_deref(), &["Never", "PreemptLowerPriority"]);
    if let Some(os) = &spec.os {
        one_of(errors, &path.child("os").child("name"), Some(&os.name), &["linux", "windows"]);
    }
    for (name, quantity) in spec.overhead.iter().flatten() {
        let path = path.child("overhead").key(name);
        resources::resource_name(errors, &path, name);
        resources::amount(errors, &path, quantity);
    }
    resources::requirements(errors, &path.child("resources"), spec.resources.as_ref(), &[]);
}

fn host_sharing(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errors.invalid(&path.child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    if spec.host_users == Some(false) {
        let shared = [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
        for (name, value) in shared {
            if value == Some(true) {
                errors.forbidden(&path.child(name), "when `hostUsers` is false");
            }
        }
    }
}

fn placement(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    scheduling::affinity(errors, &path.child("affinity"), spec.affinity.as_ref());
    let gates = spec.readiness_gates.iter().flatten().map(|gate| gate.condition_type.as_str());
    for (index, name) in gates.enumerate() {
        each(errors, &path.child("readinessGates").index(index).child("conditionType"), name, names::qualified_name(name));
    }
    let spread = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    scheduling::topology_spread(errors, &path.child("topologySpreadConstraints"), spread);
    let gates = spec.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str());
    scheduling::gate_names(errors, &path.child("schedulingGates"), "name", gates);
    scheduling::tolerations(errors, &path.child("tolerations"), spec.tolerations.as_deref().unwrap_or_default());
}

fn names_and_numbers(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    optional_text(errors, &path.child("serviceAccountName"), spec.service_account_name.as_deref(), names::dns_subdomain);
    optional_text(errors, &path.child("nodeName"), spec.node_name.as_deref(), names::dns_subdomain);
    optional_text(errors, &path.child("hostname"), spec.hostname.as_deref(), names::dns_label);
    optional_text(errors, &path.child("subdomain"), spec.subdomain.as_deref(), names::dns_label);
    optional_text(errors, &path.child("hostnameOverride"), spec.hostname_override.as_deref(), names::dns_subdomain);
    optional_text(errors, &path.child("priorityClassName"), spec.priority_class_name.as_deref(), names::dns_subdomain);
    optional_text(errors, &path.child("runtimeClassName"), spec.runtime_class_name.as_deref(), names::dns_subdomain);
    required_text(errors, &path.child("schedulerName"), spec.scheduler_name.as_deref().unwrap_or_default(), |_| Vec::new());
    if let Some(seconds) = spec.active_deadline_seconds {
        let problems = names::in_range(seconds, 1, i64::from(i32::MAX));
        each_int(errors, &path.child("activeDeadlineSeconds"), seconds, problems);
    }
    super::not_negative_opt(errors, &path.child("terminationGracePeriodSeconds"), spec.termination_grace_period_seconds);
}

fn dns(errors: &mut FieldErrors, path: &Path, policy: Option<&str>, config: Option<&PodDNSConfig>) {
    let servers = config.and_then(|config| config.nameservers.as_deref()).unwrap_or_default();
    if policy == Some("None") {
        if config.is_none() {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(&path.child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None");
            return;
        }
    }
    let Some(config) = config else { return };
    if servers.len() > 3 {
        errors.invalid(&path.child("nameservers"), &super::shown(&servers), "must not have more than 3 nameservers");
    }
    for (index, server) in servers.iter().enumerate() {
        each(errors, &path.child("nameservers").index(index), server, names::ip(server));
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > 32 {
        errors.invalid(&path.child("searches"), &super::shown(&searches), "must not have more than 32 search paths");
    }
    if searches.join(" ").chars().count() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&path.child("searches"), &super::shown(&searches), detail);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let plain = search.strip_suffix('.').unwrap_or(search);
        // Underscores are allowed here alone.
        each(errors, &path.child("searches").index(index), search, names::dns_subdomain(&plain.replace('_', "x")));
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn host_aliases(errors: &mut FieldErrors, path: &Path, aliases: &[HostAlias]) {
    for (index, alias) in aliases.iter().enumerate() {
        each(errors, &path.index(index).child("ip"), &alias.ip, names::ip(&alias.ip));
        for (position, name) in alias.hostnames.iter().flatten().enumerate() {
            each(errors, &path.index(index).child("hostnames").index(position), name, names::dns_subdomain(name));
        }
    }
}
