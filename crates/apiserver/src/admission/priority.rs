//! Priority: a pod's priority is what its class says (plugin/pkg/admission/priority).

use std::sync::Arc;

use api::StatusError;
use api::core::v1::Pod;
use api::meta::v1::ObjectMeta;
use api::scheduling::v1::PriorityClass;
use async_trait::async_trait;
use kube::Api;
use kube::api::PostParams;

use super::{AdmissionError, AdmissionRequest, Operation, Plugin, forbid};
use crate::Objects;

const LOWER_PRIORITY: &str = "PreemptLowerPriority";

/// Classes that are always there: name, value, description (pkg/apis/scheduling/v1/helpers.go).
const SYSTEM: [(&str, i32, &str); 2] = [
    ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

pub struct Priority {
    objects: Objects,
}

fn default_class(classes: &[Arc<PriorityClass>]) -> Option<&Arc<PriorityClass>> {
    // Two can only be there by a race; the lower one counts.
    classes.iter().filter(|class| class.global_default == Some(true)).min_by_key(|class| class.value)
}

impl Priority {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    /// Class name, value, preemption policy.
    async fn resolve(&self, request: &AdmissionRequest<'_>, name: &str) -> Result<(String, i32, String), StatusError> {
        let class = if name.is_empty() {
            let classes = self.objects.list::<PriorityClass>(None);
            let Some(class) = default_class(&classes) else { return Ok((String::new(), 0, LOWER_PRIORITY.into())) };
            class.clone()
        } else {
            match self.objects.get::<PriorityClass>(None, name) {
                Some(class) => class,
                None => match self.objects.read::<PriorityClass>(None, name).await? {
                    Some(class) => Arc::new(class),
                    None => return Err(forbid(request, format!("no PriorityClass with name {name} was found"))),
                },
            }
        };
        let policy = class.preemption_policy.clone().unwrap_or_else(|| LOWER_PRIORITY.into());
        Ok((class.metadata.name.clone().unwrap_or_default(), class.value.unwrap_or_default(), policy))
    }

    async fn pod(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let Some(spec) = request.get::<Pod>().and_then(|pod| pod.spec.as_ref()) else { return Ok(()) };
        let name = spec.priority_class_name.clone().unwrap_or_default();
        let (given, policy_given) = (spec.priority, spec.preemption_policy.clone());
        let (class, value, policy) = self.resolve(request, &name).await?;
        if let Some(given) = given.filter(|given| *given != value) {
            return Err(forbid(
                request,
                format!(
                    "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
                ),
            ));
        }
        if let Some(given) = policy_given.filter(|given| *given != policy) {
            return Err(forbid(
                request,
                format!(
                    "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
                ),
            ));
        }
        let Some(spec) = request.get_mut::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
        spec.priority_class_name = Some(class).filter(|name| !name.is_empty());
        spec.priority = Some(value);
        spec.preemption_policy = Some(policy);
        Ok(())
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if !request.is("", "pods") {
            return Ok(());
        }
        match request.operation {
            Operation::Create => self.pod(request).await,
            Operation::Update => {
                // Old clients drop the fields that they do not know.
                let old = request.old::<Pod>().and_then(|pod| pod.spec.as_ref()).map(|s| (s.priority, s.preemption_policy.clone()));
                let new = request.get_mut::<Pod>().and_then(|pod| pod.spec.as_mut());
                if let (Some((priority, policy)), Some(new)) = (old, new) {
                    new.priority = new.priority.or(priority);
                    if new.preemption_policy.is_none() {
                        new.preemption_policy = policy;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if !matches!(request.operation, Operation::Create | Operation::Update) || !request.is("scheduling.k8s.io", "priorityclasses") {
            return Ok(());
        }
        let Some(class) = request.get::<PriorityClass>().filter(|class| class.global_default == Some(true)) else { return Ok(()) };
        let classes = self.objects.list::<PriorityClass>(None);
        let other = default_class(&classes).and_then(|class| class.metadata.name.clone()).unwrap_or_default();
        if other.is_empty() || (request.operation == Operation::Update && class.metadata.name.as_deref() == Some(&other)) {
            return Ok(());
        }
        Err(forbid(request, format!("PriorityClass {other} is already marked as default. Only one default can exist")))
    }
}

/// Makes the system's classes; what users changed in them stays.
pub async fn bootstrap(client: &kube::Client, objects: &Objects) -> Result<(), AdmissionError> {
    for (name, value, description) in SYSTEM {
        if objects.get::<PriorityClass>(None, name).is_some() {
            continue;
        }
        let class = PriorityClass {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            value: Some(value),
            description: Some(description.into()),
            preemption_policy: Some(LOWER_PRIORITY.into()),
            global_default: None,
        };
        match Api::<PriorityClass>::all(client.clone()).create(&PostParams::default(), &class).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            done => drop(done.map_err(|e| AdmissionError(format!("priority class {name} cannot be made: {e}")))?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_default_counts() {
        let class = |name: &str, value, default| {
            Arc::new(PriorityClass {
                metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
                value: Some(value),
                global_default: Some(default),
                ..PriorityClass::default()
            })
        };
        let classes = [class("a", 5, true), class("b", 3, true), class("c", 1, false)];
        assert_eq!(default_class(&classes).unwrap().metadata.name.as_deref(), Some("b"));
        assert!(default_class(&classes[2..]).is_none());
    }
}
