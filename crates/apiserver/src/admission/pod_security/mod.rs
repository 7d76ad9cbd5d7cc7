//! PodSecurity: what a namespace's labels allow its pods to do to their node
//! (KEP-2579, staging/src/k8s.io/pod-security-admission/admission).

mod checks;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{Namespace, Pod, PodSpec};
use api::{FieldErrors, Path, StatusError};
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin, forbid, templates};
use crate::Objects;

pub use checks::violations;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

const PREFIX: &str = "pod-security.kubernetes.io/";

/// `restricted:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Policy {
    level: Level,
    version: String,
}

impl Policy {
    fn show(&self) -> String {
        format!("{:?}", format!("{}:{}", self.level.as_str(), self.version))
    }
}

fn is_version(text: &str) -> bool {
    let numbers = text.strip_prefix("v1.").is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()));
    text == "latest" || numbers
}

/// The policy of a mode (`enforce`, `audit`, `warn`) of a namespace's labels. A label that cannot be read counts as the strictest level,
/// as upstream has it; validation does not let one in.
fn policy(labels: &BTreeMap<String, String>, mode: &str) -> Policy {
    let level = labels.get(&format!("{PREFIX}{mode}")).map_or(Level::Privileged, |text| Level::parse(text).unwrap_or(Level::Restricted));
    let version = labels.get(&format!("{PREFIX}{mode}-version")).filter(|v| is_version(v)).cloned();
    Policy { level, version: version.unwrap_or_else(|| "latest".into()) }
}

fn validate_labels(labels: &BTreeMap<String, String>) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let path = Path::new("metadata").child("labels");
    for mode in ["enforce", "audit", "warn"] {
        let (level, version) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
        if let Some(text) = labels.get(&level).filter(|text| Level::parse(text).is_none()) {
            errors.invalid(&path.key(&level), text, "must be one of privileged, baseline, restricted");
        }
        if let Some(text) = labels.get(&version).filter(|text| !is_version(text)) {
            errors.invalid(&path.key(&version), text, "must be \"latest\" or \"v1.x\"");
        }
    }
    errors
}

pub struct PodSecurity {
    objects: Objects,
}

impl PodSecurity {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    fn labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let namespace: Option<Arc<Namespace>> = self.objects.get(None, namespace);
        namespace.and_then(|n| n.metadata.labels.clone()).unwrap_or_default()
    }

    fn pod(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let Some(pod) = request.get::<Pod>() else { return Ok(()) };
        let Some(spec) = &pod.spec else { return Ok(()) };
        // Only a change of what matters is judged again.
        if request.operation == Operation::Update && request.old::<Pod>().is_some_and(|old| !matters(old, pod)) {
            return Ok(());
        }
        let labels = self.labels(request.namespace);
        if labels.is_empty() {
            return Ok(());
        }
        let enforce = policy(&labels, "enforce");
        let found = violations(enforce.level, spec);
        if !found.is_empty() {
            return Err(forbid(request, format!("violates PodSecurity {}: {}", enforce.show(), found.join(", "))));
        }
        let warning = warning(&policy(&labels, "warn"), spec);
        request.warnings.extend(warning);
        Ok(())
    }

    /// Tightening a namespace tells which of its pods would not be let in now.
    fn namespace(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let Some(namespace) = request.get::<Namespace>() else { return Ok(()) };
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        let errors = validate_labels(&labels);
        if !errors.is_empty() {
            return Err(StatusError::invalid("", "Namespace", request.name, &errors));
        }
        let before = request.old::<Namespace>().and_then(|n| n.metadata.labels.clone()).unwrap_or_default();
        let (now, then) = (policy(&labels, "enforce"), policy(&before, "enforce"));
        if request.operation != Operation::Update || now.level <= then.level {
            return Ok(());
        }
        let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for pod in self.objects.list::<Pod>(Some(request.name)) {
            let list = pod.spec.as_ref().map(|spec| violations(now.level, spec)).unwrap_or_default();
            if !list.is_empty() {
                let short = list.iter().map(|v| v.split(" (").next().unwrap_or(v)).collect::<Vec<_>>().join(", ");
                let entry = found.entry(short).or_insert_with(|| (pod.metadata.name.clone().unwrap_or_default(), 0));
                entry.1 += 1;
            }
        }
        if !found.is_empty() {
            let name = request.name;
            request.warnings.push(format!("existing pods in namespace {name:?} violate the new PodSecurity enforce level {}", now.show()));
            request.warnings.extend(found.into_iter().map(|(what, (pod, count))| match count {
                1 => format!("{pod}: {what}"),
                2 => format!("{pod} (and 1 other pod): {what}"),
                _ => format!("{pod} (and {} other pods): {what}", count - 1),
            }));
        }
        Ok(())
    }
}

fn warning(policy: &Policy, spec: &PodSpec) -> Option<String> {
    let found = violations(policy.level, spec);
    (!found.is_empty()).then(|| format!("would violate PodSecurity {}: {}", policy.show(), found.join(", ")))
}

/// Whether an update may change the verdict: images, tolerations and deadlines do not.
fn matters(old: &Pod, new: &Pod) -> bool {
    let stripped = |pod: &Pod| {
        let mut spec = pod.spec.clone().unwrap_or_default();
        spec.tolerations = None;
        spec.active_deadline_seconds = None;
        spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(|c| c.image = None);
        spec.ephemeral_containers.iter_mut().flatten().for_each(|c| c.image = None);
        spec
    };
    stripped(old) != stripped(new)
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        match (request.info.group, request.info.resource, request.subresource) {
            ("", "pods", "" | "ephemeralcontainers" | "resize") => self.pod(request),
            ("", "namespaces", "") => self.namespace(request),
            (_, _, "") => {
                let Some((_, spec)) = request.object.as_deref().and_then(templates::pod_spec) else { return Ok(()) };
                let labels = self.labels(request.namespace);
                let warning = if labels.is_empty() { None } else { warning(&policy(&labels, "warn"), spec) };
                request.warnings.extend(warning);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
