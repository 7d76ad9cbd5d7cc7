//! Where kinds keep the spec of their pods. Must not judge it.

use api::Path;
use api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use api::batch::v1::{CronJob, Job};
use api::core::v1::{Pod, PodSpec, PodTemplate, ReplicationController};
use kinds::Object;

/// The spec of a pod, or of the pods that a workload makes, with its path.
pub fn pod_spec(object: &dyn Object) -> Option<(Path, &PodSpec)> {
    let below = |steps: &[&str]| steps.iter().fold(Path::new("spec"), |path, step| path.child(step));
    macro_rules! of {
        ($($kind:ty),*) => { $(
            if let Some(object) = object.get::<$kind>() {
                return Some((below(&["template", "spec"]), object.spec.as_ref()?.template.spec.as_ref()?));
            }
        )* };
    }
    if let Some(pod) = object.get::<Pod>() {
        return Some((below(&[]), pod.spec.as_ref()?));
    }
    of!(Deployment, DaemonSet, StatefulSet, Job);
    if let Some(object) = object.get::<ReplicaSet>() {
        return Some((below(&["template", "spec"]), object.spec.as_ref()?.template.as_ref()?.spec.as_ref()?));
    }
    if let Some(object) = object.get::<ReplicationController>() {
        return Some((below(&["template", "spec"]), object.spec.as_ref()?.template.as_ref()?.spec.as_ref()?));
    }
    if let Some(object) = object.get::<CronJob>() {
        let template = &object.spec.job_template.spec.as_ref()?.template;
        return Some((below(&["jobTemplate", "spec", "template", "spec"]), template.spec.as_ref()?));
    }
    Some((Path::new("template").child("spec"), object.get::<PodTemplate>()?.template.as_ref()?.spec.as_ref()?))
}
