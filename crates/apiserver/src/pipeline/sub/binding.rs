//! `pods/NAME/binding`: gives a pod its node (upstream: BindingREST in registry/core/pod/storage).

use api::StatusError;
use api::core::v1::{Binding, Pod, PodCondition};
use bytes::Bytes;
use http::Response;
use kinds::Object;

use super::super::body;
use super::super::call::Call;
use super::super::update::{Current, conflict, update_with};
use super::super::write::{self, Ownership};
use crate::admission::Operation;
use crate::transport::body::Body;

pub async fn create(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let mut binding: Binding = body::typed(call, bytes, "v1", "Binding")?;
    check(call, &binding)?;
    let (name, dry_run) = (call.name().to_owned(), call.is_dry_run()?);
    {
        let mut request = write::admission(call, Operation::Create, &name, dry_run, None, None);
        request.body = Some(&mut binding);
        call.core.admission.mutate(&mut request).await?;
        call.core.admission.validate(&mut request).await?;
    }
    let ownership = Ownership::Update(call.field_manager());
    update_with(call, &mut |call, current| bound(call, current, &binding), ownership).await?;
    super::success(call, 201)
}

fn check(call: &Call, binding: &Binding) -> Result<(), StatusError> {
    let mut errors = api::FieldErrors::default();
    let target = api::Path::new("target");
    if binding.target.kind.as_deref().is_some_and(|k| !k.is_empty() && k != "Node") {
        errors.not_supported(&target.child("kind"), binding.target.kind.as_deref().unwrap_or_default(), &["Node", "<empty>"]);
    }
    if binding.target.name.as_deref().unwrap_or_default().is_empty() {
        errors.required(&target.child("name"), "");
    }
    if !errors.is_empty() {
        return Err(StatusError::invalid("", "Binding", call.name(), &errors));
    }
    let name = binding.metadata.name.as_deref().unwrap_or_default();
    if name != call.name() {
        return Err(StatusError::bad_request(format!("name in URL does not match name in Binding object: {} != {name}", call.name())));
    }
    Ok(())
}

fn bound(call: &mut Call, current: &Current, binding: &Binding) -> Result<Box<dyn Object>, StatusError> {
    let mut pod = current.object.get::<Pod>().cloned().ok_or_else(|| StatusError::internal("a binding is for pods"))?;
    let name = call.name();
    let refuse = |cause: String| Err(conflict(call, name, &cause));
    if binding.metadata.uid.as_ref().is_some_and(|uid| !uid.is_empty() && Some(uid) != pod.metadata.uid.as_ref()) {
        return refuse(format!(
            "Precondition failed: UID in precondition: {:?}, UID in object meta: {:?}",
            binding.metadata.uid, pod.metadata.uid
        ));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()) {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    spec.node_name.clone_from(&binding.target.name);
    if let Some(annotations) = &binding.metadata.annotations {
        pod.metadata.annotations.get_or_insert_default().extend(annotations.clone());
    }
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let scheduled = PodCondition {
        type_: "PodScheduled".into(),
        status: "True".into(),
        last_transition_time: Some(write::now()),
        ..PodCondition::default()
    };
    match conditions.iter_mut().find(|c| c.type_ == scheduled.type_) {
        Some(found) if found.status == "True" => {}
        Some(found) => *found = scheduled,
        None => conditions.push(scheduled),
    }
    pod.metadata.resource_version = None;
    Ok(Box::new(pod))
}
